"""A whole epoch as one compiled program on the device that holds the images: JAX, on a GPU.

The images are on the device as uint8 once and for all. An epoch's order and random numbers go
there, a few MB; shuffling, augmentation and all steps happen there; two sums come back.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fashion_cnn.data.augment import augment, noise_columns
from fashion_cnn.keras_setup import keras
from fashion_cnn.parallel.collectives import is_distributed
from fashion_cnn.recipe import Recipe
from fashion_cnn.training.steps import get_state, jax_step, set_state

MAX_BYTES = 4 << 30  # of images
Epoch = Callable[[np.ndarray, np.ndarray], tuple[float, int]]


def fits_on_device(images: np.ndarray) -> bool:
    """Whether epochs run on the device: one process, on JAX, on a GPU that can hold the images."""
    if keras.backend.backend() != "jax" or is_distributed() or images.nbytes > MAX_BYTES:
        return False
    import jax

    return jax.default_backend() != "cpu"


def compile_epoch(
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    count: int,
    class_weights: np.ndarray | None = None,
) -> Epoch:
    """Compile an epoch of a model.

    Args:
        model: a compiled `keras.Model`.
        images: all of them, uint8 (n, height, width, channels); they go to the device.
        labels: integers (n,), or probabilities, float32 (n, classes).
        recipe: its augmentations and the images a step count; the last step takes what is left.
        count: how many images an epoch has.
        class_weights: as for `compile_steps`.

    Returns:
        A function of `epoch_plan`'s order, int64 (count,), and noise, float32 (n, columns), that
        trains and returns the sum of the losses and the number of correct predictions.
    """
    import jax

    model.optimizer.build(model.trainable_variables)
    on_device = jax.device_put((images, labels.astype(np.int32) if labels.ndim == 1 else labels))
    order = jax.ShapeDtypeStruct((count,), np.int32)
    noise = jax.ShapeDtypeStruct((len(images), noise_columns(recipe.augment)), np.float32)
    epoch = jax.jit(_epoch_of(model, recipe, class_weights))
    # compiled now, so that the first epoch's seconds do not include it
    program = epoch.lower(get_state(model), *on_device, order, noise).compile()

    def run(order: np.ndarray, noise: np.ndarray) -> tuple[float, int]:
        state, (loss, right) = program(get_state(model), *on_device, order.astype(np.int32), noise)
        set_state(model, state)
        return float(loss), int(right)

    return run


def _epoch_of(model: Any, recipe: Recipe, class_weights: np.ndarray | None) -> Callable[..., Any]:
    """An epoch as a pure function of the state, all images, labels, their order and noise."""
    import jax
    import jax.numpy as jnp

    step, batch_size = jax_step(model, class_weights), recipe.batch_size

    def epoch(state: Any, images: Any, labels: Any, order: Any, noise: Any) -> Any:
        def on(state: Any, chosen: Any) -> Any:
            seen = augment(images[chosen], noise[chosen], recipe.augment, jnp)
            return step(state, (seen, labels[chosen]))

        whole = len(order) // batch_size * batch_size
        state, sums = jax.lax.scan(on, state, order[:whole].reshape(-1, batch_size))
        loss, right = (x.sum() for x in sums)
        if whole < len(order):
            state, (more_loss, more_right) = on(state, order[whole:])
            loss, right = loss + more_loss, right + more_right
        return state, (loss, right)

    return epoch
