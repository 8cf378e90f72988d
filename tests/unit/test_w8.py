"""Weights of 8 bits: the file, and what ONNX Runtime computes with it."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fashion_cnn.export.w8 import quantize_weights
from fashion_cnn.inference.classifier import PRESET_FOLDER, Classifier

RNG = np.random.default_rng(0)


def small_network():
    """A depthwise and a pointwise convolution and a dense layer, with unusual channels."""
    depthwise = RNG.normal(size=(128, 1, 3, 3)).astype(np.float32)
    depthwise *= np.logspace(-6, 6, 128, dtype=np.float32).reshape(-1, 1, 1, 1)
    depthwise[0] = 0
    depthwise[1] = 2e-43  # below the normal range of float32, as of a channel that died
    pointwise = RNG.normal(size=(64, 128, 1, 1)).astype(np.float32)
    dense = RNG.normal(size=(64, 20)).astype(np.float32) * np.arange(1, 21, dtype=np.float32)
    bias = np.ones(2000, np.float32)
    small = np.ones((20, 3), np.float32)
    weights = {"depthwise": depthwise, "pointwise": pointwise, "dense": dense}
    others = {"bias": bias, "small": small}
    nodes = [
        helper.make_node("Conv", ["x", "depthwise"], ["a"], group=128),
        helper.make_node("Conv", ["a", "pointwise"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "dense"], ["e"]),
        helper.make_node("MatMul", ["e", "small"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 128, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(value, name) for name, value in {**weights, **others}.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    return model, weights


def tensors(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_each_output_channel_has_a_scale_and_is_rounded_to_nearest():
    model, weights = small_network()
    quantize_weights(model)
    onnx.checker.check_model(model, full_check=True)
    stored = tensors(model)
    shapes = {"depthwise": (128, 1, 1, 1), "pointwise": (64, 1, 1, 1), "dense": (1, 20)}
    for name, shape in shapes.items():
        integers, scales = stored[f"{name}/int8"], stored[f"{name}/scales"]
        assert integers.dtype == np.int8 and scales.dtype == np.float32 and scales.shape == shape
        assert name not in stored and np.abs(integers.astype(int)).max() == 127
        error = np.abs(integers * scales.astype(float) - weights[name])
        # half a step; a dead channel, whose scale cannot be exact, may be off by the smallest float
        assert (error <= 0.5001 * scales + 127 * 1.5e-45).all()
    assert stored["bias"].dtype == stored["small"].dtype == np.float32
    assert not stored["depthwise/int8"][0].any()


def rounded_in_numpy(model):
    """The same network with float32 weights that were rounded to 8 bits here."""
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.dtype == np.float32 and weights.size >= 1024:
            others = (1, 2, 3) if weights.ndim == 4 else (0,)
            scales = np.abs(weights).max(others, keepdims=True) / np.float32(127)
            rounded = np.rint(weights / scales) * scales
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    return model


def optimized_operators(model, path):
    """How often each operator is in the graph that ONNX Runtime runs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path)
    providers = ["CPUExecutionProvider"]
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("name", ["textbook", "standard"])
def test_the_runtime_computes_as_with_float32_weights_that_were_rounded(name, tmp_path):
    """It folds the conversion when it loads the file, and uses no kernels of lower precision."""
    path = PRESET_FOLDER / f"{name}.onnx"
    exact, rounded, quantized = onnx.load(path), rounded_in_numpy(onnx.load(path)), onnx.load(path)
    quantize_weights(quantized)
    operators = [optimized_operators(x, tmp_path / "x.onnx") for x in (rounded, quantized)]
    assert operators[0] == operators[1]
    images = RNG.integers(0, 256, (50, 28, 28, 1), dtype=np.uint8)
    models = (exact, rounded, quantized)
    before, expected, actual = (
        Classifier(x.SerializeToString()).probabilities(images) for x in models
    )
    np.testing.assert_array_equal(actual, expected)
    assert np.abs(actual - before).max() > 1e-4  # else the comparison would show nothing
    assert quantized.ByteSize() < exact.ByteSize() / 3.5
    assert json_card(quantized) == json_card(exact)


def json_card(model):
    return {entry.key: entry.value for entry in model.metadata_props}


@pytest.mark.parametrize("change", ["more integers", "fewer integers", "scales of another axis"])
def test_damaged_weights_are_refused(change):
    model = onnx.load(PRESET_FOLDER / "textbook.onnx")
    quantize_weights(model)
    integers = next(x for x in model.graph.initializer if x.name.endswith("/int8"))
    scales = next(x for x in model.graph.initializer if x.name.endswith("/scales"))
    if change == "scales of another axis":
        scales.dims[:] = [1, *scales.dims[:0:-1], scales.dims[0]]
    else:
        integers.dims[0] = 1 << 40 if change == "more integers" else 1
    with pytest.raises(ValueError, match="not a valid model"):
        Classifier(model.SerializeToString())
