"""Claim: recipe `textbook` needs at most 0.55 of the time and memory of the same in plain Keras.

    python benchmarks/textbook.py [--epochs 10] [--runs 1]

Both train the same network in float32 on the same 60,000 images with the test set as validation
data. Two processes take turns, one epoch each, so that other load on the machine affects both. The
ratio is the median over pairs of epochs without the first, which includes compilation. Also
measures the start of `fashion-cnn --help` (target: under 0.3 s). A run is a row of `textbook.csv`
under the name of its processor; finished rows are skipped.
Seeds: one run of each. Machine: 2 CPU cores. Duration: 4 minutes.
"""

import argparse
import dataclasses
import itertools
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import _results as results
from plain_keras import epoch_timer, peak_mb

ROWS = Path(__file__).with_suffix(".csv")
PLAIN_SCRIPT = str(Path(__file__).with_name("plain_keras.py"))
HELP = [str(Path(sys.executable).parent / "fashion-cnn"), "--help"]


def train_recipe(epochs: int) -> None:
    """Train recipe `textbook`; an epoch starts when a line arrives on standard input."""
    from fashion_cnn import RECIPES, load_data, train

    recipe = dataclasses.replace(RECIPES["textbook"], epochs=epochs, validation="test")
    trained = train(recipe, load_data(), callbacks=[epoch_timer(wait=True)])
    accuracy = trained.history[-1]["val_accuracy"]
    print(json.dumps({"test_accuracy": accuracy, "peak_mb": peak_mb()}), flush=True)


def start_process(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def take_turns(epochs: int) -> dict[str, dict]:
    """Train both in turns; which one goes first alternates from pair to pair."""
    processes = {
        "plain": start_process(PLAIN_SCRIPT, "--epochs", str(epochs), "--wait"),
        "recipe": start_process(__file__, "--train-recipe", "--epochs", str(epochs)),
    }
    trainings = {name: {"epoch_seconds": []} for name in processes}
    for pair in range(epochs):
        for name in list(processes)[:: 1 if pair % 2 else -1]:
            process = processes[name]
            process.stdin.write("start\n")
            process.stdin.flush()
            seconds = json.loads(process.stdout.readline())["seconds"]
            trainings[name]["epoch_seconds"].append(seconds)
        last = (f"{name} {x['epoch_seconds'][-1]:.2f} s" for name, x in trainings.items())
        print(*last, file=sys.stderr, flush=True)
    for name, process in processes.items():
        trainings[name] |= json.loads(process.stdout.readline())
        process.wait()
    return trainings


def measure_run(run: int, epochs: int, processor: str) -> dict[str, object]:
    """Train both once, and start `fashion-cnn --help`."""

    def show_help() -> None:
        subprocess.run(HELP, check=True, stdout=subprocess.DEVNULL)

    row: dict[str, object] = {}
    for name, training in take_turns(epochs).items():
        row[f"{name}_seconds"] = " ".join(f"{x:.2f}" for x in training["epoch_seconds"])
        row[f"{name}_peak_mb"] = round(training["peak_mb"])
        row[f"{name}_test_accuracy"] = round(training["test_accuracy"], 4)
    row["help_seconds"] = round(results.median_seconds(show_help, 11), 3)
    return row | results.machine_columns()


def epoch_seconds(row: results.Row, name: str) -> list[float]:
    """Return the seconds of each epoch without the first."""
    return [float(x) for x in row[f"{name}_seconds"].split()][1:]


def table(rows: list[results.Row]) -> str:
    """Return the table: time of an epoch and memory, also relative to plain Keras."""
    header = ["processor", "trained by", "seconds per epoch", "time relative to plain Keras"]
    header += ["peak memory, MB", "memory relative to plain Keras", "test accuracy, %"]
    header += ["pairs of epochs", "runs"]
    lines = []
    names = {"plain": "plain Keras", "recipe": "`fashion-cnn train textbook`"}
    processors = dict.fromkeys(row["processor"] for row in rows)
    for processor, (name, text) in itertools.product(processors, names.items()):
        runs = results.select(rows, processor=processor)
        seconds = [x for row in runs for x in epoch_seconds(row, name)]
        plain_seconds = [x for row in runs for x in epoch_seconds(row, "plain")]
        times = [x / plain for x, plain in zip(seconds, plain_seconds, strict=True)]
        peaks = results.numbers(runs, f"{name}_peak_mb")
        plain_peaks = results.numbers(runs, "plain_peak_mb")
        memory = [x / plain for x, plain in zip(peaks, plain_peaks, strict=True)]
        figures = [
            results.median_quartiles(seconds, 1),
            "1" if name == "plain" else results.median_quartiles(times),
            results.median(runs, f"{name}_peak_mb", 0),
            "1" if name == "plain" else f"{statistics.median(memory):.2f}",
            results.mean_sd(runs, f"{name}_test_accuracy", 100),
        ]
        lines.append([processor, text, *figures, len(seconds), len(runs)])
    return results.markdown_table(header, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10, choices=range(2, 101), metavar="N")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--rows", type=Path, default=ROWS, help="CSV file of the rows")
    parser.add_argument("--train-recipe", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train_recipe:
        train_recipe(arguments.epochs)
        return
    processor = results.machine_columns()["processor"]
    keys: list[dict[str, object]] = [
        {"run": run, "epochs": arguments.epochs, "processor": processor}
        for run in range(arguments.runs)
    ]
    rows = results.run_missing(arguments.rows, keys, measure_run)
    print(table(rows))
    print("Targets: time and memory at most 0.55 of plain Keras's.")
    print(f"fashion-cnn --help: {results.median(rows, 'help_seconds', 3)} s. Target: under 0.3 s.")


if __name__ == "__main__":
    main()
