"""Claim: today's recipes beat those of the first round in at most their time (`TARGETS`).

    python benchmarks/frontier.py [--seeds 10] [--recipes sprint,quick] [--plain] [--minutes M]

For each seed, every recipe is trained as it was (`_before.py`) and as it is, one after the other
and each in its own process, so that both meet the same load on the machine; with `--plain` also the
textbook's script in plain Keras. Seeds begin at 10: no setting was chosen with them. A finished run
is a row of `frontier.csv` under the name of its processor; finished rows are skipped, and
interrupted long recipes are resumed. The time includes building, compiling and validation, but not
imports, loading the data and the test; of the long recipes it is that of all epochs. The plain
script trains on all 60,000 images and validates on the test set, as the textbook does. Prints the
tables of docs/results.md and of the README (the time for one picture is that of
benchmarks/inference.py), and writes `docs/images/frontier.png` and the figures that `fashion-cnn
recipes` shows.
Machine: 2 CPU cores. Duration: 2 minutes a seed of `sprint` and `quick`, 4 of `standard`, 4 of
`textbook` with `--plain`, 40 of `thorough`, 2 hours of `marathon`.
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
from collections.abc import Iterable
from pathlib import Path

import _results as results
import inference
from _before import BEFORE

HERE = Path(__file__).parent
ROWS = HERE / "frontier.csv"
MEASURED = HERE.parent / "src" / "fashion_cnn" / "measured.json"
PLOT = HERE.parent / "docs" / "images" / "frontier.png"
PLAIN, WAS = "plain Keras", ", before"
FIRST_SEED = 10
# recipe -> (least test accuracy, least number of seeds)
TARGETS = {
    "sprint": (0.926, 10),
    "quick": (0.936, 7),
    "standard": (0.947, 3),
    "thorough": (0.955, 3),
    "marathon": (0.959, 2),
}
MARKERS = "os^Dv"  # of the processors in the plot
LONG = ("thorough", "marathon")  # these have a run folder, so that they can be resumed
RUNS = HERE.parent / "runs" / "frontier"


def train_and_test(name: str, seed: int) -> dict[str, float]:
    """Train a recipe in this process and measure it once on the test images."""
    from fashion_cnn import RECIPES, evaluate, load_data, train
    from fashion_cnn.run import Run

    data = load_data()
    was = name.endswith(WAS)
    recipe = BEFORE[name.removesuffix(WAS)] if was else RECIPES[name]
    recipe = dataclasses.replace(recipe, seed=seed)
    start = time.perf_counter()
    if name.removesuffix(WAS) in LONG:
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


def measure(recipes: list[str], seeds: int, plain: bool, minutes: float) -> None:
    """Run what has no row on this processor yet, until the time is over."""
    end = time.monotonic() + 60 * minutes
    machine = results.machine_columns()
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        names = [PLAIN] if plain else []
        for recipe in recipes:
            pair = [recipe + WAS, recipe] if recipe in BEFORE else [recipe]
            names += pair[:: 1 if seed % 2 else -1]
        for name in names:
            key = {"recipe": name, "seed": seed, "processor": machine["processor"]}
            if results.is_finished(ROWS, **key):
                continue
            if time.monotonic() > end:
                print("out of time; run the same command again to continue", file=sys.stderr)
                return
            row = {"recipe": name, "seed": seed, **run_process(name, seed)}
            plain_rows = results.select(results.read_rows(ROWS), **{**key, "recipe": PLAIN})
            row["plain_keras_seconds"] = plain_rows[0]["seconds"] if plain_rows else ""
            results.append_row(ROWS, row | machine)
            shutil.rmtree(RUNS / f"{name}-{seed}", ignore_errors=True)


def processors(rows: list[results.Row]) -> list[str]:
    """Return the processors of the rows, that of the newest row first."""
    return list(dict.fromkeys(row["processor"] for row in reversed(rows)))


def best_measured(rows: list[results.Row], recipe: str) -> list[results.Row]:
    """Return the rows of a recipe on the processor that has most of them."""
    runs = results.select(rows, recipe=recipe)
    groups = [results.select(runs, processor=processor) for processor in processors(runs)]
    return max(groups, key=len, default=[])


def used_processors(rows: list[results.Row], recipes: Iterable[str]) -> list[str]:
    """Return the processors of `best_measured` rows, sorted."""
    return sorted({best_measured(rows, recipe)[0]["processor"] for recipe in recipes})


def relative_to_plain(runs: list[results.Row]) -> list[float]:
    """Return the seconds of runs divided by those of plain Keras beside them, where it ran."""
    beside = [row for row in runs if row["plain_keras_seconds"]]
    return [float(row["seconds"]) / float(row["plain_keras_seconds"]) for row in beside]


def summarize(rows: list[results.Row]) -> dict[str, dict[str, float]]:
    """Return recipe -> n, and mean and standard deviation of accuracy (%) and seconds.

    A recipe that was trained with fewer seeds than `TARGETS` names is left out.
    """
    from fashion_cnn import RECIPES

    summary = {}
    for name in (PLAIN, *RECIPES):
        runs = best_measured(rows, name)
        if len(runs) < TARGETS.get(name, (0, 1))[1]:
            continue
        summary[name] = {"n": len(runs)}
        for column, scale in (("test_accuracy", 100), ("seconds", 1)):
            values = results.numbers(runs, column, scale)
            sd = statistics.stdev(values) if len(values) > 1 else float("nan")
            summary[name] |= {column: round(statistics.mean(values), 6), f"{column}_sd": sd}
    return summary


def tables(rows: list[results.Row]) -> list[str]:
    """Return the tables of docs/results.md: for each processor, the recipes as they are and were.

    Each table follows the processor's name.
    """
    from fashion_cnn import RECIPES

    texts = []
    for processor in processors(rows):
        here, lines = results.select(rows, processor=processor), []
        for name in (PLAIN, *RECIPES):
            for label in (name, name + WAS):
                if runs := results.select(here, recipe=label):
                    lines.append(_line(here, runs, label, name))
        header = ["recipe", "test accuracy, %", "target", "seconds", "time relative to before"]
        header += ["to plain Keras", "n"]
        texts += [f"**{processor}**", results.markdown_table(header, lines)]
    return texts


def _line(rows: list[results.Row], runs: list[results.Row], label: str, name: str) -> list[object]:
    """Return the cells of a recipe, as it is or was, on one processor."""
    target = f"{100 * TARGETS[name][0]:.1f}" if label in TARGETS else ""
    cells: list[object] = [label, results.mean_sd(runs, "test_accuracy", 100), target]
    cells.append(results.median(runs, "seconds", 1))
    was = results.select(rows, recipe=label + WAS)
    earlier = results.ratios(runs, was, "seconds", by="seed")
    for times in (earlier, relative_to_plain(runs) if label != PLAIN else []):
        cells.append(results.median_quartiles(times) if times else "")
    return [*cells, len(runs)]


def readme_table() -> str:
    """Return the README's table: each recipe, its time for one picture, and its command."""
    rows, inference_rows = results.read_rows(ROWS), results.read_rows(inference.ROWS)
    header = ["recipe", "test accuracy, %", "time relative to plain Keras", "seconds"]
    lines = []
    for name, means in summarize(rows).items():
        runs = best_measured(rows, name)
        accuracy = results.mean_sd(runs, "test_accuracy", 100)
        ratio, command = "1", "python benchmarks/plain_keras.py"
        if name != PLAIN:
            times = relative_to_plain(runs)
            ratio = f"{statistics.median(times):.2f}" if times else ""
            command = f"fashion-cnn train {name}"
        one = results.median(results.select(inference_rows, model=name), "onnx_one_ms")
        seconds = f"{means['seconds']:,.0f}"
        lines.append([name, accuracy, ratio, seconds, one, means["n"], f"`{command}`"])
    return f"\n{results.markdown_table([*header, 'ms per picture', 'n', 'command'], lines)}\n"


