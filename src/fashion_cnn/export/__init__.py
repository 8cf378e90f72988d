"""A measured run in; a model file for another runtime, and its card, out.

Nothing is written unless the file, loaded by its own runtime, predicts what the Keras model does.
To add a format: write a module with a `Writer` and a test, and name it in `FORMATS` and
`cli/options.py`. Importing this package imports no Keras.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.data.dataset import Data, channels_last
from fashion_cnn.export.card import card_markdown, make_card
from fashion_cnn.export.int8 import write_int8
from fashion_cnn.export.litert import write_litert
from fashion_cnn.export.onnx import add_card, write_onnx
from fashion_cnn.export.parity import Predict, compare_accuracy, compare_probabilities
from fashion_cnn.export.precision import measure_bfloat16
from fashion_cnn.export.savedmodel import write_savedmodel
from fashion_cnn.export.similarity import add_similarity
from fashion_cnn.export.w8 import write_w8
from fashion_cnn.files import (
    copy_folder_atomically,
    file_sha256,
    write_atomically,
    write_json,
    write_text,
)
from fashion_cnn.run import Run

CALIBRATION_IMAGES = 500  # of the training images; they set the activation ranges of onnx-int8

# (Keras model, path, calibration images) -> the predictions by the runtime of the format
Writer = Callable[[Any, Path, Any], Predict]
# (Keras model, export, test images, test labels) -> how close their predictions are
Compare = Callable[[Predict, Predict, Any, Any], dict[str, Any]]


@dataclass(frozen=True)
class Format:
    """An export format."""

    file_name: str  # of the file or folder, in the run's folder by default
    write: Writer | None  # None for `web`, which `web.export_web` makes from an ONNX file
    compare: Compare = compare_probabilities  # raises ValueError if the predictions differ
    is_onnx: bool = False  # whether the file gets similarity and card as well, for `Classifier`
    requires: str = ""  # a module of an optional dependency


FORMATS = {
    "onnx": Format("model.onnx", write_onnx, is_onnx=True),
    "onnx-int8": Format("model-int8.onnx", write_int8, compare_accuracy, is_onnx=True),
    "onnx-w8": Format(
        "model-w8.onnx", write_w8, partial(compare_accuracy, tolerance=0.002), is_onnx=True
    ),
    "litert": Format("model.tflite", write_litert, requires="ai_edge_litert"),
    "savedmodel": Format("savedmodel", write_savedmodel),
    "web": Format("web", None),
}


def export_run(
    run: Run,
    format_name: str = "onnx",
    output: Path | None = None,
    source: str | None = None,
) -> Path:
    """Export a run's calibrated model, in a new process on the TensorFlow backend.

    Args:
        run: a measured run.
        format_name: a key of `FORMATS`, except `web`.
        output: the file or, for `savedmodel`, folder. Default: in the run's folder.
        source: where the run's data is now. Default: where it was during the training.

    Returns:
        The path of the model. The card is beside it, with `.json` and `.md` added to the name.

    Raises:
        FileNotFoundError: there is no measured run.
        ModuleNotFoundError: the format's runtime is not installed.
        ValueError: `output` exists, or the export does not predict what the Keras model does.
    """
    target = FORMATS[format_name]
    output = output or run.folder / target.file_name
    if target.requires and find_spec(target.requires) is None:
        raise ModuleNotFoundError(target.requires, name=target.requires)
    run.metrics()  # says so if there are none
    if (format_name, output) != ("onnx", run.onnx_path):
        require_new_path(output)
    call = [sys.executable, "-m", "fashion_cnn.export", str(run), format_name, str(output)]
    call += [source] if source else []
    if error := run_command(call, {**os.environ, "KERAS_BACKEND": "tensorflow"}):
        raise ValueError(f"{output}: not exported ({error[-1]})")
    return output


def run_command(call: list[str], environment: Mapping[str, str] = os.environ) -> list[str]:
    """Run a command; the lines of its error if it failed, else none."""
    process = subprocess.run(  # noqa: S603 (ours)
        call, env=environment, capture_output=True, encoding="utf-8", errors="replace"
    )
    lines = process.stderr.strip().splitlines() or ["its process was killed"]
    return lines if process.returncode else []


def require_new_path(output: Path) -> None:
    """Raise ValueError unless `output` is a new name in an existing folder."""
    if output.exists():
        raise ValueError(f"{output}: exists already; delete it, or give another --output")
    if not output.parent.is_dir():
        raise ValueError(f"{output}: there is no folder {output.parent}; make it first")


def export_in_process(
    run: Run,
    data: Data,
    format_name: str,
    output: Path,
    card_changes: Mapping[str, Any] | None = None,
) -> Path:
    """`export_run` in this process, which must use the TensorFlow backend.

    Args:
        run: a measured run.
        data: what it was trained on.
        format_name: a key of `FORMATS`, except `web`.
        output: as of `export_run`; replaced if it is a file.
        card_changes: entries of the card to replace or add; a `temperature` is used.
    """
    from fashion_cnn.evaluation import load_model, predict
    from fashion_cnn.models.features import with_features
    from fashion_cnn.models.wrappers import with_temperature

    target = FORMATS[format_name]
    if target.write is None:
        raise ValueError(f"{format_name}: cannot be exported from a run; see export_web")
    card = make_card(run, data, format_name) | dict(card_changes or {})
    model = with_temperature(load_model(run), card["temperature"] or 1.0)
    test_images = channels_last(data.test_images)
    # at random, because folders are read class by class
    chosen = np.random.default_rng(0).permutation(data.train_index)[:CALIBRATION_IMAGES]
    calibration_images = channels_last(data.train_images[chosen])
    results = run.predictions()
    has_similarity = target.is_onnx and "cluster_means" in results
    network = with_features(model) if has_similarity else model
    network(test_images[:1])  # Keras exports only a model that has been called
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / target.file_name
        exported = target.write(network, path, calibration_images)
        keras_model = partial(predict, model)
        card["parity"] = target.compare(keras_model, exported, test_images, data.test_labels)
        card["temperature_folded"] = card["temperature"] is not None
        if has_similarity:
            add_similarity(path, results["cluster_means"], results["cluster_classes"])
        if target.is_onnx:
            card["bfloat16"] = measure_bfloat16(path, test_images, data.test_labels)
            add_card(path, card)
        text = card_markdown(card)
        if path.is_file():
            card["sha256"] = file_sha256(path)
            write_atomically(output, lambda temporary: shutil.copyfile(path, temporary))
        else:
            copy_folder_atomically(path, output)
    write_json(output.with_name(f"{output.name}.json"), card)
    write_text(output.with_name(f"{output.name}.md"), text)
    return output
