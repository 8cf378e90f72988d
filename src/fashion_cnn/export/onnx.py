"""The format `onnx`: float32, for ONNX Runtime, with the card in the file."""

import json
import warnings
from pathlib import Path
from typing import Any

from fashion_cnn.export.parity import Predict
from fashion_cnn.inference.model_files import MAX_MODEL_BYTES
from fashion_cnn.inference.onnx_check import reject_external_data


def write_onnx(model: Any, path: Path, calibration_images: Any = None) -> Predict:
    """Save a Keras model as ONNX."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tf2onnx's own, about NumPy
        model.export(path, format="onnx", verbose=False)
    return load_onnx(path)


def load_onnx(path: Path) -> Predict:
    """The predictions of an ONNX file by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def add_card(path: Path, card: dict[str, Any]) -> None:
    """Add a card to an ONNX file; ValueError if `Classifier` would refuse the file."""
    import onnx

    model = onnx.load(path)
    model.doc_string = "fashion-cnn"
    onnx.helper.set_model_props(model, {"fashion_cnn": json.dumps(card)})
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    reject_external_data(content, path.name)
    if len(content) > MAX_MODEL_BYTES:
        raise ValueError(f"it has {len(content):,} bytes; at most {MAX_MODEL_BYTES:,} are read")
    path.write_bytes(content)
