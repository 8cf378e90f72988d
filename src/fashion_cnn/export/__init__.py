"""A measured run in; a model file for another runtime and its card out.

Nothing is written unless the file, loaded by its own runtime, answers as the Keras model does.
"""

import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.data.dataset import Data, channels_last
from fashion_cnn.export.card import card_markdown, make_card
from fashion_cnn.files import copy_folder_atomically, file_sha256, write_atomically, write_text
from fashion_cnn.inference.classifier import MAX_MODEL_BYTES
from fashion_cnn.run import Run

ENDINGS = {
    "onnx": "model.onnx",
    "onnx-int8": "model-int8.onnx",
    "litert": "model.tflite",
    "savedmodel": "savedmodel",
}
COMPARED = 1000  # test images
TOLERANCE = 1e-4  # of a probability
INT8_TOLERANCE = 0.003  # of the accuracy on all test images
CALIBRATED = 500  # training images, from which int8 learns how large its numbers get
BATCH = 250  # small images at a time

Runtime = Callable[[np.ndarray], np.ndarray]  # pixels to probabilities


def export_run(run: Run, form: str = "onnx", output: Path | None = None) -> Path:
    """Export a run's model, calibrated, in a process of its own on the TensorFlow backend.

    Args:
        run: a run folder, measured.
        form: a key of `ENDINGS`.
        output: the file or, for `savedmodel`, folder; in the run's folder without.

    Returns:
        The path of what was written; its card is beside it, with `.json` added to the name for
        programs and `.md` for people.

    Raises:
        FileNotFoundError: no measured run.
        ModuleNotFoundError: LiteRT is not installed.
        ValueError: `output` is there already, or the export does not answer as the Keras model
            does; then nothing is written.
    """
    output = output or run.folder / ENDINGS[form]
    if form == "litert" and importlib.util.find_spec("ai_edge_litert") is None:
        raise ModuleNotFoundError("ai_edge_litert", name="ai_edge_litert")
    run.metrics()
    if output.exists() and output != run.onnx_path:
        raise ValueError(f"{output}: there already; delete it, or give another --output")
    if not output.parent.is_dir():
        raise ValueError(f"{output}: there is no folder {output.parent}")
    call = [sys.executable, "-m", "fashion_cnn.export", str(run), form, str(output)]
    settings = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(call, env=settings, capture_output=True, text=True)  # noqa: S603 (ours)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it was killed"]
        raise ValueError(f"{output}: not exported ({said[-1]})")
    return output


def export_in_process(
    run: Run, data: Data, form: str, output: Path, about: Mapping[str, Any] | None = None
) -> Path:
    """`export_run` in this process, which must be on the TensorFlow backend.

    `about` is put into the card; its `temperature` counts in place of the run's.
    """
    from fashion_cnn.evaluation import load_model, predict
    from fashion_cnn.models.wrappers import with_temperature

    card = make_card(run, data, form) | dict(about or {})
    model = with_temperature(load_model(run), card["temperature"] or 1.0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ENDINGS[form]
        model(channels_last(data.test_images[:1]))  # Keras exports only what has been called
        runtime = _WRITERS[form](model, path, data)
        parity = _prove(partial(predict, model), runtime, data, form)
        card |= {"parity": parity, "temperature_folded": card["temperature"] is not None}
        if form.startswith("onnx"):
            _describe(path, card)
            if (size := path.stat().st_size) > MAX_MODEL_BYTES:
                raise ValueError(f"it would take {size:,} bytes; at most {MAX_MODEL_BYTES:,} are read")
        text = card_markdown(card)
        if path.is_file():
            card["sha256"] = file_sha256(path)
            write_atomically(output, lambda temporary: shutil.copyfile(path, temporary))
        else:
            copy_folder_atomically(path, output)
    write_text(output.with_name(f"{output.name}.json"), json.dumps(card, indent=2) + "\n")
    write_text(output.with_name(f"{output.name}.md"), text)
    return output


def _prove(keras_model: Runtime, runtime: Runtime, data: Data, form: str) -> dict[str, Any]:
    """How far an export is from the Keras model; refuses one that is not as good.

    Whole numbers of 8 bits cannot give the same probabilities; there the accuracy counts.
    """
    if form == "onnx-int8":
        images, labels = channels_last(data.test_images), data.test_labels
        before, after = (
            float((_in_batches(x, images).argmax(1) == labels).mean())
            for x in (keras_model, runtime)
        )
        if abs(before - after) > INT8_TOLERANCE:
            raise ValueError(
                f"its accuracy is {after:.2%}, the Keras model's {before:.2%}; at most "
                f"{INT8_TOLERANCE:.1%} between them were expected"
            )
        return {"images": len(labels), "accuracy": after, "accuracy_of_keras": before}
    images = channels_last(data.test_images[:COMPARED])
    answers, expected = _in_batches(runtime, images), keras_model(images)
    difference = float(np.abs(answers - expected).max())
    same = bool((answers.argmax(1) == expected.argmax(1)).all())
    if not difference <= TOLERANCE or not same:
        raise ValueError(
            f"its probabilities differ by up to {difference:.2g} from the Keras model's; at most "
            f"{TOLERANCE} and the same answers were expected"
        )
    return {"images": len(answers), "largest_difference": difference, "same_answers": same}


def _in_batches(runtime: Runtime, images: np.ndarray) -> np.ndarray:
    from fashion_cnn.models.forward import inference_batch_size

    batch = min(BATCH, inference_batch_size(images.shape[1:]))
    return np.concatenate([runtime(images[k : k + batch]) for k in range(0, len(images), batch)])


def _write_onnx(model: Any, path: Path, data: Data) -> Runtime:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tf2onnx's own, about NumPy
        model.export(path, format="onnx", verbose=False)
    return _on_onnxruntime(path)


def _on_onnxruntime(path: Path) -> Runtime:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def _write_int8(model: Any, path: Path, data: Data) -> Runtime:
    """Weights and what flows between layers as whole numbers of 8 bits, scaled by channel."""
    from onnxruntime import quantization

    exact = path.with_name("exact.onnx")
    _write_onnx(model, exact, data)
    pixels = channels_last(data.train_images[data.train_index[:CALIBRATED]])

    class Pixels(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            parts = (pixels[k : k + BATCH] for k in range(0, len(pixels), BATCH))
            self.parts = ({"pixels": part} for part in parts)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.parts, None)

    logging.disable(logging.WARNING)  # advice for graphs that are not fused yet; these are
    try:
        quantization.quantize_static(exact, path, Pixels(), per_channel=True)
    finally:
        logging.disable(logging.NOTSET)
    return _on_onnxruntime(path)


def _write_litert(model: Any, path: Path, data: Data) -> Runtime:
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    interpreter = Interpreter(str(path))
    (given,), (answers,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(images: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(given["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(answers["index"])

    return run


def _describe(path: Path, card: dict[str, Any]) -> None:
    """Put the card into the file, and names that mean something on its input and output."""
    import onnx

    model = onnx.load(path)
    model.doc_string = "fashion-cnn"
    onnx.helper.set_model_props(model, {"fashion_cnn": json.dumps(card)})
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def _write_savedmodel(model: Any, path: Path, data: Data) -> Runtime:
    import tensorflow as tf

    model.export(path, format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(path)  # its variables live as long as it does
    return lambda images: loaded.serve(images).numpy()


_WRITERS: dict[str, Callable[[Any, Path, Data], Runtime]] = {
    "onnx": _write_onnx,
    "onnx-int8": _write_int8,
    "litert": _write_litert,
    "savedmodel": _write_savedmodel,
}
