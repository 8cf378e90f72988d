"""Claim: recipe `textbook` needs at most 0.6 of the time and memory of the same in plain Keras.

    python benchmarks/textbook.py [--epochs 10]

Both train the same network in float32 on the same 60,000 images with the test set as validation
data. Two processes take turns, one epoch each, so that other load on the machine affects both. The
ratio is the median over pairs of epochs without the first, which includes compilation. Also
measures the start of `fashion-cnn --help` (target: under 0.3 s).
Seeds: one run of each. Machine: 2 CPU cores. Duration: 4 minutes.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from _results import median_seconds
from plain_keras import epoch_timer, peak_mib

PLAIN_SCRIPT = str(Path(__file__).with_name("plain_keras.py"))
HELP = [str(Path(sys.executable).parent / "fashion-cnn"), "--help"]


def train_recipe(epochs: int) -> None:
    """Train recipe `textbook`; an epoch starts when a line arrives on standard input."""
    from fashion_cnn import RECIPES, load_data, train

    recipe = dataclasses.replace(RECIPES["textbook"], epochs=epochs, validation="test")
    trained = train(recipe, load_data(), callbacks=[epoch_timer(wait=True)])
    accuracy = trained.history[-1]["val_accuracy"]
    print(json.dumps({"test_accuracy": accuracy, "peak_mib": peak_mib()}), flush=True)


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
    results = {name: {"epoch_seconds": []} for name in processes}
    for pair in range(epochs):
        for name in list(processes)[:: 1 if pair % 2 else -1]:
            process = processes[name]
            process.stdin.write("start\n")
            process.stdin.flush()
            seconds = json.loads(process.stdout.readline())["seconds"]
            results[name]["epoch_seconds"].append(seconds)
        print(
            *(f"{name} {x['epoch_seconds'][-1]:.2f} s" for name, x in results.items()), flush=True
        )
    for name, process in processes.items():
        results[name] |= json.loads(process.stdout.readline())
        process.wait()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10, choices=range(2, 101), metavar="N")
    parser.add_argument("--train-recipe", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train_recipe:
        train_recipe(arguments.epochs)
        return
    results = take_turns(arguments.epochs)
    for name, result in results.items():
        seconds = result["epoch_seconds"]
        print(
            f"{name:<6} first epoch {seconds[0]:.2f} s, median of the others "
            f"{statistics.median(seconds[1:]):.2f} s, total {sum(seconds):.1f} s, "
            f"peak {result['peak_mib']:.0f} MB, test accuracy {result['test_accuracy']:.2%}"
        )
    plain, recipe = results["plain"], results["recipe"]
    pairs = list(zip(recipe["epoch_seconds"], plain["epoch_seconds"], strict=True))[1:]
    ratios = [ours / baseline for ours, baseline in pairs]
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 2 else ratios
    spread = f"quartiles {quartiles[0]:.3f} to {quartiles[-1]:.3f}"
    print(f"epoch ratio   {statistics.median(ratios):.3f} ({spread}), target <= 0.6")
    print(f"memory ratio  {recipe['peak_mib'] / plain['peak_mib']:.3f}, target <= 0.6")

    def show_help() -> None:
        subprocess.run(HELP, check=True, stdout=subprocess.DEVNULL)

    print(f"--help        {median_seconds(show_help, 11):.3f} s, target < 0.3")


if __name__ == "__main__":
    main()
