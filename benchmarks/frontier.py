"""Accuracy against time: every recipe beside the textbook's script in plain Keras.

    python benchmarks/frontier.py [--seeds 5] [--recipes textbook,sprint,quick,standard,thorough]

For each seed the plain script and the recipes run in turns, each in a process of its own, so that
they meet the same weather. A finished run is a row in `frontier.csv`; finished rows are skipped, so
it can be stopped and started (the long recipes go on where they were). The time is that of the
whole training from the call on: building, tracing and compiling counted, and what is validated on
the way; imports, loading the data and the test are not. Of the long recipes it is that of all
epochs. S is the time of the plain script's `fit` in the same turn; as in the textbook it trains on
all 60,000 images and validates on the test set. Prints the README's tables, and writes
`docs/images/frontier.png` and what `fashion-cnn recipes` shows.
"""

import argparse
import dataclasses
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from _rows import finished_rows, keep

HERE = Path(__file__).parent
ROWS = HERE / "frontier.csv"
MEASURED = HERE.parent / "src" / "fashion_cnn" / "measured.json"
PICTURE = HERE.parent / "docs" / "images" / "frontier.png"
PLAIN = "plain Keras"
# recipe -> (test accuracy at least, time at most in S, seeds at least)
TARGETS = {
    "sprint": (0.912, 0.10, 5),
    "quick": (0.928, 0.25, 5),
    "standard": (0.940, 1.0, 5),
    "thorough": (0.950, 12.0, 3),
    "marathon": (0.953, None, 2),
}
LONG = ("thorough", "marathon")  # these can be broken off and go on
RUNS = HERE.parent / "runs" / "frontier"


def one_run(name: str, seed: int) -> dict[str, float]:
    """Train in this process and measure on the test images, once."""
    from fashion_cnn import RECIPES, evaluate, load_data
    from fashion_cnn.training.loop import train

    data = load_data()
    recipe = dataclasses.replace(RECIPES[name], seed=seed)
    began = time.perf_counter()
    if name in LONG:
        run = RUNS / f"{name}-{seed}"
        begun = (run / "recipe.json").exists()
        if not begun:
            shutil.rmtree(run, ignore_errors=True)
        trained = train(recipe, data, run, resume=begun)
        seconds = trained.seconds
    else:
        trained = train(recipe, data)
        seconds = time.perf_counter() - began
    accuracy = evaluate(trained.model, data.test_images, data.test_labels)["accuracy"]
    return {"test_accuracy": round(accuracy, 4), "seconds": round(seconds, 2)}


