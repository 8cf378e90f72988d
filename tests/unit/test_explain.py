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

SETTINGS = {"batch_size": 20, "augment": (), "label_smoothing": 0.0}
SMALL_RECIPES = {
    "textbook": replace(RECIPES["textbook"], epochs=3, **SETTINGS),
    "sprint": replace(RECIPES["sprint"], epochs=8, options={"width": 8, "hidden": 16}, **SETTINGS),
    "marathon": replace(RECIPES["marathon"], epochs=8, options={"width": 8}, **SETTINGS),
}


@pytest.fixture(scope="module")
def striped_patches():
    """Images, labels, and the corner of a patch striped vertically in class 1, else horizontally.

    The rest of each image is noise, so only the patch distinguishes the classes. A network may
    recognize one class by missing evidence for the other, but not both.
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
@pytest.mark.parametrize("kind", [*SMALL_RECIPES, "own"])
def test_gradcam_locates_the_patch(striped_patches, kind):
    images, labels, corners = striped_patches
    recipe = SMALL_RECIPES.get(
        kind, replace(SMALL_RECIPES["textbook"], epochs=8, learning_rate=0.02)
    )
    data = as_data(((images, labels), (images[:40], labels[:40])))
    model = train(recipe, data, **(own_network() if kind == "own" else {})).model
    assert (predict(model, images).argmax(1) == labels).mean() > 0.97
    heat = gradcam(model, images[:80], labels[:80])
    assert (heat.shape, heat.dtype) == ((80, 28, 28), np.float32)
    assert heat.min() >= 0 and heat.max() <= 1
    assert max(count_located(heat[k:80:2], corners[k:80:2]) for k in (0, 1)) >= 32


def count_located(heat, corners):
    """How many heat maps are more than twice as strong in and around the patch as elsewhere."""
    count = 0
    for heat_map, (row, column) in zip(heat, corners, strict=True):
        near = np.zeros(heat_map.shape, bool)
        near[max(0, row - 3) : row + 11, max(0, column - 3) : column + 11] = True
        count += heat_map[near].mean() > 2 * heat_map[~near].mean()
    return count


def test_the_model_is_not_changed(striped_patches):
    model = flip_averaged(build_model("textbook", (28, 28, 1), 2))
    images = striped_patches[0][:5, ..., np.newaxis]
    before = np.asarray(model(images))
    gradcam(model, images, np.zeros(5, int))
    embeddings(model, images)
    np.testing.assert_array_equal(np.asarray(model(images)), before)


@pytest.mark.parametrize("end", ["dense", "layer"])
def test_gradcam_does_not_vanish_at_a_probability_of_one(striped_patches, end):
    layers = keras.layers
    pixels = keras.Input((28, 28, 1), dtype="uint8")
    x = layers.Conv2D(4, 3, activation="relu")(layers.Rescaling(1.0)(pixels))
    bias = keras.initializers.Constant([1000, 0])
    activation = "softmax" if end == "dense" else None
    x = layers.Flatten()(x)
    x = layers.Dense(2, activation, bias_initializer=lambda *_, **__: bias((2,)))(x)
    model = keras.Model(pixels, x if end == "dense" else layers.Softmax()(x))
    images = striped_patches[0][:50]
    probabilities = predict(model, images)
    assert probabilities.max(1).min() > 1 - 1e-6
    assert (gradcam(model, images, probabilities.argmax(1)).max((1, 2)) == 1).all()


def test_gradcam_refuses_a_network_without_feature_maps():
    pixels = keras.Input((28, 28, 1), dtype="uint8")
    flat = keras.layers.Dense(2, "softmax")(keras.layers.Flatten()(pixels))
    with pytest.raises(ValueError, match="no activated feature map"):
        gradcam(keras.Model(pixels, flat), np.zeros((2, 28, 28), np.uint8), np.zeros(2, int))


@pytest.mark.parametrize("wrap", [lambda model: model, flip_averaged])
def test_embeddings_are_the_inputs_of_the_last_layer(striped_patches, wrap):
    inner = build_model("textbook", (28, 28, 1), 2)
    vectors = embeddings(wrap(inner), striped_patches[0][:150])
    assert (vectors.shape, vectors.dtype) == ((150, 128), np.float32)
    kernel, bias = inner.layers[-1].get_weights()
    powers = np.exp(vectors @ kernel + bias)
    expected = powers / powers.sum(1, keepdims=True)
    np.testing.assert_allclose(predict(inner, striped_patches[0][:150]), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(60, 128), (60, 1), (3, 5), (1, 5), (5, 60)])
@pytest.mark.parametrize("constant", [False, True])
def test_the_map_of_few_or_constant_embeddings(shape, constant):
    vectors = np.random.default_rng(0).normal(size=shape) * (not constant)
    positions = embedding_map(vectors.astype(np.float32))
    assert positions.shape == (shape[0], 2)
    assert np.isfinite(positions).all()


def test_the_map_preserves_neighbors():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.eye(3) * 20, 30, axis=0)
    vectors = np.concatenate([clusters, np.zeros((90, 60))], 1) + rng.normal(0, 1, (90, 63))
    positions = embedding_map(vectors.astype(np.float32))
    assert positions.shape == (90, 2)
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=2) + 1e9 * np.eye(90)
    assert (distances.argmin(1) // 30 == np.arange(90) // 30).all()
