"""Claim: in bulk, OpenVINO in bfloat16 is at least 1.5 times as fast as ONNX Runtime in float32.

    python benchmarks/runtimes.py [--photos DIR] [--rounds 3] [--models textbook ...]

Each of `MODELS` predicts one image at a time, and many, by each of `RUNTIMES`, in turns. The many
are the 10,000 test images of Fashion-MNIST, or for `clothes` the photos in DIR/validation/<class>,
already resized; without `--photos`, `clothes` is left out. The limit is the rate of a large matrix
product by OpenVINO on all cores in the same precision, divided by the operations of an image, those
with the zeros of the padding included, which a runtime may leave out. There is no row of `clothes`
in int8. Each round is rows of `runtimes.csv` under the name of the processor; finished rows are
skipped. Prints the table of docs/results.md.
Seeds: none. Machine: 2 CPU cores, with bfloat16 for all of it. Duration: 8 minutes.
"""

import argparse
import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import _results as results
import numpy as np
from inference import count_flops

ROWS = Path(__file__).with_suffix(".csv")
MODELS = ("textbook", "standard", "thorough", "clothes")
KERAS = "keras.predict, float32"
REFERENCE = "ONNX Runtime, float32"
RUNTIMES = {  # name -> arguments of Classifier; `int8` makes an int8 file first
    KERAS: {},
    REFERENCE: {"runtime": "onnxruntime"},
    "ONNX Runtime, int8": {"runtime": "onnxruntime"},
    "OpenVINO, float32": {"runtime": "openvino", "precision": "float32"},
    "OpenVINO, bfloat16": {"runtime": "openvino", "precision": "bfloat16"},
    "OpenVINO, int8": {"runtime": "openvino", "precision": "float32"},
}
SECONDS = 1.0  # of predicting one image at a time, in a round
MATRIX, PRODUCTS = 2048, 10
PACKAGES = (*results.KERAS, "onnxruntime", "openvino")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="a folder with validation/<class>/<photo>")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS, metavar="NAME")
    arguments = parser.parse_args()
    machine = results.machine_columns(PACKAGES)
    keys: list[dict[str, object]] = [
        {"processor": machine["processor"], "model": name, "runtime": runtime, "round": k}
        for name in arguments.models
        for k in range(arguments.rounds)
        for runtime in RUNTIMES
        if is_possible(name, runtime, arguments.photos)
    ]

    def run(processor: str, model: str, runtime: str, round: int) -> dict[str, object]:
        row = measure(*load_functions(model, runtime), *load_images(model, arguments.photos))
        row["accuracy"] = "" if runtime == KERAS else row["accuracy"]  # is untrained
        row["limit"] = f"{matrix_rate(runtime) / mflop(model) / 1e6:.4g}"
        return row | {"versions": machine["versions"]}

    print(table(results.run_missing(ROWS, keys, run)))


def is_possible(name: str, runtime: str, photos: Path | None) -> bool:
    """Return whether there are images for a model, and a runtime can compute it here."""
    from fashion_cnn.machine import processor_has_bfloat16

    if name == "clothes" and ("int8" in runtime or not photos):  # has depthwise convolutions
        return False
    return "bfloat16" not in runtime or processor_has_bfloat16()


