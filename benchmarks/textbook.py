"""Our textbook recipe against the plain script: time of an epoch, peak memory, start of --help.

    python benchmarks/textbook.py [--epochs 10]

Both train the same network in float32 on the same 60,000 images with the test set as validation
data. Two processes take turns, an epoch each, so that both meet the same weather on a shared
machine; the ratio is the median over pairs of epochs (the first, with the tracing, is told apart).
"""

import argparse
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from plain_keras import clock

HERE = Path(__file__).parent
QUIET = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}


def ours(epochs: int) -> None:
    """Train recipe `textbook`; an epoch begins when a line comes on standard input."""
    from fashion_cnn import RECIPES, load_data, train

    recipe = dataclasses.replace(RECIPES["textbook"], epochs=epochs, validation="test")
    trained = train(recipe, load_data(), callbacks=[clock(wait=True)])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    accuracy = trained.history[-1]["val_accuracy"]
    print(json.dumps({"test_accuracy": accuracy, "peak_megabytes": peak}), flush=True)


def start(*words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=QUIET,
    )


def take_turns(epochs: int) -> dict[str, dict]:
    """Epochs of both in turn; who goes first changes from pair to pair."""
    processes = {
        "plain": start(str(HERE / "plain_keras.py"), "--epochs", str(epochs), "--wait"),
        "ours": start(__file__, "--ours", "--epochs", str(epochs)),
    }
    found = {name: {"seconds": []} for name in processes}
    for pair in range(epochs):
        for name in list(processes)[:: 1 if pair % 2 else -1]:
            process = processes[name]
            process.stdin.write("go\n")
            process.stdin.flush()
            found[name]["seconds"].append(json.loads(process.stdout.readline())["seconds"])
        print(*(f"{name} {found[name]['seconds'][-1]:.2f} s" for name in found), flush=True)
    for name, process in processes.items():
        found[name] |= json.loads(process.stdout.readline())
        process.wait()
    return found


def help_seconds(times: int = 11) -> float:
    """Median seconds from the shell to the end of `fashion-cnn --help`."""
    command = [str(Path(sys.executable).parent / "fashion-cnn"), "--help"]
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10, choices=range(2, 101), metavar="N")
    parser.add_argument("--ours", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours:
        ours(arguments.epochs)
        return
    found = take_turns(arguments.epochs)
    plain, mine = found["plain"], found["ours"]
    pairs = zip(mine["seconds"], plain["seconds"], strict=True)
    ratios = [mine_seconds / plain_seconds for mine_seconds, plain_seconds in pairs]
    for name, row in found.items():
        print(
            f"{name:<6} first epoch {row['seconds'][0]:.2f} s, median of the rest "
            f"{statistics.median(row['seconds'][1:]):.2f} s, all {sum(row['seconds']):.1f} s, "
            f"peak {row['peak_megabytes']:.0f} MB, test accuracy {row['test_accuracy']:.2%}"
        )
    quartiles = statistics.quantiles(ratios[1:], n=4) if len(ratios) > 3 else ratios
    spread = f"quartiles {quartiles[0]:.3f} to {quartiles[-1]:.3f}"
    print(f"epoch ratio   {statistics.median(ratios[1:]):.3f} ({spread}), wanted <= 0.6")
    memory = mine["peak_megabytes"] / plain["peak_megabytes"]
    print(f"memory ratio  {memory:.3f}, wanted <= 0.6")
    print(f"--help        {help_seconds():.3f} s, wanted < 0.3")


if __name__ == "__main__":
    main()
