"""Training steps on JAX: a pure step function, a chunk of steps, and a whole epoch on a GPU.

On a GPU all images are on the device as uint8 once and for all. An epoch's order and random
numbers go there, a few MB; shuffling, augmentation and all steps happen there; two sums and a
number for each image come back.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fashion_cnn.keras_setup import keras
from fashion_cnn.parallel.collectives import (
    is_distributed,
    local_shard,
    replicated,
    to_global_array,
)
from fashion_cnn.recipe import Recipe
from fashion_cnn.training.averaging import update_averages
from fashion_cnn.training.batches import (
    Steps,
    batch_inputs,
    batch_targets,
    epoch_images,
    plan_columns,
)
from fashion_cnn.training.optimizers import SAM_EPSILON

MAX_DEVICE_BYTES = 4 << 30  # of images


def compile_steps(model: Any, batch_size: int, class_weights: np.ndarray | None = None) -> Steps:
    """Compile the training steps of a model; see `training.tensorflow.compile_steps`.

    One of several processes passes its shard of each batch's images, and all targets.
    """
    step = make_step(model, class_weights)
    step_one = jax.jit(step)

    @jax.jit
    def scan(state: Any, images: Any, targets: Any) -> Any:
        state, (losses, correct, confidences) = jax.lax.scan(step, state, (images, targets))
        return state, losses.sum(), correct.sum(), replicated(confidences.reshape(-1))

    def one_by_one(state: Any, images: np.ndarray, targets: np.ndarray, size: int) -> Any:
        loss, correct, confidences = 0.0, 0, []
        for batch in zip(images, targets, strict=True):
            arrays = tuple(to_global_array(x, size) for x in batch)
            state, (batch_loss, batch_correct, batch_confidences) = step_one(state, arrays)
            loss, correct = loss + batch_loss, correct + batch_correct
            confidences.append(batch_confidences)
        return state, loss, correct, np.concatenate(confidences)

    def all_at_once(state: Any, images: np.ndarray, targets: np.ndarray, size: int) -> Any:
        arrays = (to_global_array(x, size, axis=1) for x in (images, targets))
        return scan(state, *arrays)

    # on processors XLA's gradients of convolutions take ten times as long inside a loop
    run_steps = one_by_one if jax.default_backend() == "cpu" else all_at_once

    def train_chunk(images: np.ndarray, targets: np.ndarray) -> tuple[float, int, np.ndarray]:
        state = get_state(model)
        full = len(targets) // batch_size * batch_size
        loss, correct, used, confidences = 0.0, 0, 0, []
        for part, size in ((targets[:full], batch_size), (targets[full:], len(targets) - full)):
            if not len(part):
                continue
            y = local_shard(part, size)
            x = images[used : used + len(y)]
            used += len(y)
            x, y = (a.reshape(len(part) // size, -1, *a.shape[1:]) for a in (x, y))
            state, part_loss, part_correct, part_confidences = run_steps(state, x, y, size)
            loss, correct = loss + float(part_loss), correct + int(part_correct)
            confidences.append(part_confidences)
        set_state(model, state)
        return loss, correct, np.concatenate(confidences)

    return train_chunk


def make_step(model: Any, class_weights: np.ndarray | None) -> Callable[[Any, Any], Any]:
    """One training step as a pure function, for `jax.jit` and `jax.lax.scan`.

    It takes (state, (images, targets)) and returns the next state, and the sum of the losses, the
    number of correct predictions, and the predicted probability of each image's label.
    """
    optimizer, classes = model.optimizer, model.output_shape[-1]
    sam = getattr(optimizer, "sam", 0.0)

    def loss_of(trainable: Any, non_trainable: Any, images: Any, targets: Any) -> Any:
        probabilities, non_trainable, penalties = model.stateless_call(
            trainable, non_trainable, images, training=True, return_losses=True
        )
        soft_labels = targets.ndim == 2
        labels = targets.argmax(-1) if soft_labels else targets
        one_hot = targets if soft_labels else jax.nn.one_hot(labels, classes)
        weights = None if class_weights is None else jnp.asarray(class_weights)[labels]
        loss = model.loss(one_hot, probabilities, weights) + sum(penalties)
        correct = (probabilities.argmax(-1) == labels).sum()
        confidences = jnp.take_along_axis(probabilities, labels[:, None], 1)[:, 0]
        return loss, (non_trainable, correct, replicated(confidences))

    gradient_of = jax.value_and_grad(loss_of, has_aux=True)

    def step(state: Any, batch: Any) -> Any:
        trainable, non_trainable, optimizer_state = state
        (loss, aux), gradients = gradient_of(trainable, non_trainable, *batch)
        statistics, correct, confidences = aux
        if sam:
            norm = jnp.sqrt(sum(jnp.sum(gradient**2) for gradient in gradients))
            radius = sam / (norm + SAM_EPSILON)
            moved = [w + radius * g for w, g in zip(trainable, gradients, strict=True)]
            _, gradients = gradient_of(moved, non_trainable, *batch)
        trainable, optimizer_state = optimizer.stateless_apply(
            optimizer_state, gradients, trainable
        )
        optimizer_state = _averaged(model, optimizer_state, trainable)
        state = [list(trainable), list(statistics), optimizer_state]
        return state, (loss * len(batch[1]), correct, confidences)

    return step


def _averaged(model: Any, optimizer_state: Any, trainable: Any) -> list[Any]:
    """The state of the optimizer after its averages have moved towards the weights."""
    variables = [*model.optimizer.variables, *model.trainable_variables]
    values = [*optimizer_state, *trainable]
    with keras.StatelessScope(list(zip(variables, values, strict=True))) as scope:
        update_averages(model)
    return [scope.get_current_value(variable) for variable in model.optimizer.variables]


def get_state(model: Any) -> Any:
    """What a training step changes: weights, moving averages, random seeds, optimizer state."""
    return [[v.value for v in variables] for variables in _variables(model)]


def set_state(model: Any, state: Any) -> None:
    """Assign the state that steps have returned to the variables of a model."""
    for variables, values in zip(_variables(model), state, strict=True):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def _variables(model: Any) -> tuple[Any, Any, Any]:
    return model.trainable_variables, model.non_trainable_variables, model.optimizer.variables


def fits_on_device(images: np.ndarray) -> bool:
    """Whether whole epochs can run on the device: one process, a GPU, and images that fit."""
    is_small = images.nbytes <= MAX_DEVICE_BYTES
    return is_small and not is_distributed() and jax.default_backend() != "cpu"


def compile_epoch(
    model: Any,
    images: np.ndarray,
    targets: np.ndarray,
    recipe: Recipe,
    count: int,
    class_weights: np.ndarray | None = None,
) -> Steps:
    """Compile a whole epoch of `count` images; `images` and `targets` are all there are.

    `targets` are as `step_targets` returns them.

    Returns:
        A function of `epoch_plan`'s order and noise that trains and returns the sum of the losses,
        the number of correct predictions, and the predicted probability of each image's label.
    """
    model.optimizer.build(model.trainable_variables)
    on_device = jax.device_put((images, targets))
    noise_shape = jax.ShapeDtypeStruct((len(images), plan_columns(recipe)), np.float32)
    epoch = jax.jit(_make_epoch(model, recipe, class_weights))
    programs = {}
    # compiled now, so that the first epochs' seconds do not include it
    for size in {epoch_images(recipe, i, count) for i in range(recipe.epochs)}:
        order_shape = jax.ShapeDtypeStruct((size,), np.int32)
        lowered = epoch.lower(get_state(model), *on_device, order_shape, noise_shape)
        programs[size] = lowered.compile()

    def train_epoch(order: np.ndarray, noise: np.ndarray) -> tuple[float, int, np.ndarray]:
        arrays = order.astype(np.int32), noise
        state, sums = programs[len(order)](get_state(model), *on_device, *arrays)
        set_state(model, state)
        loss, correct, confidences = sums
        return float(loss), int(correct), np.asarray(confidences)

    return train_epoch


def _make_epoch(model: Any, recipe: Recipe, class_weights: np.ndarray | None) -> Callable[..., Any]:
    """An epoch as a pure function of the state, all images, targets, their order and noise."""
    step, batch_size = make_step(model, class_weights), recipe.batch_size

    def epoch(state: Any, images: Any, targets: Any, order: Any, noise: Any) -> Any:
        def train_batch(state: Any, index: Any) -> Any:
            inputs = batch_inputs(recipe, images, index, order, noise, jnp)
            labels = batch_targets(recipe, targets, index, order, noise, images.shape[1:], jnp)
            return step(state, (inputs, labels))

        full = len(order) // batch_size * batch_size
        state, sums = jax.lax.scan(train_batch, state, order[:full].reshape(-1, batch_size))
        loss, correct, confidences = sums[0].sum(), sums[1].sum(), sums[2].reshape(-1)
        if full < len(order):
            state, last = train_batch(state, order[full:])
            loss, correct = loss + last[0], correct + last[1]
            confidences = jnp.concatenate([confidences, last[2]])
        return state, (loss, correct, confidences)

    return epoch