def write_measured(summary: dict[str, dict[str, float]], rows: list[results.Row]) -> None:
    """Write the figures that `fashion-cnn recipes` shows."""
    figures = {
        name: {key: round(value, 4) for key, value in row.items() if not math.isnan(value)}
        for name, row in summary.items()
        if name != PLAIN
    }
    machine = f"2 cores of {' or '.join(used_processors(rows, figures))}"
    text = json.dumps({"machine": machine, "recipes": figures}, indent=2) + "\n"
    MEASURED.write_text(text, encoding="utf-8")


def plot(rows: list[results.Row], summary: dict[str, dict[str, float]]) -> None:
    """Plot accuracy against time: a dot for each run, error bars for each recipe.

    Each processor has its own marker, since their times cannot be compared.
    """
    import matplotlib
    from matplotlib.figure import Figure

    from fashion_cnn.report.plots import BLUE, ORANGE, STYLE

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 4.8), layout="constrained")
        axis = figure.subplots()
        markers = dict(zip(used_processors(rows, summary), MARKERS, strict=False))
        for processor, marker in markers.items():
            axis.plot([], [], marker, color=BLUE, label=processor)  # for the legend
        for name, row in summary.items():
            color = ORANGE if name == PLAIN else BLUE
            runs = best_measured(rows, name)
            marker = markers[runs[0]["processor"]]
            accuracies = results.numbers(runs, "test_accuracy", 100)
            dots = {"s": 14, "alpha": 0.35, "linewidths": 0, "marker": marker}
            axis.scatter(results.numbers(runs, "seconds"), accuracies, color=color, **dots)
            mean = row["seconds"], row["test_accuracy"]
            spread = {"xerr": row["seconds_sd"], "yerr": row["test_accuracy_sd"]}
            axis.errorbar(*mean, **spread, fmt=marker, color=color, capsize=3)
            is_left = name in ("textbook", "thorough")  # another one is to the right of it
            offset, alignment = ((-8, -14), "right") if is_left else ((8, -14), "left")
            position = {"textcoords": "offset points", "xytext": offset, "ha": alignment}
            axis.annotate(name, mean, weight="bold", color=color, **position)
        axis.set_xscale("log")
        seconds = results.numbers(rows, "seconds")
        axis.set_xlim(min(seconds) / 1.5, max(seconds) * 3)
        axis.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        axis.set_xlabel("Seconds of training on 2 cores")
        axis.set_ylabel("Test accuracy, %")
        axis.set_title("Accuracy against time")
        axis.legend(loc="lower right", fontsize="small")
        PLOT.parent.mkdir(exist_ok=True)
        figure.savefig(PLOT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--recipes", default="sprint,quick,standard", help="joined by commas")
    parser.add_argument("--plain", action="store_true", help="also train the script in plain Keras")
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no run after them")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    from fashion_cnn import RECIPES

    if arguments.one:
        print(json.dumps(train_and_test(arguments.one, arguments.seed)))
        return
    recipes = [name for name in arguments.recipes.split(",") if name]
    for name in recipes:
        if name not in RECIPES:
            parser.error(f"--recipes: got {name!r}; expected {', '.join(RECIPES)}")
    measure(recipes, arguments.seeds, arguments.plain, arguments.minutes)
    rows = results.read_rows(ROWS)
    summary = summarize(rows)
    write_measured(summary, rows)
    plot(rows, summary)
    print(*tables(rows), readme_table(), sep="\n\n")


if __name__ == "__main__":
    main()
