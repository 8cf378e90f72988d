"""An ONNX file and test images in; what computing it in bfloat16 costs, for the card, out."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.data.split import stratified
from fashion_cnn.export.onnx import load_onnx
from fashion_cnn.export.parity import predict_in_batches
from fashion_cnn.inference.openvino import describe, start_openvino
from fashion_cnn.inference.session import batch_size
from fashion_cnn.machine import processor_has_bfloat16

MAX_IMAGES, MAX_LARGE_IMAGES = 10_000, 1000  # test images; a few thousand large ones take a minute
LARGE = 64  # pixels of the longer edge, beyond which images are large


def measure_bfloat16(path: Path, images: Any, labels: Any) -> dict[str, Any]:
    """Compare the accuracy in bfloat16, by OpenVINO, with that in float32, by ONNX Runtime.

    Args:
        path: of the ONNX file.
        images: test images, uint8 (n, height, width, channels); at most `MAX_IMAGES` are used, or
            `MAX_LARGE_IMAGES` if they are higher or wider than `LARGE` pixels.
        labels: int (n,).

    Returns:
        What the card says of it; empty if OpenVINO is not installed, if the processor has no
        bfloat16, or if OpenVINO cannot compute the network.
    """
    if find_spec("openvino") is None or not processor_has_bfloat16():
        return {}
    count = MAX_LARGE_IMAGES if max(images.shape[1:3]) > LARGE else MAX_IMAGES
    chosen = stratified(labels, min(count, len(labels)))
    images, labels, batch = images[chosen], labels[chosen], batch_size(images.shape[1:])
    batches = [images[start : start + batch] for start in range(0, len(images), batch)]
    try:
        run = start_openvino(path.read_bytes(), 1, "bfloat16", batch, side_by_side=True)
        actual = np.concatenate([outputs[0] for outputs in run(batches)])
    except Exception:  # whatever it is, the export is complete without this figure
        return {}
    expected = predict_in_batches(load_onnx(path), images)
    accuracy, accuracy_float32 = (float((x.argmax(1) == labels).mean()) for x in (actual, expected))
    return {
        "runtime": describe("bfloat16"),
        "images": len(labels),
        "accuracy": accuracy,
        "accuracy_float32": accuracy_float32,
        "accuracy_loss": round(accuracy_float32 - accuracy, 6),
        "largest_difference": float(np.abs(actual - expected).max()),
    }
