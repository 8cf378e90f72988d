"""The format `onnx-w8`: float32 as `onnx`, but the weights are stored as 8-bit integers.

Cast and Mul turn them back into float32. A runtime folds these when it loads the file, and then
computes as with float32 weights. Why not DequantizeLinear: docs/decisions/0016-w8-export.md.
"""

from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.export.onnx import load_onnx, write_onnx
from fashion_cnn.export.parity import Predict

MIN_WEIGHTS = 1024  # of a tensor; smaller ones stay float32
_OUTPUT_AXES = {"Conv": 0, "MatMul": -1, "Gemm": -1}  # of the weights, the second input


def write_w8(model: Any, path: Path, calibration_images: Any = None) -> Predict:
    """Save a Keras model as ONNX with weights of 8 bits."""
    import onnx

    write_onnx(model, path)
    network = onnx.load(path)
    quantize_weights(network)
    onnx.save(network, path)
    return load_onnx(path)


def quantize_weights(network: Any) -> None:
    """Store the weights of convolutions and dense layers as int8, a scale per output channel.

    Args:
        network: an `onnx.ModelProto` with float32 weights; changed in place.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph, nodes = network.graph, []
    axes = {
        node.input[1]: _OUTPUT_AXES[node.op_type]
        for node in graph.node
        if node.op_type in _OUTPUT_AXES
    }
    for tensor in list(graph.initializer):
        weights, name = numpy_helper.to_array(tensor), tensor.name
        if name not in axes or weights.dtype != np.float32 or weights.size < MIN_WEIGHTS:
            continue
        integers, scales = _round_to_int8(weights, axes[name])
        tensor.CopyFrom(numpy_helper.from_array(integers, f"{name}/int8"))
        graph.initializer.append(numpy_helper.from_array(scales, f"{name}/scales"))
        nodes += [
            helper.make_node("Cast", [tensor.name], [f"{name}/unscaled"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}/unscaled", f"{name}/scales"], [name]),
        ]
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)


def _round_to_int8(weights: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Integers -127..127, and float32 scales that broadcast along all axes but `axis`."""
    others = tuple(np.delete(np.arange(weights.ndim), axis))
    scales = np.abs(weights).max(others, keepdims=True) / np.float32(127)
    scales[scales == 0] = 1
    # a scale below the normal range of float32 may be rounded down
    return np.clip(np.rint(weights / scales), -127, 127).astype(np.int8), scales
