"""Claim: recipes reach the textbook's accuracy in a tenth of plain Keras's time, or far exceed it.

    python benchmarks/frontier.py [--seeds 5] [--recipes textbook,sprint,quick,standard,thorough]

For each seed the plain Keras script and the recipes run one after the other, each in its own
process, so that all of them meet the same load on the machine. A finished run is a row of
`frontier.csv`; finished rows are skipped, and interrupted long recipes are resumed. The time
includes building, compiling and validation, but not imports, loading the data and the test; of the
long recipes it is that of all epochs. The plain script trains on all 60,000 images and validates on
the test set, as the textbook does. Prints the tables of docs/results.md and of the README (the time
for one picture is that of benchmarks/inference.py), and writes `docs/images/frontier.png` and the
figures that `fashion-cnn recipes` shows.
Seeds: 5; `thorough` 3, `marathon` 2. Machine: 2 CPU cores. Duration: 70 minutes; `marathon`, only
if it is named, 2 hours more.
"""

import argparse
import dataclasses
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import _results as results
import inference

HERE = Path(__file__).parent
ROWS = HERE / "frontier.csv"
MEASURED = HERE.parent / "src" / "fashion_cnn" / "measured.json"
PLOT = HERE.parent / "docs" / "images" / "frontier.png"
PLAIN = "plain Keras"
# recipe -> (least test accuracy, greatest time relative to plain Keras, least number of seeds)
TARGETS = {
    "sprint": (0.912, 0.10, 5),
    "quick": (0.928, 0.25, 5),
    "standard": (0.940, 1.0, 5),
    "thorough": (0.950, 12.0, 3),
    "marathon": (0.953, None, 2),
}
LONG = ("thorough", "marathon")  # these have a run folder, so that they can be resumed
RUNS = HERE.parent / "runs" / "frontier"


def train_and_test(name: str, seed: int) -> dict[str, float]:
    """Train a recipe in this process and measure it once on the test images."""
    from fashion_cnn import RECIPES, evaluate, load_data, train
    from fashion_cnn.run import Run

    data = load_data()
    recipe = dataclasses.replace(RECIPES[name], seed=seed)
    start = time.perf_counter()
    if name in LONG:
        run = Run(RUNS / f"{name}-{seed}")
        if not run.is_started:
            shutil.rmtree(run, ignore_errors=True)
        trained = train(recipe, data, run, resume=run.is_started)
        seconds = trained.seconds
    else:
        trained = train(recipe, data)
        seconds = time.perf_counter() - start
    accuracy = evaluate(trained.model, data.test_images, data.test_labels)["accuracy"]
    return {"test_accuracy": accuracy, "seconds": seconds}


