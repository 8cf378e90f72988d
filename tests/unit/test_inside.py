from dataclasses import replace

import numpy as np
import pytest

from fashion_cnn import train
from fashion_cnn.data import as_data
from fashion_cnn.evaluation import predict
from fashion_cnn.evaluation.explain import embedding_map, embeddings, gradcam
from fashion_cnn.keras_setup import keras
from fashion_cnn.models import build_model
from fashion_cnn.models.wrappers import flip_averaged
from fashion_cnn.recipes import RECIPES

FEW = {"batch_size": 20, "augment": (), "label_smoothing": 0.0}
SMALL = {
    "textbook": replace(RECIPES["textbook"], epochs=3, **FEW),
    "sprint": replace(RECIPES["sprint"], epochs=8, options={"width": 8, "hidden": 16}, **FEW),
    "marathon": replace(RECIPES["marathon"], epochs=8, options={"width": 8}, **FEW),
}


@pytest.fixture(scope="module")
def planted():
    """Noise with a patch, striped upright in class 1 and across in class 0, whose places are given.

    All that tells the classes apart is in the patch. A network may know one of them by what is not
    there, so that nothing speaks for it; for the other something must.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (600, 28, 28), dtype=np.uint8)
    labels = np.arange(600) % 2
    corners = rng.integers(2, 18, (600, 2))
    for image, label, (row, column) in zip(images, labels, corners, strict=True):
        patch = image[row : row + 8, column : column + 8]
        (patch.T if label else patch)[::4] = (patch.T if label else patch)[1::4] = 250
    return images, labels, corners


def own_network():
    inner = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(8, 5, activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
            keras.layers.Softmax(),
        ]
    )
    return {"model": inner, "scale": "0..1"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*SMALL, "own"])
def test_gradcam_finds_a_planted_patch(planted, kind):
    images, labels, corners = planted
    recipe = SMALL.get(kind, replace(SMALL["textbook"], epochs=8, learning_rate=0.02))
    data = as_data(((images, labels), (images[:40], labels[:40])))
    model = train(recipe, data, **(own_network() if kind == "own" else {})).model
    assert (predict(model, images).argmax(1) == labels).mean() > 0.97
    heat = gradcam(model, images[:80], labels[:80])
    assert (heat.shape, heat.dtype) == ((80, 28, 28), np.float32)
    assert heat.min() >= 0 and heat.max() <= 1
    assert max(found(heat[k:80:2], corners[k:80:2]) for k in (0, 1)) >= 32


def found(heat, corners):
    """How many maps are at least twice as warm in the patch and beside it as elsewhere."""
    count = 0
    for warm, (row, column) in zip(heat, corners, strict=True):
        near = np.zeros(warm.shape, bool)
        near[max(0, row - 3) : row + 11, max(0, column - 3) : column + 11] = True
        count += warm[near].mean() > 2 * warm[~near].mean()
    return count


def test_the_network_is_left_as_it_was(planted):
    model = flip_averaged(build_model("textbook", (28, 28, 1), 2))
    images = planted[0][:5, ..., np.newaxis]
    before = np.asarray(model(images))
    gradcam(model, images)
    embeddings(model, images)
    np.testing.assert_array_equal(np.asarray(model(images)), before)


@pytest.mark.parametrize("end", ["dense", "layer"])
def test_a_network_that_is_certain_still_has_heat(planted, end):
    layers = keras.layers
    pixels = keras.Input((28, 28, 1), dtype="uint8")
    x = layers.Conv2D(4, 3, activation="relu")(layers.Rescaling(1.0)(pixels))
    sure = keras.initializers.Constant([1000, 0])
    kind = "softmax" if end == "dense" else None
    x = layers.Dense(2, kind, bias_initializer=lambda *_, **__: sure((2,)))(layers.Flatten()(x))
    model = keras.Model(pixels, x if end == "dense" else layers.Softmax()(x))
    assert predict(model, planted[0][:50]).max(1).min() > 1 - 1e-6
    assert (gradcam(model, planted[0][:50]).max((1, 2)) == 1).all()


def test_a_network_without_a_map_is_refused():
    pixels = keras.Input((28, 28, 1), dtype="uint8")
    flat = keras.layers.Dense(2, "softmax")(keras.layers.Flatten()(pixels))
    with pytest.raises(ValueError, match="no map of places"):
        gradcam(keras.Model(pixels, flat), np.zeros((2, 28, 28), np.uint8))


@pytest.mark.parametrize("make", [lambda model: model, flip_averaged])
def test_embeddings_are_what_the_last_layer_sees(planted, make):
    inner = build_model("textbook", (28, 28, 1), 2)
    found = embeddings(make(inner), planted[0][:150])
    assert (found.shape, found.dtype) == ((150, 128), np.float32)
    kernel, bias = inner.layers[-1].get_weights()
    scores = np.exp(found @ kernel + bias)
    expected = scores / scores.sum(1, keepdims=True)
    np.testing.assert_allclose(predict(inner, planted[0][:150]), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(60, 128), (60, 1), (3, 5), (1, 5), (5, 60)])
@pytest.mark.parametrize("alive", [True, False])
def test_a_map_of_little_or_nothing(shape, alive):
    vectors = np.random.default_rng(0).normal(size=shape) * alive
    places = embedding_map(vectors.astype(np.float32))
    assert places.shape == (shape[0], 2)
    assert np.isfinite(places).all()


def test_the_map_keeps_neighbours():
    rng = np.random.default_rng(0)
    heaps = np.repeat(np.eye(3) * 20, 30, axis=0)
    vectors = np.concatenate([heaps, np.zeros((90, 60))], 1) + rng.normal(0, 1, (90, 63))
    places = embedding_map(vectors.astype(np.float32))
    assert places.shape == (90, 2)
    distances = np.linalg.norm(places[:, None] - places[None], axis=2) + 1e9 * np.eye(90)
    assert (distances.argmin(1) // 30 == np.arange(90) // 30).all()
