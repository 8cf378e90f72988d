"""Claim: a preset predicts an image in under a millisecond; the whole command takes half a second.

    python benchmarks/inference.py [--rounds 9] [--models standard textbook]

Compares the presets on ONNX Runtime with `keras.predict` of the same architectures (the weights do
not change the time), in turns: milliseconds for one image, images per second in batches. Also
measures a whole `fashion-cnn predict photo.jpg` on a generated 12-megapixel photo: seconds, and
peak memory. Seeds: none, weights do not matter. Machine: 2 CPU cores. Duration: 4 minutes.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from _results import run_command, time_call

IMAGES = 10_000  # in a batch measurement
ONNX_CALLS, KERAS_CALLS = 300, 20  # with one image, in a round


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--models", nargs="+", default=["standard", "textbook"])
    arguments = parser.parse_args()
    measure_command(arguments.rounds)
    print(f"\n{'':<34}{'one, ms':>9}{'p99, ms':>13}{'images/s':>16}")
    for name in arguments.models:
        compare_with_keras(name, arguments.rounds)


def measure_command(rounds: int) -> None:
    """Print the time and memory of the command, and the time of preparing a photo."""
    from PIL import Image, ImageDraw

    from fashion_cnn import Classifier

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shirt.jpg"
        photo = Image.effect_noise((4000, 3000), 12).convert("RGB")
        shirt = [(1200, 500), (2800, 500), (2600, 2600), (1400, 2600)]
        ImageDraw.Draw(photo).polygon(shirt, "navy")
        photo.save(path, quality=90)
        program = "from fashion_cnn.cli import main; main()"
        call = [sys.executable, "-c", program, "predict", str(path)]
        seconds, peaks = zip(*(run_command(call, os.environ) for _ in range(rounds)), strict=True)
        classifier = Classifier.load()
        full = [1e3 * time_call(lambda: classifier.prepare(path)) for _ in range(rounds)]
        pixels = np.asarray(photo.resize((256, 192)))
        small = [1e3 * time_call(lambda: classifier.prepare(pixels)) for _ in range(rounds)]
    memory = max(peaks) / 1e6
    print(f"fashion-cnn predict, 12 megapixels: {quartiles(seconds, 's')}; {memory:.0f} MB")
    print(f"reading and preparing this photo:   {quartiles(full, 'ms')}")
    print(f"preparing a photo of 256 pixels:    {quartiles(small, 'ms')}")


def compare_with_keras(name: str, rounds: int) -> None:
    """Predict one image and many by the preset and by Keras, in turns, and print both."""
    from fashion_cnn import RECIPES, Classifier, build_model
    from fashion_cnn.models.wrappers import flip_averaged

    recipe = RECIPES[name]
    network = build_model(recipe.model, (28, 28, 1), 10, recipe.options)
    network = flip_averaged(network) if recipe.flip_average else network
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 28, 28, 1), np.uint8)
    runtimes: dict[str, tuple[int, Callable[[np.ndarray], object]]] = {
        "ONNX Runtime": (ONNX_CALLS, Classifier.load(name).probabilities),
        "keras.predict": (KERAS_CALLS, lambda x: network.predict(x, verbose=0)),
        "keras.predict, batch 200": (
            KERAS_CALLS,
            lambda x: network.predict(x, batch_size=200, verbose=0),
        ),
    }
    single_ms: dict[str, list[float]] = {runtime: [] for runtime in runtimes}
    rates: dict[str, list[float]] = {runtime: [] for runtime in runtimes}
    for _, predict in runtimes.values():
        predict(images[:1])
        predict(images[:400])
    for _ in range(rounds):
        for runtime, (calls, predict) in runtimes.items():
            for _ in range(calls):
                single_ms[runtime].append(1e3 * time_call(lambda: predict(images[:1])))  # noqa: B023
            rates[runtime].append(IMAGES / time_call(lambda: predict(images)))  # noqa: B023
    for runtime in runtimes:
        median, p99 = statistics.median(single_ms[runtime]), np.quantile(single_ms[runtime], 0.99)
        rate = statistics.median(rates[runtime])
        print(f"{f'{name}, {runtime}':<34}{median:>9.2f}{p99:>13.2f}{rate:>16,.0f}")


def quartiles(values: Sequence[float], unit: str) -> str:
    low, median, high = statistics.quantiles(values, n=4)
    return f"{median:.3g} {unit} (quartiles {low:.3g} to {high:.3g})"


if __name__ == "__main__":
    main()
