"""Claim: transfer learning wins by far on a few thousand photos, and loses on Fashion-MNIST.

    python benchmarks/transfer.py --weights mobilenet_v1_imagenet.weights.h5 [--photos DIR]

Trains the head of `mobilenet` on Fashion-MNIST, enlarged to 96 pixels. On the photos it trains the
head only (`mobilenet --epochs 30`), the whole recipe, and `standard`, which starts from scratch. A
finished run is a row of `transfer.csv`; finished rows are skipped. Each run is a process of its own
with an empty cache, so that its seconds and its memory include computing the features. Prints the
table of docs/results.md. DIR has class folders, of the public "clothing dataset (subset)", CC0 1.0.
Seeds: 3. Machine: 2 CPU cores. Duration: 70 minutes.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

import _results as results

ROWS = Path(__file__).with_suffix(".csv")
PROGRAM = str(Path(sys.executable).with_name("fashion-cnn"))
HEAD_ONLY = ["mobilenet", "--epochs", "30"]
TRAININGS = {  # (data, recipe) -> arguments of `train`
    ("Fashion-MNIST", "mobilenet, head only"): HEAD_ONLY,
    ("photos", "standard, from scratch"): ["standard"],
    ("photos", "mobilenet, head only"): HEAD_ONLY,
    ("photos", "mobilenet"): ["mobilenet"],
}
ACCURACIES = ("validation_accuracy", "test_accuracy", "test_macro_f1")


def train_one(
    data: str, recipe: str, seed: int, weights: str, photos: Path | None
) -> dict[str, object]:
    """Train in a process with an empty cache and read its metrics."""
    arguments = [*TRAININGS[data, recipe], "--seed", str(seed), "--no-report"]
    arguments += ["--weights", weights] if arguments[0] == "mobilenet" else []
    arguments += ["--data", str(photos)] if data == "photos" else []
    with tempfile.TemporaryDirectory() as folder:
        run, environment = Path(folder) / "run", {**os.environ, "XDG_CACHE_HOME": folder}
        if data != "photos":  # do not download it again
            from fashion_cnn import load_data

            environment["FASHION_CNN_DATA"] = load_data().location
        call = [PROGRAM, "train", *arguments, "--run", str(run)]
        seconds, peak = results.run_command(call, environment)
        metrics = json.loads((run / "metrics.json").read_text())
    accuracies = {key: round(metrics[key], 5) for key in ACCURACIES}
    return {**accuracies, "seconds": round(seconds, 1), "peak_mb": peak // 2**20}


def table(rows: list[results.Row]) -> str:
    """Return the table of docs/results.md: mean ± sd over the seeds."""
    header = ["data", "recipe", "validation accuracy, %", "test accuracy, %", "macro F1, %"]
    lines = []
    for data, recipe in TRAININGS:
        runs = results.select(rows, data=data, recipe=recipe)
        if runs:
            cells = [results.mean_sd(runs, key, 100) for key in ACCURACIES]
            seconds = f"{statistics.mean(results.numbers(runs, 'seconds')):.0f}"
            memory = f"{max(results.numbers(runs, 'peak_mb')):,.0f}"
            lines.append([data, recipe, *cells, seconds, memory, len(runs)])
    return results.markdown_table([*header, "seconds", "peak memory, MB", "n"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="imagenet", help="imagenet, or a path")
    parser.add_argument("--photos", type=Path, help="class folders")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    keys = [
        {"data": data, "recipe": recipe, "seed": seed}
        for seed in range(arguments.seeds)
        for data, recipe in TRAININGS
        if data != "photos" or arguments.photos
    ]
    run = partial(train_one, weights=arguments.weights, photos=arguments.photos)
    print(table(results.run_missing(ROWS, keys, run)))


if __name__ == "__main__":
    main()
