"""Weights of a backbone from exported models: what is read, and what the network computes."""

import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fashion_cnn import RECIPES, train
from fashion_cnn.data import Data
from fashion_cnn.export.onnx import add_card
from fashion_cnn.export.w8 import write_w8
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.keras_setup import keras
from fashion_cnn.models import build_model
from fashion_cnn.models.onnx_weights import read_convolutions
from fashion_cnn.recipe import with_settings
from fashion_cnn.training.features import backbone_sha256

RNG = np.random.default_rng(0)
LITE0 = {"backbone": "efficientnet_lite0", "min_size": 32}


def onnx_file(nodes, tensors):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    return helper.make_model(graph).SerializeToString()


def test_scales_and_shifts_are_collected_and_small_numbers_converted():
    integers = RNG.integers(-127, 128, (4, 3, 1, 1)).astype(np.int8)
    scales = RNG.uniform(1, 2, (4, 1, 1, 1)).astype(np.float32)
    bias, factor, summand = RNG.uniform(1, 2, (3, 4)).astype(np.float32)
    tensors = {"integers": integers, "scales": scales, "bias/float16": bias.astype(np.float16)}
    tensors |= {"factor": factor.reshape(1, 4, 1, 1), "summand": summand.reshape(4, 1, 1)}
    nodes = [
        helper.make_node("Cast", ["integers"], ["float32"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["scales", "float32"], ["kernel"]),
        helper.make_node("Cast", ["bias/float16"], ["bias"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "factor"], ["before"]),
        helper.make_node("Conv", ["before", "kernel", "bias"], ["a"]),
        helper.make_node("Mul", ["factor", "a"], ["b"]),
        helper.make_node("Add", ["b", "summand"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Add", ["d", "summand"], ["e"]),
        helper.make_node("Conv", ["e", "x"], ["f"]),
        helper.make_node("Add", ["e", "f"], ["y"]),
    ]
    (kernel, scale, shift), (computed, _, _) = read_convolutions(onnx_file(nodes, tensors))
    np.testing.assert_array_equal(kernel, integers * scales)
    np.testing.assert_array_equal(scale, factor)
    expected = bias.astype(np.float16).astype(np.float32) * factor + summand
    np.testing.assert_array_equal(shift, expected)
    assert computed.size == 0
    with pytest.raises(ValueError, match="broadcast"):
        read_convolutions(onnx_file(nodes, {**tensors, "summand": np.zeros((5, 1, 1), np.float32)}))


def shades(size, channels=3):
    """Three classes by brightness, in noise."""
    labels = np.arange(30) % 3
    images = RNG.integers(0, 60, (30, size, size, channels), dtype=np.uint8)
    images[np.arange(30), :, :, labels % channels] += np.uint8(60) * labels[:, None, None].astype(
        "u1"
    )
    return Data(images[:21], labels[:21], images[21:], labels[21:], ("dark", "gray", "light"))


@pytest.fixture(scope="module")
def lite0(tmp_path_factory):
    """A random network, with unusual statistics, as the path of its `onnx-w8` export."""
    keras.utils.set_random_seed(0)
    model = build_model("transfer", (48, 40, 3), 3, {**LITE0, "weights": "none"})
    images = RNG.integers(0, 256, (8, 48, 40, 3), dtype=np.uint8)
    normalizations = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    for layer in normalizations:
        layer.momentum = 0.0
    model(images, training=True)  # the statistics are now those of these images
    for layer in normalizations:
        gamma, beta, *statistics = layer.get_weights()
        # more would amplify rounding from layer to layer, beyond any tolerance
        gamma, beta = RNG.uniform(0.5, 1.2, gamma.shape), RNG.uniform(-0.2, 0.8, beta.shape)
        layer.set_weights([gamma, beta, *statistics])
    path = tmp_path_factory.mktemp("lite0") / "lite0.onnx"
    write_w8(model, path, images)
    size = {"height": 48, "width": 40, "channels": 3}
    add_card(path, {"class_names": ["a", "b", "c"], "input": size})
    return path


def onnx_features(content, images):
    """What the pooling layer of an exported network computes."""
    model = onnx.load_model_from_string(content)
    pooled = next(x.output[0] for x in model.graph.node if x.op_type == "GlobalAveragePool")
    model.graph.output.append(helper.make_tensor_value_info(pooled, TensorProto.FLOAT, None))
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=providers)
    return session.run([pooled], {session.get_inputs()[0].name: images})[0][:, :, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["lite0", "clothes"])
def test_the_restored_backbone_computes_the_features_of_the_file(weights, lite0):
    weights = str(lite0) if weights == "lite0" else weights
    backbone = "efficientnet_lite2" if weights == "clothes" else "efficientnet_lite0"
    classifier = Classifier.load(weights)
    images = RNG.integers(0, 256, (3, *classifier.shape), dtype=np.uint8)
    options = {"backbone": backbone, "min_size": 32, "weights": weights}
    model = build_model("transfer", classifier.shape, 5, options)
    expected = onnx_features(classifier.content, images)
    actual = keras.Model(model.inputs[0], model.get_layer("features").output)(images)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4 * expected.max())
    assert expected.std(0).max() > 0.01  # the features depend on the image
    norms = np.linalg.norm(model.get_layer("top").get_weights()[0], axis=2)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)
    gamma = model.get_layer("top_bn").get_weights()[0]
    assert (gamma > 0).all() and gamma.std() > 0


@pytest.mark.slow
def test_a_run_from_an_exported_backbone_is_resumed(lite0, tmp_path):
    """On gray pictures of another size, through both phases."""
    recipe = with_settings(
        RECIPES["efficientnet"],
        {"backbone": "efficientnet_lite0", "weights": str(lite0), "min_size": "32", "epochs": "3"},
    )
    recipe = replace(recipe, head_epochs=1, batch_size=7, augment=(), fine_tune_rate=0.001)
    data = shades(24, channels=1)

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, tmp_path / "run", callbacks=[Stop()])
    trained = train(recipe, data, tmp_path / "run", resume=True)
    assert len(trained.history) == 3
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    start = build_model("transfer", data.image_shape, 3, recipe.options)
    assert environment["backbone_sha256"] == backbone_sha256(start)
    tuned = trained.model.get_layer("top").get_weights()[0]
    assert 0 < np.abs(tuned - start.get_layer("top").get_weights()[0]).max() < 0.1


def test_other_networks_are_refused():
    backbone = {"backbone": "efficientnet_lite2"}
    message = "standard: weights of compact; got the backbone "
    with pytest.raises(ValueError, match=message + "efficientnet_lite2; expected imagenet, none"):
        with_settings(RECIPES["efficientnet"], {"weights": "standard"})
    with pytest.raises(ValueError, match=message + "mobilenet; expected imagenet, none"):
        build_model("transfer", (32, 32, 3), 3, {"weights": "standard"})
    with pytest.raises(FileNotFoundError, match="no model; expected a run folder"):
        build_model("transfer", (32, 32, 3), 3, {**backbone, "weights": "none.onnx"})


@pytest.mark.slow
def test_a_file_of_another_variant_is_refused(lite0):
    options = {"backbone": "efficientnet_lite2", "weights": str(lite0), "min_size": 32}
    message = r"lite0\.onnx: not weights of EfficientNet-Lite2 \(at block_3_depthwise\)"
    with pytest.raises(ValueError, match=message):
        build_model("transfer", (32, 32, 3), 3, options)


def test_clothes_is_refused_for_another_backbone():
    with pytest.raises(ValueError, match="clothes: weights of efficientnet_lite2; got the backb"):
        with_settings(RECIPES["mobilenet"], {"weights": "clothes"})