@functools.cache
def load_images(name: str, photos: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Return test images, uint8 (n, height, width, channels), and labels."""
    from fashion_cnn import load_data

    if name != "clothes":
        data = load_data()
        return data.test_images[..., np.newaxis], data.test_labels
    from clothes import load_all

    from fashion_cnn.inference.model_files import presets

    data = load_all(photos / "validation", presets()[name]["input"]["height"])
    return np.ascontiguousarray(data.train_images), data.train_labels


@functools.cache
def load_functions(name: str, runtime: str) -> tuple[Callable[[np.ndarray], np.ndarray], ...]:
    """Return what predicts one image, and what predicts many."""
    from fashion_cnn import Classifier
    from fashion_cnn.models.wrappers import flip_averaged

    if runtime == KERAS:
        network, is_averaged = keras_network(name)
        model = flip_averaged(network) if is_averaged else network
        call = functools.partial(model.predict, batch_size=200 if name != "clothes" else 16)
        return (functools.partial(call, verbose=0),) * 2
    load: Callable[..., Classifier] = functools.partial(Classifier.load, name)
    if "int8" in runtime:
        load = functools.partial(Classifier, int8_content(name), name)
    classifiers = [load(**RUNTIMES[runtime], bulk=bulk) for bulk in (False, True)]
    return tuple(classifier.probabilities for classifier in classifiers)


def keras_network(name: str):
    """Return the Keras network of a preset, untrained, and whether it is flip-averaged."""
    from fashion_cnn.inference.model_files import presets
    from fashion_cnn.models import build_model
    from fashion_cnn.recipe import recipe_from_dict

    card = presets()[name]
    recipe = recipe_from_dict(card["recipe"])
    options = recipe.options | ({"weights": "none"} if recipe.model == "transfer" else {})
    size = card["input"]
    shape = (size["height"], size["width"], size["channels"])
    network = build_model(recipe.model, shape, len(card["class_names"]), options)
    return network, recipe.flip_average


@functools.cache
def mflop(name: str) -> float:
    """Return the MFLOP of an image."""
    network, is_averaged = keras_network(name)
    return count_flops(network) * (2 if is_averaged else 1) / 1e6


@functools.cache
def int8_content(name: str) -> bytes:
    """Return the ONNX file of a preset with weights and activations of 8 bits."""
    from fashion_cnn import load_data
    from fashion_cnn.export import CALIBRATION_IMAGES
    from fashion_cnn.export.int8 import quantize
    from fashion_cnn.export.onnx import add_card
    from fashion_cnn.inference.model_files import PRESET_FOLDER, presets

    images = load_data().split("train")[0][:CALIBRATION_IMAGES, ..., np.newaxis]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        quantize(PRESET_FOLDER / f"{name}.onnx", path, images)
        add_card(path, presets()[name] | {"format": "onnx-int8"})
        return path.read_bytes()


@functools.cache
def matrix_rate(runtime: str) -> float:
    """Return the operations a second of a matrix product by OpenVINO, in a runtime's precision."""
    from fashion_cnn.inference.openvino import import_openvino

    openvino = import_openvino()

    if "int8" in runtime:
        return float("nan")
    from openvino import opset13 as ops

    matrix = np.random.default_rng(0).random((MATRIX, MATRIX), np.float32)
    a, b = (ops.parameter(openvino.Shape(matrix.shape), np.float32) for _ in range(2))
    models = [  # the second matrix as an input, or as weights; either may be faster
        openvino.Model([ops.matmul(a, b, False, False)], [a, b]),
        openvino.Model([ops.matmul(a, ops.constant(matrix), False, False)], [a]),
    ]
    precision = "bf16" if "bfloat16" in runtime else "f32"
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    times = []
    for model in models:
        request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
        infer = functools.partial(request.infer, [matrix] * len(model.inputs), share_inputs=True)
        times += [results.time_call(infer) for _ in range(PRODUCTS)]
    return 2 * MATRIX**3 / min(times)


def measure(
    predict_one: Callable[[np.ndarray], np.ndarray],
    predict_many: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
) -> dict[str, object]:
    """Return the columns of a row."""
    for predict in (predict_one, predict_many):
        predict(images[:400])
    times, end = [], time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times) < 2:
        times.append(1e3 * results.time_call(lambda: predict_one(images[:1])))
    start = time.perf_counter()
    probabilities = predict_many(images)
    rate = len(images) / (time.perf_counter() - start)
    return {
        "one_ms": f"{statistics.median(times):.4g}",
        "one_ms_99": f"{statistics.quantiles(times, n=100)[98]:.4g}",
        "images_per_second": f"{rate:.4g}",
        "accuracy": round(float((probabilities.argmax(1) == labels).mean()), 4),
    }


def table(rows: list[results.Row]) -> str:
    """Return the table of docs/results.md: medians over the rounds, ratios round by round."""
    header = ["processor", "model", "runtime", "one image, ms (99 %)", "images per second"]
    header += ["relative to ONNX Runtime", "of the limit, %", "accuracy, %", "n"]
    lines = []
    for keys in dict.fromkeys((row["processor"], row["model"], row["runtime"]) for row in rows):
        processor, model, runtime = keys
        runs = results.select(rows, processor=processor, model=model, runtime=runtime)
        others = results.select(rows, processor=processor, model=model, runtime=REFERENCE)
        ratios = results.ratios(runs, others, "images_per_second", by="round")
        shares = [float(x["images_per_second"]) / float(x["limit"]) for x in runs]
        one = f"{results.median(runs, 'one_ms')} ({results.median(runs, 'one_ms_99')})"
        share = "" if "int8" in runtime else f"{100 * statistics.median(shares):.0f}"
        accuracy = "" if runtime == KERAS else f"{100 * float(runs[0]['accuracy']):.2f}"
        line = [*keys, one, results.median(runs, "images_per_second", 0)]
        line += [results.median_quartiles(ratios), share, accuracy, len(runs)]
        lines.append(line)
    return results.markdown_table(header, lines)


if __name__ == "__main__":
    main()