def in_a_process(name: str, seed: int) -> dict[str, float]:
    """A run of `name`, the plain script among them, as a child process."""
    words = [str(HERE / "plain_keras.py")]
    if name != PLAIN:
        words = [__file__, "--one", name, "--seed", str(seed)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    call = [sys.executable, *words]
    done = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found = json.loads(done.stdout.splitlines()[-1])
    seconds = round(found.get("fit_seconds", found.get("seconds")), 2)
    return {"test_accuracy": round(found["test_accuracy"], 4), "seconds": seconds}


def measure(recipes: list[str], seeds: int) -> None:
    """Run what has no row yet. Each round of a seed begins with the plain script."""
    from fashion_cnn.machine import environment

    about = environment("tensorflow")
    versions = f"Python {platform.python_version()}"
    for name in ("keras", "tensorflow-cpu", "tensorflow"):
        if name in about["versions"]:
            versions += f", {name} {about['versions'][name]}"
    machine = {"processor": about["processor"], "cores": about["cores"], "versions": versions}
    for seed in range(seeds):
        done = {row["recipe"] for row in finished_rows(ROWS) if row["seed"] == str(seed)}
        wanted = [name for name in recipes if name not in done and seed < most_seeds(name, seeds)]
        if not wanted:
            continue
        plain = in_a_process(PLAIN, seed)
        for name in ([] if PLAIN in done else [PLAIN]) + wanted:
            found = plain if name == PLAIN else in_a_process(name, seed)
            ratio = round(found["seconds"] / plain["seconds"], 4)
            times = {"plain_seconds": plain["seconds"], "ratio": ratio}
            keep(ROWS, {"recipe": name, "seed": seed, **found, **times, **machine})
            shutil.rmtree(RUNS / f"{name}-{seed}", ignore_errors=True)


def most_seeds(name: str, seeds: int) -> int:
    """Long recipes run no more often than they must."""
    return min(seeds, TARGETS[name][2]) if name in LONG else seeds


def summary(rows: list[dict[str, str]]) -> dict[str, dict[str, float]]:
    """recipe -> n, and mean and standard deviation of accuracy (%), seconds and ratio."""
    from fashion_cnn import RECIPES

    found = {}
    for name in (PLAIN, *RECIPES):
        mine = [row for row in rows if row["recipe"] == name]
        if not mine:
            continue
        found[name] = {"n": len(mine)}
        for column, scale in (("test_accuracy", 100), ("seconds", 1), ("ratio", 1)):
            values = [scale * float(row[column]) for row in mine]
            sd = statistics.stdev(values) if len(values) > 1 else float("nan")
            found[name] |= {column: round(statistics.mean(values), 6), f"{column}_sd": sd}
    return found


def table(found: dict[str, dict[str, float]]) -> str:
    """The README's table, each recipe beside what is wanted of it."""
    lines = [
        "| recipe | test accuracy, % | wanted | time, S | wanted | seconds | n |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in found.items():
        least, most, _ = TARGETS.get(name, (None, None, 0))
        time_ = f"{row['ratio']:.3f} ± {row['ratio_sd']:.3f}" if name != PLAIN else "1"
        lines.append(
            f"| {name} | {row['test_accuracy']:.2f} ± {row['test_accuracy_sd']:.2f} "
            f"| {f'{100 * least:.1f}' if least else ''} | {time_} | {most or ''} "
            f"| {row['seconds']:.1f} | {row['n']} |"
        )
    return "\n".join(lines)


def write_measured(found: dict[str, dict[str, float]], rows: list[dict[str, str]]) -> None:
    """Put the figures where `fashion-cnn recipes` finds them."""
    last = rows[-1]
    machine = f"{last['cores']} cores of {last['processor']}, {last['versions']}"
    figures = {
        name: {key: round(value, 4) for key, value in row.items() if not math.isnan(value)}
        for name, row in found.items()
        if name != PLAIN
    }
    text = json.dumps({"machine": machine, "recipes": figures}, indent=2) + "\n"
    MEASURED.write_text(text, encoding="utf-8")


def flops(model) -> int:
    """Floating-point operations of convolutions and dense layers for one image."""
    total = 0
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            pixels = math.prod(layer.output.shape[1:-1])
            total += 2 * math.prod(layer.kernel.shape) * pixels
    return total


def inference_table(recipes: list[str]) -> str:
    """Parameters, arithmetic and time of each recipe's network, untrained."""
    from fashion_cnn import RECIPES, build_model, load_data
    from fashion_cnn.models.forward import compile_forward
    from fashion_cnn.models.wrappers import flip_averaged

    images = load_data().test_images[..., None]
    lines = [
        "| recipe | parameters | MFLOP an image | ms for one image | images/s in bulk |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in recipes:
        recipe = RECIPES[name]
        network = build_model(recipe.model, options=recipe.options)
        arithmetic = flops(network) * (2 if recipe.flip_average else 1) / 1e6
        forward = compile_forward(flip_averaged(network) if recipe.flip_average else network)
        one = median_seconds(lambda: forward(images[:1]), 200)  # noqa: B023 (called at once)
        bulk = median_seconds(lambda: forward(images), 7)  # noqa: B023
        lines.append(
            f"| {name} | {network.count_params():,} | {arithmetic:.1f} | {1000 * one:.2f} "
            f"| {len(images) / bulk:,.0f} |"
        )
    return "\n".join(lines)


def median_seconds(call, times: int) -> float:
    call()  # traced
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def draw(rows: list[dict[str, str]], found: dict[str, dict[str, float]]) -> None:
    """Accuracy against time, a dot a run, a cross of error bars a recipe."""
    import matplotlib
    from matplotlib.figure import Figure

    from fashion_cnn.report.plots import BLUE, ORANGE, STYLE

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 4.8), layout="constrained")
        axis = figure.subplots()
        for name, row in found.items():
            colour = ORANGE if name == PLAIN else BLUE
            mine = [r for r in rows if r["recipe"] == name]
            seconds = [float(r["seconds"]) for r in mine]
            accuracy = [100 * float(r["test_accuracy"]) for r in mine]
            axis.scatter(seconds, accuracy, s=14, color=colour, alpha=0.35, linewidths=0)
            axis.errorbar(
                row["seconds"],
                row["test_accuracy"],
                xerr=row["seconds_sd"],
                yerr=row["test_accuracy_sd"],
                fmt="o",
                color=colour,
                capsize=3,
            )
            left = name == "textbook"  # to the right of it stands plain Keras
            at, to = ((-8, -14), "right") if left else ((8, -14), "left")
            place = {"textcoords": "offset points", "xytext": at, "ha": to, "color": colour}
            axis.annotate(name, (row["seconds"], row["test_accuracy"]), weight="bold", **place)
        axis.set_xscale("log")
        every = [float(r["seconds"]) for r in rows]
        axis.set_xlim(min(every) / 1.5, max(every) * 2.5)
        axis.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        axis.set_xlabel(f"Seconds of training on {rows[-1]['cores']} cores")
        axis.set_ylabel("Test accuracy, %")
        axis.set_title("Accuracy against time")
        PICTURE.parent.mkdir(exist_ok=True)
        figure.savefig(PICTURE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--recipes", default="textbook,sprint,quick,standard,thorough")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    from fashion_cnn import RECIPES

    if arguments.one:
        print(json.dumps(one_run(arguments.one, arguments.seed)))
        return
    recipes = arguments.recipes.split(",")
    for name in recipes:
        if name not in RECIPES:
            parser.error(f"--recipes: got {name!r}; expected {', '.join(RECIPES)}")
    measure(recipes, arguments.seeds)
    rows = finished_rows(ROWS)
    found = summary(rows)
    write_measured(found, rows)
    draw(rows, found)
    print(table(found), inference_table([name for name in found if name != PLAIN]), sep="\n\n")


if __name__ == "__main__":
    main()
