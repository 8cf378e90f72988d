"""Claim: a preset predicts an image in under a millisecond; the whole command takes half a second.

    python benchmarks/inference.py [--rounds 5] [--models textbook sprint ...]

For each recipe of benchmarks/frontier.py and the preset `photo`: one image at a time, and images in
batches, by ONNX Runtime (`Classifier`), by Keras's compiled forward pass (`fashion_cnn.predict`),
and by Keras's `predict` with batches of 200, in turns. The ONNX file is the preset or, where there
is none, that of an untrained network; the weights do not change the time. Also measures a whole
`fashion-cnn predict photo.jpg` of a generated 12-megapixel photo with each preset for photos:
seconds and peak memory. Each round is a row of `inference.csv` and of `inference_command.csv`;
finished rows are skipped.
Seeds: none, weights do not matter. Machine: 2 CPU cores. Duration: 8 minutes.
"""

import argparse
import functools
import math
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import _results as results
import numpy as np

ROWS = Path(__file__).with_suffix(".csv")
COMMAND_ROWS = ROWS.with_name("inference_command.csv")
MODELS = ("textbook", "sprint", "quick", "standard", "thorough", "marathon", "photo")
RUNTIMES = {
    "onnx": "ONNX Runtime",
    "forward": "Keras, compiled forward pass",
    "predict": "Keras, `predict`",
}
CALLS = {"onnx": 300, "forward": 300, "predict": 20}  # with one image, in a round
IMAGES = 10_000  # in a batch measurement
PHOTO_MODELS = ("clothes", "photo")
PACKAGES = (*results.KERAS, "onnxruntime")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS, metavar="NAME")
    arguments = parser.parse_args()
    rounds = range(arguments.rounds)
    keys = [{"model": name, "round": k} for k in rounds for name in arguments.models]
    command_keys = [{"model": name, "round": k} for k in rounds for name in PHOTO_MODELS]
    command_rows = results.run_missing(COMMAND_ROWS, command_keys, run_predict)
    rows = results.run_missing(ROWS, keys, measure_model)
    print("\n\n".join([*tables(rows), command_table(command_rows)]))


def tables(rows: list[results.Row]) -> list[str]:
    """Return two tables: what a prediction by each model costs, and the runtimes compared."""
    header = ["model", "parameters", "MFLOP per image", "one image, ms"]
    header += ["images per second in batches", "n"]
    compared = [f"one image, ms: {runtime}" for runtime in RUNTIMES.values()]
    compared += [f"images per second: {runtime}" for runtime in RUNTIMES.values()]
    costs, comparison = [], []
    for name in dict.fromkeys(row["model"] for row in rows):
        rounds = results.select(rows, model=name)
        ms = [results.median(rounds, f"{x}_one_ms") for x in RUNTIMES]
        rates = [results.median(rounds, f"{x}_images_per_second", 0) for x in RUNTIMES]
        size = [f"{int(rounds[0]['parameters']):,}", rounds[0]["mflop"]]
        costs.append([name, *size, ms[0], rates[0], len(rounds)])
        comparison.append([name, *ms, *rates])
    return [
        results.markdown_table(header, costs),
        results.markdown_table(["model", *compared], comparison),
    ]


def command_table(rows: list[results.Row]) -> str:
    """Return the table of the whole command: medians and quartiles."""
    columns = {
        "`fashion-cnn predict --model {}` of a 12-megapixel photo, s": ("seconds", 2),
        "peak memory of this command, MB": ("peak_mb", 0),
        "reading and preparing this photo, ms": ("prepare_ms", 0),
        "preparing a photo of 256x192, ms": ("prepare_small_ms", 1),
    }
    lines = []
    for name in dict.fromkeys(row["model"] for row in rows):
        rounds = results.select(rows, model=name)
        for text, (column, decimals) in columns.items():
            values = results.numbers(rounds, column)
            cell = results.median_quartiles(values, decimals)
            lines.append([text.format(name), cell, len(rounds)])
    return results.markdown_table(["measurement", "median (quartiles)", "n"], lines)