def run_process(name: str, seed: int) -> dict[str, float]:
    """Train a recipe, or the plain script, in a child process."""
    arguments = [str(HERE / "plain_keras.py")]
    if name != PLAIN:
        arguments = [__file__, "--one", name, "--seed", str(seed)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    call = [sys.executable, *arguments]
    done = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    result = json.loads(done.stdout.splitlines()[-1])
    return {
        "test_accuracy": round(result["test_accuracy"], 4),
        "seconds": round(result["seconds"], 2),
    }


def measure(recipes: list[str], seeds: int) -> None:
    """Run what has no row yet. The plain script is the first of each seed."""
    machine = results.machine_columns()
    for seed in range(seeds):
        missing = [
            name
            for name in recipes
            if not results.is_finished(ROWS, recipe=name, seed=seed)
            and (name not in LONG or seed < TARGETS[name][2])  # long recipes: no more seeds
        ]
        if not missing:
            continue
        plain = run_process(PLAIN, seed)
        if not results.is_finished(ROWS, recipe=PLAIN, seed=seed):
            missing = [PLAIN, *missing]
        for name in missing:
            result = plain if name == PLAIN else run_process(name, seed)
            ratio = round(result["seconds"] / plain["seconds"], 4)
            times = {"plain_keras_seconds": plain["seconds"], "ratio": ratio}
            results.append_row(ROWS, {"recipe": name, "seed": seed, **result, **times, **machine})
            shutil.rmtree(RUNS / f"{name}-{seed}", ignore_errors=True)


def summarize(rows: list[results.Row]) -> dict[str, dict[str, float]]:
    """Return recipe -> n, and mean and standard deviation of accuracy (%), seconds and ratio."""
    from fashion_cnn import RECIPES

    summary = {}
    for name in (PLAIN, *RECIPES):
        runs = results.select(rows, recipe=name)
        if not runs:
            continue
        summary[name] = {"n": len(runs)}
        for column, scale in (("test_accuracy", 100), ("seconds", 1), ("ratio", 1)):
            values = results.numbers(runs, column, scale)
            sd = statistics.stdev(values) if len(values) > 1 else float("nan")
            summary[name] |= {column: round(statistics.mean(values), 6), f"{column}_sd": sd}
    return summary


def table(rows: list[results.Row]) -> str:
    """Return the table of docs/results.md: each recipe next to its targets."""
    header = ["recipe", "test accuracy, %", "target", "time relative to plain Keras", "target"]
    lines = []
    for name, means in summarize(rows).items():
        runs = results.select(rows, recipe=name)
        least_accuracy, most_time, _ = TARGETS.get(name, (None, None, 0))
        accuracy = results.mean_sd(runs, "test_accuracy", 100)
        targets = f"{100 * least_accuracy:.1f}" if least_accuracy else "", most_time or ""
        ratio = results.mean_sd(runs, "ratio", decimals=3) if name != PLAIN else "1"
        seconds = f"{means['seconds']:.1f}"
        lines.append([name, accuracy, targets[0], ratio, targets[1], seconds, len(runs)])
    return results.markdown_table([*header, "seconds", "n"], lines)


def readme_table() -> str:
    """Return the README's table: each recipe, its time for one picture, and its command."""
    rows, inference_rows = results.read_rows(ROWS), results.read_rows(inference.ROWS)
    header = ["recipe", "test accuracy, %", "time relative to plain Keras", "seconds"]
    lines = []
    for name, means in summarize(rows).items():
        runs = results.select(rows, recipe=name)
        accuracy = results.mean_sd(runs, "test_accuracy", 100)
        ratio, command = "1", "python benchmarks/plain_keras.py"
        if name != PLAIN:
            ratio, command = results.mean_sd(runs, "ratio"), f"fashion-cnn train {name}"
        one = results.median(results.select(inference_rows, model=name), "onnx_one_ms")
        seconds = f"{means['seconds']:,.0f}"
        lines.append([name, accuracy, ratio, seconds, one, len(runs), f"`{command}`"])
    return f"\n{results.markdown_table([*header, 'ms per picture', 'n', 'command'], lines)}\n"


def write_measured(summary: dict[str, dict[str, float]], rows: list[results.Row]) -> None:
    """Write the figures that `fashion-cnn recipes` shows."""
    figures = {
        name: {key: round(value, 4) for key, value in row.items() if not math.isnan(value)}
        for name, row in summary.items()
        if name != PLAIN
    }
    machine = results.describe_machine(rows[-1])
    text = json.dumps({"machine": machine, "recipes": figures}, indent=2) + "\n"
    MEASURED.write_text(text, encoding="utf-8")


def plot(rows: list[results.Row], summary: dict[str, dict[str, float]]) -> None:
    """Plot accuracy against time: a dot for each run, error bars for each recipe."""
    import matplotlib
    from matplotlib.figure import Figure

    from fashion_cnn.report.plots import BLUE, ORANGE, STYLE

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 4.8), layout="constrained")
        axis = figure.subplots()
        for name, row in summary.items():
            color = ORANGE if name == PLAIN else BLUE
            runs = results.select(rows, recipe=name)
            accuracies = results.numbers(runs, "test_accuracy", 100)
            dots = {"s": 14, "alpha": 0.35, "linewidths": 0}
            axis.scatter(results.numbers(runs, "seconds"), accuracies, color=color, **dots)
            mean = row["seconds"], row["test_accuracy"]
            spread = {"xerr": row["seconds_sd"], "yerr": row["test_accuracy_sd"]}
            axis.errorbar(*mean, **spread, fmt="o", color=color, capsize=3)
            is_left = name == "textbook"  # plain Keras is to the right of it
            offset, alignment = ((-8, -14), "right") if is_left else ((8, -14), "left")
            position = {"textcoords": "offset points", "xytext": offset, "ha": alignment}
            axis.annotate(name, mean, weight="bold", color=color, **position)
        axis.set_xscale("log")
        seconds = results.numbers(rows, "seconds")
        axis.set_xlim(min(seconds) / 1.5, max(seconds) * 2.5)
        axis.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        axis.set_xlabel(f"Seconds of training on {rows[-1]['cores']} cores")
        axis.set_ylabel("Test accuracy, %")
        axis.set_title("Accuracy against time")
        PLOT.parent.mkdir(exist_ok=True)
        figure.savefig(PLOT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--recipes", default="textbook,sprint,quick,standard,thorough")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    from fashion_cnn import RECIPES

    if arguments.one:
        print(json.dumps(train_and_test(arguments.one, arguments.seed)))
        return
    recipes = arguments.recipes.split(",")
    for name in recipes:
        if name not in RECIPES:
            parser.error(f"--recipes: got {name!r}; expected {', '.join(RECIPES)}")
    measure(recipes, arguments.seeds)
    rows = results.read_rows(ROWS)
    summary = summarize(rows)
    write_measured(summary, rows)
    plot(rows, summary)
    print(table(rows), readme_table(), sep="\n")


if __name__ == "__main__":
    main()
