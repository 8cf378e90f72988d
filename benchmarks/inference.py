"""What an answer costs: python benchmarks/inference.py [--rounds 9] [--models standard textbook]

The presets on ONNX Runtime beside `keras.predict` of a network of the same form (weights do not
change the time), in turns: milliseconds for one picture, pictures a second for many. And a whole
`fashion-cnn predict photo.jpg`, a 12-megapixel photo drawn here: seconds, and memory at its peak.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

MANY = 10_000
ONE = 300  # calls a round


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--models", nargs="+", default=["standard", "textbook"])
    arguments = parser.parse_args()
    whole_program(arguments.rounds)
    print(f"\n{'':<34}{'one, ms':>9}{'99 % within':>13}{'many, a second':>16}")
    for name in arguments.models:
        side_by_side(name, arguments.rounds)


def whole_program(rounds: int) -> None:
    """Time and memory of the command, of its import alone, and of a photo's preparation."""
    from PIL import Image, ImageDraw

    from fashion_cnn import Classifier

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shirt.jpg"
        photo = Image.effect_noise((4000, 3000), 12).convert("RGB")
        ImageDraw.Draw(photo).polygon(
            [(1200, 500), (2800, 500), (2600, 2600), (1400, 2600)], "navy"
        )
        photo.save(path, quality=90)
        call = ["-c", "from fashion_cnn.cli import main; main()", "predict", str(path)]
        runs = [_run(call) for _ in range(rounds)]
        classifier = Classifier.load()
        seen = [_timed(lambda: classifier.prepare(path)) for _ in range(rounds)]
        small = np.asarray(photo.resize((256, 192)))
        prepared = [_timed(lambda: classifier.prepare(small)) for _ in range(rounds)]
    seconds, memory = zip(*runs, strict=True)
    print(f"fashion-cnn predict, 12 megapixels: {_spread(seconds, 's')}; {max(memory):.0f} MB")
    print(f"of that reading and preparing:      {_spread([1e3 * x for x in seen], 'ms')}")
    print(f"preparing a photo of 256 pixels:    {_spread([1e3 * x for x in prepared], 'ms')}")


def _run(call: list[str]) -> tuple[float, float]:
    """Seconds, and megabytes at the peak, of a Python process."""
    began = time.perf_counter()
    silence = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    process = os.posix_spawn(
        sys.executable, [sys.executable, *call], os.environ, file_actions=silence
    )
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"{' '.join(call)}: failed")
    return time.perf_counter() - began, usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def side_by_side(name: str, rounds: int) -> None:
    """One and many pictures, by the preset and by Keras, in turns."""
    from fashion_cnn import RECIPES, Classifier, build_model
    from fashion_cnn.models.wrappers import flip_averaged

    recipe = RECIPES[name]
    network = build_model(recipe.model, (28, 28, 1), 10, recipe.options)
    network = flip_averaged(network) if recipe.flip_average else network
    classifier = Classifier.load(name)
    images = np.random.default_rng(0).integers(0, 256, (MANY, 28, 28, 1), np.uint8)
    ways: dict[str, Callable[[np.ndarray], object]] = {
        f"{name}, ONNX Runtime": classifier.probabilities,
        f"{name}, keras.predict": lambda x: network.predict(x, verbose=0),
        f"{name}, keras.predict, batch 200": lambda x: network.predict(
            x, batch_size=200, verbose=0
        ),
    }
    one: dict[str, list[float]] = {way: [] for way in ways}
    many: dict[str, list[float]] = {way: [] for way in ways}
    for answer in ways.values():
        answer(images[:1])
        answer(images[:400])
    for _ in range(rounds):
        for way, answer in ways.items():
            few = ONE if "ONNX" in way else 20
            one[way] += [1e3 * _timed(lambda: answer(images[:1])) for _ in range(few)]  # noqa: B023
            many[way].append(MANY / _timed(lambda: answer(images)))  # noqa: B023
    for way in ways:
        typical, slow = statistics.median(one[way]), np.quantile(one[way], 0.99)
        print(f"{way:<34}{typical:>9.2f}{slow:>13.2f}{statistics.median(many[way]):>16,.0f}")


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _spread(values: list[float] | tuple[float, ...], unit: str) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.3g} {unit} (quartiles {low:.3g} to {high:.3g})"


if __name__ == "__main__":
    main()
