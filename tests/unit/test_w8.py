"""Weights of 8 bits: the file, and what ONNX Runtime computes with it."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fashion_cnn.export import w8
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.inference.model_files import PRESET_FOLDER

RNG = np.random.default_rng(0)
POSITIVE = np.abs(RNG.normal(1, 0.3, (20, 128, 8, 8))).astype(np.float32)
BIAS = np.linspace(-1, 1, 64, dtype=np.float32)


def small_network():
    """A depthwise and a pointwise convolution and a dense layer, with unusual channels."""
    depthwise = RNG.normal(size=(128, 1, 3, 3)).astype(np.float32)
    depthwise *= np.logspace(-6, 6, 128, dtype=np.float32).reshape(-1, 1, 1, 1)
    depthwise[0] = 0
    depthwise[1] = 2e-43  # below the normal range of float32, as of a channel that died
    pointwise = RNG.normal(size=(64, 128, 1, 1)).astype(np.float32)
    dense = RNG.normal(size=(64, 20)).astype(np.float32) * np.arange(1, 21, dtype=np.float32)
    small = np.ones((20, 3), np.float32)
    weights = {"depthwise": depthwise, "pointwise": pointwise, "dense": dense}
    others = {"bias": BIAS, "small": small}
    nodes = [
        helper.make_node("Conv", ["x", "depthwise"], ["a"], group=128),
        helper.make_node("Conv", ["a", "pointwise", "bias"], ["b"]),
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


@pytest.fixture
def quantize_all(monkeypatch):
    """Also quantize the tensors of a small network."""
    monkeypatch.setattr(w8, "MIN_WEIGHTS", 1024)


def test_each_output_channel_has_a_scale_and_is_rounded_to_nearest(quantize_all):
    model, weights = small_network()
    w8.quantize_weights(model, POSITIVE)
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
    assert stored["small"].dtype == np.float32 and "bias" not in stored
    assert not stored["depthwise/int8"][0].any()


def run(model, names, images):
    """Outputs and intermediate results of a model."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=providers)
    return session.run(names, {"x": images})


def test_biases_keep_the_mean_of_each_channel(quantize_all):
    """Of a depthwise convolution without a bias, and of a pointwise one with a bias."""
    exact, quantized = small_network()[0], onnx.ModelProto()
    quantized.CopyFrom(exact)
    w8.quantize_weights(quantized, POSITIVE)
    uncorrected = onnx.ModelProto()
    uncorrected.CopyFrom(quantized)
    uncorrected.graph.initializer.append(numpy_helper.from_array(BIAS, "bias"))
    for node in uncorrected.graph.node:
        if node.op_type == "Conv":
            node.input[2:] = ["bias"] if node.input[1] == "pointwise" else []
    for name in "ab":
        expected, before, after = (
            run(model, [name], POSITIVE)[0].mean((0, 2, 3), dtype=float)
            for model in (exact, uncorrected, quantized)
        )
        with np.errstate(divide="ignore", invalid="ignore"):  # channels of zeros
            share = np.abs(after - expected) / np.abs(before - expected)
        assert np.nanmedian(share) < 1 / 3


def test_small_tensors_are_stored_as_float16_unless_that_is_too_coarse():
    values = {"kept": 1e6 * RNG.normal(size=200), "tiny": 1e-6 * RNG.normal(size=200)}
    values |= {"few": RNG.normal(size=50), "halved": RNG.normal(size=200)}
    values = {name: array.astype(np.float32) for name, array in values.items()}
    names = list(values)
    nodes = [
        helper.make_node("Add", [x, name], [f"{name}/sum"])
        for x, name in zip(["x"] * 4, names, strict=True)
    ]
    shapes = {name: array.shape for name, array in values.items()}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [
            helper.make_tensor_value_info(f"{name}/sum", TensorProto.FLOAT, shape)
            for name, shape in shapes.items()
        ],
        [numpy_helper.from_array(array, name) for name, array in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    w8.quantize_weights(model, POSITIVE)
    onnx.checker.check_model(model, full_check=True)
    stored = tensors(model)
    assert set(stored) == {"kept", "tiny", "few", "halved/float16"}
    outputs = dict(
        zip(names, run(model, [f"{x}/sum" for x in names], np.zeros(1, "f")), strict=True)
    )
    for name in ("kept", "tiny", "few"):
        np.testing.assert_array_equal(outputs[name], values[name])
    expected = values["halved"].astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(outputs["halved"], expected)


def with_float32_weights(quantized):
    """The same network, with the weights converted to float32 here and not by the runtime."""
    model = onnx.ModelProto()
    model.CopyFrom(quantized)
    stored = tensors(model)
    for tensor in model.graph.initializer:
        name, _, kind = tensor.name.rpartition("/")
        if kind in ("int8", "float16"):
            weights = stored[tensor.name].astype(np.float32) * stored.get(f"{name}/scales", 1)
            tensor.CopyFrom(numpy_helper.from_array(weights, name))
    nodes = [node for node in model.graph.node if not is_conversion(node)]
    of_8_bits, of_16_bits = (sum(x in name for name in stored) for x in ("/int8", "/float16"))
    assert len(model.graph.node) - len(nodes) == 2 * of_8_bits + of_16_bits and of_8_bits > 0
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def is_conversion(node):
    return any(name.endswith(("/int8", "/scales", "/float16")) for name in node.input)


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
    images = RNG.integers(0, 256, (50, 28, 28, 1), dtype=np.uint8)
    exact, quantized = (onnx.load(PRESET_FOLDER / f"{name}.onnx") for _ in range(2))
    w8.quantize_weights(quantized, images)
    rounded = with_float32_weights(quantized)
    operators = [optimized_operators(x, tmp_path / "x.onnx") for x in (rounded, quantized)]
    assert operators[0] == operators[1]
    before, expected, actual = (
        Classifier(x.SerializeToString()).probabilities(images) for x in (exact, rounded, quantized)
    )
    np.testing.assert_array_equal(actual, expected)
    assert np.abs(actual - before).max() > 1e-4  # else the comparison would show nothing
    assert quantized.ByteSize() < exact.ByteSize() / 3
    assert json_card(quantized) == json_card(exact)


def json_card(model):
    return {entry.key: entry.value for entry in model.metadata_props}


@pytest.mark.parametrize("change", ["more integers", "fewer integers", "scales of another axis"])
def test_damaged_weights_are_refused(change):
    model = onnx.load(PRESET_FOLDER / "textbook.onnx")
    w8.quantize_weights(model, np.zeros((1, 28, 28, 1), np.uint8))
    integers = next(x for x in model.graph.initializer if x.name.endswith("/int8"))
    scales = next(x for x in model.graph.initializer if x.name.endswith("/scales"))
    if change == "scales of another axis":
        scales.dims[:] = [1, *scales.dims[:0:-1], scales.dims[0]]
    else:
        integers.dims[0] = 1 << 40 if change == "more integers" else 1
    with pytest.raises(ValueError, match="not a valid model"):
        Classifier(model.SerializeToString())
