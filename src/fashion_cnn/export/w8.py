"""The format `onnx-w8`: float32 as `onnx`, but the weights are stored as 8-bit integers.

Cast and Mul turn them back into float32, and a Cast small tensors, which are stored as float16. A
runtime folds these when it loads the file, and then computes as with float32 weights. Why not
DequantizeLinear: docs/decisions/0016-w8-export.md.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.export.onnx import load_onnx, write_onnx
from fashion_cnn.export.parity import Predict

MIN_WEIGHTS = 10_000  # of a tensor; smaller ones, such as depthwise kernels, become float16
MIN_FLOAT16 = 100  # values of a float16 tensor; a conversion takes about 100 bytes
CORRECTION_IMAGES, BATCH = 100, 10
_OUTPUT_AXES = {"Conv": 0, "MatMul": -1, "Gemm": -1}  # of the weights, the second input


def write_w8(model: Any, path: Path, calibration_images: Any) -> Predict:
    """Save a Keras model as ONNX with weights of 8 bits."""
    import onnx

    write_onnx(model, path)
    network = onnx.load(path)
    quantize_weights(network, calibration_images)
    onnx.save(network, path)
    return load_onnx(path)


def quantize_weights(network: Any, images: Any) -> None:
    """Store the weights of convolutions and dense layers as int8, a scale per output channel.

    Rounding shifts the mean of a convolution's output where its inputs are all positive, as behind
    a ReLU. The bias is corrected by that (Nagel et al. 2019, arXiv:1906.04721).

    Args:
        network: an `onnx.ModelProto` with float32 weights; changed in place.
        images: training images, uint8 (n, height, width, channels); the first
            `CORRECTION_IMAGES` are used.
    """
    graph, errors = network.graph, {}
    conversions: list[Any] = []
    stored = {tensor.name: tensor for tensor in graph.initializer}
    layers = [node for node in graph.node if node.op_type in _OUTPUT_AXES]
    layers = [node for node in layers if _is_large(stored.get(node.input[1]))]
    convolutions = [node for node in layers if node.op_type == "Conv"]
    means = _channel_means(network, {node.input[0] for node in convolutions}, images)
    for node in layers:
        name = node.input[1]
        if name not in errors:  # else the layer is used twice
            axis = _OUTPUT_AXES[node.op_type]
            errors[name] = _quantize(graph, stored[name], axis, conversions)
    replaced = {name for node in convolutions for name in node.input[2:]}
    for node in convolutions:
        bias = stored[node.input[2]] if len(node.input) > 2 else None
        error, inputs = errors[node.input[1]], means[node.input[0]]
        graph.initializer.append(_corrected_bias(f"{node.output[0]}/bias", bias, error, inputs))
        node.input[2:] = [f"{node.output[0]}/bias"]
    used = {name for node in (*conversions, *graph.node) for name in node.input}
    for name in replaced - used:
        graph.initializer.remove(stored[name])
    for tensor in graph.initializer:
        _store_as_float16(tensor, conversions)
    nodes = [*conversions, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _quantize(graph: Any, tensor: Any, axis: int, conversions: list[Any]) -> np.ndarray:
    """Make a tensor int8, and append its conversion to float32; what rounding adds to it."""
    from onnx import TensorProto, helper, numpy_helper

    name, weights = tensor.name, numpy_helper.to_array(tensor)
    integers, scales = _round_to_int8(weights, axis)
    tensor.CopyFrom(numpy_helper.from_array(integers, f"{name}/int8"))
    graph.initializer.append(numpy_helper.from_array(scales, f"{name}/scales"))
    conversions += [
        helper.make_node("Cast", [f"{name}/int8"], [f"{name}/float32"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}/float32", f"{name}/scales"], [name]),
    ]
    return integers * scales - weights


def _store_as_float16(tensor: Any, conversions: list[Any]) -> None:
    """Make a float32 tensor float16, and append its conversion, if that costs little precision."""
    from onnx import TensorProto, helper, numpy_helper

    name = tensor.name
    if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < MIN_FLOAT16:
        return
    values = numpy_helper.to_array(tensor)
    largest, float16 = np.abs(values).max(), np.finfo(np.float16)
    if name.endswith("/scales") or not 1000 * float16.tiny < largest < float16.max:
        return
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}/float16"))
    conversions.append(helper.make_node("Cast", [f"{name}/float16"], [name], to=TensorProto.FLOAT))


def _is_large(tensor: Any) -> bool:
    from onnx import TensorProto

    return (
        tensor is not None
        and tensor.data_type == TensorProto.FLOAT
        and np.prod(tensor.dims) >= MIN_WEIGHTS
    )


def _round_to_int8(weights: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Integers -127..127, and float32 scales that broadcast along all axes but `axis`."""
    others = tuple(np.delete(np.arange(weights.ndim), axis))
    scales = np.abs(weights).max(others, keepdims=True) / np.float32(127)
    scales[scales == 0] = 1
    # a scale below the normal range of float32 may be rounded down
    return np.clip(np.rint(weights / scales), -127, 127).astype(np.int8), scales


def _channel_means(network: Any, names: Iterable[str], images: Any) -> dict[str, np.ndarray]:
    """The mean of each channel of intermediate results (n, channels, …) of the network."""
    import onnxruntime
    from onnx import ModelProto, TensorProto, helper

    names, probe = sorted(names), ModelProto()
    if not names:
        return {}
    probe.CopyFrom(network)
    probe.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=providers)
    pixels, images = session.get_inputs()[0].name, images[:CORRECTION_IMAGES]
    sums: list[Any] = [0.0] * len(names)
    for start in range(0, len(images), BATCH):
        for i, result in enumerate(session.run(names, {pixels: images[start : start + BATCH]})):
            sums[i] += result.mean(tuple(range(2, result.ndim)), dtype=float).sum(0)
    return {name: total / len(images) for name, total in zip(names, sums, strict=True)}


def _corrected_bias(name: str, bias: Any, error: np.ndarray, means: np.ndarray) -> Any:
    """A convolution's bias less what the rounding of its weights adds on average, as a tensor."""
    from onnx import numpy_helper

    groups = len(means) // error.shape[1]
    inputs = np.repeat(means.reshape(groups, -1), len(error) // groups, axis=0)
    shift = (error.sum(tuple(range(2, error.ndim))) * inputs).sum(1)
    old = numpy_helper.to_array(bias) if bias is not None else 0
    return numpy_helper.from_array((old - shift).astype(np.float32), name)