def run_predict(model: str, round: int) -> dict[str, object]:
    """Run the command on a generated photo, and prepare the photo in this process."""
    from PIL import Image, ImageDraw

    from fashion_cnn import Classifier

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shirt.jpg"
        photo = Image.effect_noise((4000, 3000), 12).convert("RGB")
        shirt = [(1200, 500), (2800, 500), (2600, 2600), (1400, 2600)]
        ImageDraw.Draw(photo).polygon(shirt, "navy")
        photo.save(path, quality=90)
        program = "from fashion_cnn.cli import main; main()"
        call = [sys.executable, "-c", program, "predict", str(path), "--model", model]
        seconds, peak = results.run_command(call, os.environ)
        classifier, small = Classifier.load(model), np.asarray(photo.resize((256, 192)))
        prepare = results.median_seconds(lambda: classifier.prepare(path), 3)
        prepare_small = results.median_seconds(lambda: classifier.prepare(small), 3)
    row: dict[str, object] = {"seconds": f"{seconds:.3f}", "peak_mb": f"{peak / 1e6:.1f}"}
    row |= {"prepare_ms": f"{1e3 * prepare:.1f}", "prepare_small_ms": f"{1e3 * prepare_small:.2f}"}
    return row | results.machine_columns(("onnxruntime", "numpy", "pillow"))


def measure_model(model: str, round: int) -> dict[str, object]:
    """Predict one image and many by each runtime in turn."""
    parameters, mflop, functions = load_functions(model)
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 28, 28, 1), np.uint8)
    row: dict[str, object] = {"parameters": parameters, "mflop": mflop}
    for name, function in functions.items():
        function(images[:400])
        one = results.median_seconds(lambda: function(images[:1]), CALLS[name])  # noqa: B023
        many = results.time_call(lambda: function(images))  # noqa: B023 (called now)
        row[f"{name}_one_ms"] = f"{1e3 * one:.4g}"
        row[f"{name}_images_per_second"] = int(IMAGES / many)
    return row | results.machine_columns(PACKAGES)


@functools.cache
def load_functions(name: str) -> tuple[int, float, dict[str, Callable[[np.ndarray], object]]]:
    """Return a model's parameters, its MFLOP per image, and for each runtime what predicts."""
    from fashion_cnn import RECIPES, build_model
    from fashion_cnn.models.forward import compile_forward
    from fashion_cnn.models.wrappers import flip_averaged

    recipe = RECIPES[name]
    network = build_model(recipe.model, options=recipe.options)
    mflop = count_flops(network) * (2 if recipe.flip_average else 1) / 1e6
    model = flip_averaged(network) if recipe.flip_average else network
    functions = {
        "onnx": load_classifier(name, model).probabilities,
        "forward": compile_forward(model),
        "predict": lambda images: model.predict(images, batch_size=200, verbose=0),
    }
    return network.count_params(), round(mflop, 1), functions


def load_classifier(name: str, model):
    """Load a preset or, if there is none of this name, the ONNX file of a Keras model."""
    from fashion_cnn import Classifier
    from fashion_cnn.data.fashion_mnist import CLASS_NAMES
    from fashion_cnn.export.onnx import add_card, write_onnx
    from fashion_cnn.inference.model_files import PRESETS

    if name in PRESETS:
        return Classifier.load(name)
    shape = {"height": 28, "width": 28, "channels": 1}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        model(np.zeros((1, 28, 28, 1), np.uint8))  # Keras exports only what has been called
        write_onnx(model, path)
        add_card(path, {"class_names": CLASS_NAMES, "input": shape})
        return Classifier.load(path)


def count_flops(model) -> int:
    """Return the floating-point operations of all convolutions and dense layers for one image."""
    total = 0
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            pixels = math.prod(layer.output.shape[1:-1])
            total += 2 * math.prod(layer.kernel.shape) * pixels
    return total


if __name__ == "__main__":
    main()
