"""ONNX files that would have a runtime read other files, or memory, are refused."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.inference.model_files import PRESET_FOLDER, PRESETS
from fashion_cnn.inference.onnx_check import MAX_DEPTH, reject_external_data
from fashion_cnn.inference.session import RUNTIMES

VALUES = np.arange(10, dtype="<f4")


def external_tensor(location):
    """A tensor of ten numbers whose data are at another location."""
    tensor = TensorProto(
        name="w", data_type=TensorProto.FLOAT, dims=[10], data_location=TensorProto.EXTERNAL
    )
    for key, value in (("location", location), ("offset", 0), ("length", VALUES.nbytes)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def model_with(tensor):
    """A model that `Classifier` would accept and whose output is `tensor`."""
    nodes = [
        helper.make_node("Cast", ["pixels"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["f"], ["g"]),
        helper.make_node("ReduceSum", ["g", "axis"], ["s"], keepdims=1),
        helper.make_node("Mul", ["s", "zero"], ["z"]),
        helper.make_node("Add", ["z", "w"], ["probabilities"]),
    ]
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", 28, 28, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 10])],
        [axis, zero, tensor],
    )
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    preset = onnx.load(PRESET_FOLDER / "textbook.onnx")
    card = next(entry.value for entry in preset.metadata_props if entry.key == "fashion_cnn")
    helper.set_model_props(model, {"fashion_cnn": card})
    return model


def serialize(model, tag, surplus=0):
    """A model with the field of its graph at the end, its tag and its length spelt as given."""
    graph = model.graph.SerializeToString()
    rest = onnx.ModelProto()
    rest.CopyFrom(model)
    rest.ClearField("graph")
    length, size = bytearray(), len(graph)
    while size:
        length.append(size & 127 | 128)
        size >>= 7
    length += bytes([128] * surplus)
    length[-1] &= 127
    return rest.SerializeToString() + tag + bytes(length) + graph


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    """Work in a folder with the file `other.bin`."""
    monkeypatch.chdir(tmp_path)
    VALUES.tofile("other.bin")
    return tmp_path


@pytest.mark.parametrize("where", ["initializer", "attribute", "subgraph", "training", "function"])
def test_external_data_is_refused_wherever_it_is(exported_run, in_folder, where):
    tensor = external_tensor(in_folder / "other.bin")
    model = onnx.load(exported_run.onnx_path)
    if where == "initializer":
        model.graph.initializer.append(tensor)
    elif where == "attribute":
        node = helper.make_node("Constant", [], ["w"])
        node.attribute.append(helper.make_attribute("value", tensor))
        model.graph.node.append(node)
    elif where == "training":
        model.training_info.add().algorithm.initializer.append(tensor)
    elif where == "function":
        attribute = helper.make_attribute("value", tensor)
        model.functions.add(name="f", domain="d").attribute_proto.append(attribute)
    else:
        inner = helper.make_graph([], "inner", [], [], [tensor])
        node = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
        model.graph.node.append(node)
    reject_external_data(exported_run.onnx_path.read_bytes(), "good")
    for runtime in RUNTIMES:
        with pytest.raises(ValueError, match="weights in other files"):
            Classifier(model.SerializeToString(), runtime=runtime)


@pytest.mark.parametrize(
    ("tag", "surplus"),
    [
        (b"\x3a", 0),
        (b"\x3a", 1),
        (b"\xba\x00", 0),
        (b"\xba\x80\x80\x80\x00", 0),
        (b"\xba\x80\x80\x80\x10", 0),  # above 32 bits, which the runtime drops
        (b"\xba\x80\x80\x80\x80\x80\x80\x80\x80\x01", 0),
    ],
)
def test_external_data_is_refused_however_the_graph_is_spelt(in_folder, tag, surplus):
    good = model_with(helper.make_tensor("w", TensorProto.FLOAT, [10], VALUES))
    assert Classifier(serialize(good, b"\x3a")).shape == (28, 28, 1)
    content = serialize(model_with(external_tensor("other.bin")), tag, surplus)
    for runtime in RUNTIMES:
        with pytest.raises(ValueError, match="not a valid model"):
            Classifier(content, runtime=runtime)


@pytest.mark.parametrize("folder", [".", "../" * 40])
def test_the_runtime_itself_finds_no_other_file(in_folder, monkeypatch, folder):
    """A second barrier. Absolute paths and memory are left to the first: see decision 12."""
    monkeypatch.setattr("fashion_cnn.inference.session.reject_external_data", lambda *_: None)
    path = "other.bin" if folder == "." else f"{folder}{in_folder}/other.bin"
    with pytest.raises(ValueError, match="not a valid model"):
        Classifier(model_with(external_tensor(path)).SerializeToString())


@pytest.mark.parametrize("checked", [True, False])
def test_the_runtimes_own_format_is_refused(tmp_path, monkeypatch, checked):
    """`reject_external_data` does not know it, and a file could be both."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    providers = ["CPUExecutionProvider"]
    onnxruntime.InferenceSession(PRESET_FOLDER / "textbook.onnx", options, providers=providers)
    content = (tmp_path / "model.ort").read_bytes()
    onnxruntime.InferenceSession(content, providers=providers)  # accepted by default
    if not checked:
        name = "fashion_cnn.inference.session.reject_external_data"
        monkeypatch.setattr(name, lambda *_: None)
    for runtime in RUNTIMES:
        with pytest.raises(ValueError, match="not a valid model"):
            Classifier(content, runtime=runtime)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x38\x00", "field 7 of ModelProto has wire type 0"),
        (b"\x3b\x3c", "field 7 of ModelProto has wire type 3"),  # a group
        (b"\x4a\x00", "unknown field 9 of ModelProto"),
        (b"\x00\x00", "unknown field 0 of ModelProto"),
        (b"\x08" + b"\x80" * 10 + b"\x01", "more than 64 bits"),
        (b"\x08\x80\x00", "surplus bytes"),
        (b"\x3a\x05\x00", "truncated"),
        (b"\x3a\x06\x2a\x04\x70\x80\x80\x10", "weights in other files"),  # location 2**18
    ],
)
def test_unusual_protocol_buffers_are_refused(content, message):
    with pytest.raises(ValueError, match=f"^model: not a valid model .*{message}"):
        reject_external_data(content, "model")


def test_nesting_is_limited():
    graph = onnx.GraphProto()
    for _ in range(MAX_DEPTH):
        outer = onnx.GraphProto()
        outer.node.add().attribute.add().g.CopyFrom(graph)
        graph = outer
    with pytest.raises(ValueError, match="nested messages"):
        reject_external_data(onnx.ModelProto(graph=graph).SerializeToString(), "model")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_accepted(name):
    content = (PRESET_FOLDER / f"{name}.onnx").read_bytes()
    assert reject_external_data(content, name) is None
