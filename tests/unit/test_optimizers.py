import dataclasses
import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from command import jax_environment

from fashion_cnn import RECIPES
from fashion_cnn.keras_setup import keras
from fashion_cnn.training.optimizers import make_optimizer
from fashion_cnn.training.phases import compile_model
from fashion_cnn.training.steps import compile_steps

PLAIN = dataclasses.replace(
    RECIPES["sprint"], momentum=0.0, weight_decay=0.0, schedule="constant", learning_rate=0.1
)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (32, 8, 8, 1), np.uint8)
LABELS = (np.arange(32) % 4).astype(np.int32)
NAMES = ("kernel", "bias", "head", "head bias")


def one_step(weights=None, **changes):
    """The change of each weight in one step from some weights, and these weights."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    x = pixels = keras.Input((8, 8, 1), dtype="uint8")
    for layer in (layers.Rescaling(1 / 255), layers.Conv2D(6, 3), layers.ReLU(), layers.Flatten()):
        x = layer(x)
    model = keras.Model(pixels, layers.Dense(4, activation="softmax")(x))
    model.set_weights(weights or model.get_weights())
    before = model.get_weights()
    model = compile_model(model, dataclasses.replace(PLAIN, **changes), 0.1, 10)
    compile_steps(model, len(LABELS))(IMAGES, LABELS)
    changes = [a - b for a, b in zip(model.get_weights(), before, strict=True)]
    return dict(zip(NAMES, changes, strict=True)), before


def test_cosine_warms_up_linearly_and_falls_along_a_cosine():
    recipe = dataclasses.replace(PLAIN, schedule="cosine", warmup=0.2)
    schedule = make_optimizer(recipe, 1000)._learning_rate
    rates = [float(schedule(step)) for step in (0, 50, 100, 200, 400, 600, 999)]
    falling = 0.05 * (1 + np.cos(np.pi / 4))
    np.testing.assert_allclose(rates, [0, 0.025, 0.05, 0.1, falling, 0.05, 0], atol=5e-4)


def test_biases_have_a_rate_of_their_own():
    plain, _ = one_step()
    scaled, _ = one_step(bias_rate=3.0)
    for name, factor in (("kernel", 1), ("bias", 3), ("head", 1), ("head bias", 3)):
        np.testing.assert_allclose(scaled[name], factor * plain[name], rtol=1e-4, atol=1e-7)
    assert np.abs(plain["bias"]).max() > 1e-4


def test_muon_makes_the_step_of_a_convolution_orthogonal():
    plain, _ = one_step()
    muon, _ = one_step(optimizer="muon")
    for name in ("bias", "head", "head bias"):
        np.testing.assert_allclose(muon[name], plain[name], rtol=1e-4, atol=1e-7)
    matrix = muon["kernel"].reshape(9, 6)
    singular = np.linalg.svd(matrix, compute_uv=False)
    assert 0.05 < singular.min() < singular.max() < 0.13  # about the learning rate
    # the same singular vectors as the plain step
    u, _, v = np.linalg.svd(plain["kernel"].reshape(9, 6), full_matrices=False)
    rotated = u.T @ matrix @ v.T
    np.testing.assert_allclose(rotated, np.diag(np.diag(rotated)), atol=1e-4)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sharpness_aware_steps_take_the_gradient_further_uphill(momentum):
    """Against two plain steps: the first gives the direction, the second the gradient there."""
    plain, start = one_step()
    radius = 0.5
    gradients = {name: -step / 0.1 for name, step in plain.items()}
    norm = np.sqrt(sum(float((x**2).sum()) for x in gradients.values()))
    moved = [w + radius / norm * g for w, g in zip(start, gradients.values(), strict=True)]
    sam, _ = one_step(sam=radius, momentum=momentum)
    expected, _ = one_step(moved, momentum=momentum)
    for name in NAMES:
        np.testing.assert_allclose(sam[name], expected[name], rtol=1e-3, atol=1e-6)
    assert np.abs(sam["head"] - plain["head"]).max() > 1e-3


def test_sharpness_aware_steps_move_statistics_and_seeds_once():
    def state_after_a_step(sam):
        keras.utils.set_random_seed(0)
        layers = keras.layers
        x = pixels = keras.Input((8, 8, 1), dtype="uint8")
        for layer in (layers.Rescaling(1 / 255), layers.BatchNormalization(), layers.Flatten()):
            x = layer(x)
        outputs = layers.Dense(4, activation="softmax")(layers.Dropout(0.5)(x))
        model = compile_model(
            keras.Model(pixels, outputs), dataclasses.replace(PLAIN, sam=sam), 0.1, 10
        )
        compile_steps(model, len(LABELS), split_batch=False)(IMAGES, LABELS)
        return [np.asarray(v) for v in model.non_trainable_variables], model.get_weights()

    plain, weights = state_after_a_step(0.0)
    sam, sam_weights = state_after_a_step(2.0)
    assert len(plain) == 3  # mean, variance, seed
    for a, b in zip(plain, sam, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(weights, sam_weights, strict=True))


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="is the same on JAX")
def test_the_same_on_jax():
    if not importlib.util.find_spec("jax"):
        pytest.skip("needs JAX")
    call = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(call, env=jax_environment(), capture_output=True, text=True)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout
