"""The format `onnx-int8`: 8-bit integers, scaled by channel, for ONNX Runtime."""

import logging
from pathlib import Path
from typing import Any

from fashion_cnn.export.onnx import load_onnx, write_onnx
from fashion_cnn.export.parity import Predict

BATCH = 250


def write_int8(model: Any, path: Path, calibration_images: Any) -> Predict:
    """Save a Keras model as ONNX with weights and activations of 8 bits (static quantization)."""
    float_path = path.with_name("float.onnx")
    write_onnx(model, float_path)
    quantize(float_path, path, calibration_images)
    return load_onnx(path)


def quantize(float_path: Path, path: Path, calibration_images: Any) -> None:
    """Save an ONNX file with weights and activations of 8 bits."""
    from onnxruntime import quantization

    class CalibrationImages(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            starts = range(0, len(calibration_images), BATCH)
            self.batches = ({"pixels": calibration_images[k : k + BATCH]} for k in starts)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.batches, None)

    logging.disable(logging.WARNING)  # it advises to fuse the graph, which tf2onnx has done
    try:
        quantization.quantize_static(float_path, path, CalibrationImages(), per_channel=True)
    finally:
        logging.disable(logging.NOTSET)
