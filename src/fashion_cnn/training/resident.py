"""A whole epoch as one compiled program on the device that holds the images: JAX, on a GPU.

The images are on the device as uint8 once and for all. An epoch's order and random numbers go
there, a few MB; shuffling, augmentation and all steps happen there; two sums come back.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fashion_cnn.data.augment import augment, noise_columns
from fashion_cnn.framework import keras
from fashion_cnn.processes import together
from fashion_cnn.recipes import Recipe
from fashion_cnn.training.steps import jax_step, put_state, state_of

MOST_BYTES = 4 << 30  # of images
Epoch = Callable[[np.ndarray, np.ndarray], tuple[float, int]]
Epochs = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], tuple[np.ndarray, np.ndarray]]


def is_resident(images: np.ndarray) -> bool:
    """Whether epochs run on the device: one process, on JAX, on a GPU that can hold the images."""
    if keras.backend.backend() != "jax" or together() or images.nbytes > MOST_BYTES:
        return False
    import jax

    return jax.default_backend() != "cpu"


def make_epoch(
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
        class_weights: as for `make_steps`.

    Returns:
        A function of `epoch_plan`'s order, int64 (count,), and noise, float32 (n, columns), that
        trains and returns the sum of the losses and the number of right answers.
    """
    side_by_side = make_epochs([model], images, labels, recipe, count, class_weights)

    def run(order: np.ndarray, noise: np.ndarray) -> tuple[float, int]:
        losses, rights = side_by_side([order], [noise])
        return float(losses[0]), int(rights[0])

    return run


def make_epochs(
    models: Sequence[Any],
    images: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    count: int,
    class_weights: np.ndarray | None = None,
) -> Epochs:
    """`make_epoch` for models that are alike but for their numbers, all at once (`jax.vmap`).

    A small network does not fill a GPU; many of them do.

    Args:
        models: compiled alike; see `make_epoch` for the rest.

    Returns:
        A function of an order and a noise for each model that trains all of them, and returns
        their sums of losses, float32 (models,), and numbers of right answers, int32 (models,).
    """
    import jax

    for model in models:
        model.optimizer.build(model.trainable_variables)
    epoch, alone = _epoch_of(models[0], recipe, class_weights), len(models) == 1
    jitted = jax.jit(epoch if alone else jax.vmap(epoch, (0, None, None, 0, 0)))
    there = jax.device_put((images, labels.astype(np.int32) if labels.ndim == 1 else labels))

    def stacked(values: Sequence[Any]) -> Any:
        return values[0] if alone else jax.tree.map(lambda *x: jax.numpy.stack(x), *values)

    plan = np.zeros(count, np.int32), np.zeros((len(images), noise_columns(recipe.augment)), "f4")
    plans = (stacked([x] * len(models)) for x in plan)
    # now, so that no epoch's seconds are the compiler's
    program = jitted.lower(stacked([state_of(x) for x in models]), *there, *plans).compile()

    def run(orders: Sequence[np.ndarray], noises: Sequence[np.ndarray]) -> Any:
        given = stacked([order.astype(np.int32) for order in orders]), stacked(noises)
        state, sums = program(stacked([state_of(x) for x in models]), *there, *given)
        for i, model in enumerate(models):
            put_state(model, state if alone else jax.tree.map(lambda x, i=i: x[i], state))
        return tuple(np.atleast_1d(x) for x in sums)

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
