"""A measured run in; a model file for another runtime and its card out.

Nothing is written unless the file, loaded by its own runtime, answers as the Keras model does.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.data import load_data
from fashion_cnn.data.dataset import Data, channels_last
from fashion_cnn.recipes import command_of, read_recipe
from fashion_cnn.run import file_sha256, read_json, read_source, write_text, write_whole

FORMS = ("onnx", "savedmodel")
ENDINGS = {"onnx": "model.onnx", "savedmodel": "savedmodel"}
COMPARED = 1000  # test images
TOLERANCE = 1e-4  # of a probability


def export_run(run: Path, form: str = "onnx", output: Path | None = None) -> Path:
    """Export a run's model, calibrated, in a process of its own on the TensorFlow backend.

    Args:
        run: a run folder, measured.
        form: one of `FORMS`.
        output: the file or, for `savedmodel`, folder; in the run's folder without.

    Returns:
        The path of what was written; its card is beside it, with `.json` added to the name.

    Raises:
        FileNotFoundError: no measured run.
        ValueError: unknown form, `output` is there already, or the export does not answer as the
            Keras model does; then nothing is written.
    """
    output = output or run / ENDINGS[form]
    read_json(run, "metrics.json")
    if output.exists() and output != run / "model.onnx":
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


def export_here(run: Path, data: Data, form: str, output: Path) -> Path:
    """`export_run` in this process, which must be on the TensorFlow backend."""
    from fashion_cnn.evaluation import load_model, predict
    from fashion_cnn.models.forms import tempered

    metrics = read_json(run, "metrics.json")
    model = tempered(load_model(run), metrics["temperature"] or 1.0)
    images = channels_last(data.test_images[:COMPARED])
    expected = predict(model, images)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ENDINGS[form]
        answers = _WRITERS[form](model, path, images)
        parity = _compare(answers, expected)
        card = card_of(run, data, form) | {"parity": parity}
        if form == "onnx":
            _describe(path, card)
            card["sha256"] = file_sha256(path)
            write_whole(output, lambda temporary: shutil.copyfile(path, temporary))
        else:
            shutil.copytree(path, output)
    write_text(output.with_name(f"{output.name}.json"), json.dumps(card, indent=2) + "\n")
    return output


def card_of(run: Path, data: Data, form: str) -> dict[str, Any]:
    """What a user of an export must know, from a run's files."""
    metrics, recipe = read_json(run, "metrics.json"), read_recipe(run)
    height, width, channels = data.image_shape
    keys = ("accuracy", "accuracy_interval", "calibrated_ece", "examples")
    return {
        "format": form,
        "made": date.today().isoformat(),
        "class_names": list(data.class_names),
        "input": {"height": height, "width": width, "channels": channels, "pixels": "uint8 0..255"},
        "temperature": metrics["temperature"],
        "temperature_folded": metrics["temperature"] is not None,
        "threshold": metrics["threshold"],
        "test": {key: metrics.get(f"test_{key}") for key in keys},
        "parameters": metrics["parameters"],
        "recipe": json.loads(recipe.to_json()),
        "command": command_of(recipe, read_json(run, "environment.json")),
        "data": {key: read_source(run)[key] for key in ("source", "sha256")},
        "licence": "MIT",
    }


def _compare(answers: np.ndarray, expected: np.ndarray) -> dict[str, Any]:
    """How far an export is from the Keras model; refuses one that is not equal."""
    difference = float(np.abs(answers - expected).max())
    same = bool((answers.argmax(1) == expected.argmax(1)).all())
    if difference > TOLERANCE or not same:
        raise ValueError(
            f"its probabilities differ by up to {difference:.2g} from the Keras model's; at most "
            f"{TOLERANCE} and the same answers were expected"
        )
    return {"images": len(answers), "largest_difference": difference, "same_answers": same}


def _write_onnx(model: Any, path: Path, images: np.ndarray) -> np.ndarray:
    import onnxruntime

    model(images[:1])  # Keras exports only what has been called
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tf2onnx's own, about NumPy
        model.export(path, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def _describe(path: Path, card: dict[str, Any]) -> None:
    """Put the card into the file, and names that mean something on its input and output."""
    import onnx

    model = onnx.load(path)
    model.doc_string = "fashion-cnn"
    onnx.helper.set_model_props(model, {"fashion_cnn": json.dumps(card)})
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def _write_savedmodel(model: Any, path: Path, images: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    model.export(path, format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(path)  # its variables live as long as it does
    return loaded.serve(images).numpy()


_WRITERS: dict[str, Callable[[Any, Path, np.ndarray], np.ndarray]] = {
    "onnx": _write_onnx,
    "savedmodel": _write_savedmodel,
}


def _main() -> None:
    run, form, output = sys.argv[1:]
    try:
        data = load_data(read_source(Path(run))["source"])
        export_here(Path(run), data, form, Path(output))
    except (OSError, ValueError) as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    _main()
