"""Many training steps in one compiled call: a chunk of images and labels in, sums out.

The loop over the batches is part of the compiled program (but for JAX on processors), so that a
step costs its arithmetic and little else (docs/decisions/0001-the-loop-is-in-the-graph.md).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fashion_cnn.keras_setup import keras
from fashion_cnn.models.wrappers import FusedBatchNormalization
from fashion_cnn.parallel.collectives import local_shard, to_global_array

Steps = Callable[[np.ndarray, np.ndarray], tuple[float, int]]


def compile_steps(
    model: Any,
    batch_size: int,
    halves: bool,
    class_weights: np.ndarray | None = None,
    soft: bool = False,
) -> Steps:
    """Compile the training steps of a model.

    Args:
        model: a compiled `keras.Model`; its loss takes one-hot labels and probabilities.
        batch_size: images a step; the last step of a chunk takes what is left.
        halves: work on both halves of each batch at the same time (TensorFlow on processors only).
        class_weights: how much each class counts in the loss, float32 (classes,); all alike
            without.
        soft: what is learnt are probabilities, float32 (n, classes), in place of labels.

    Returns:
        A function that trains on what the model takes, such as uint8 images (n, height, width,
        channels), and integer labels (n,) or what is learnt in their place, in order, and returns
        the sum of the losses and the number of right answers (the likeliest class of
        probabilities). One of several processes gives its share of each batch's images.

    Raises:
        ValueError: the backend is neither TensorFlow nor JAX.
    """
    backend = keras.backend.backend()
    if backend not in ("tensorflow", "jax"):
        raise ValueError(f"KERAS_BACKEND: got {backend}; training expects tensorflow or jax")
    model.optimizer.build(model.trainable_variables)
    return (
        _on_jax(model, batch_size, class_weights)
        if backend == "jax"
        else _on_tensorflow(model, batch_size, halves, class_weights, soft)
    )


def _on_tensorflow(
    model: Any, batch_size: int, halves: bool, class_weights: np.ndarray | None, soft: bool
) -> Steps:
    import tensorflow as tf

    classes, variables = model.output_shape[-1], model.trainable_variables
    halves = halves and not tf.config.list_physical_devices("GPU")
    learning = [layer for layer in model.layers if layer.trainable]
    normalisations = [x for x in learning if isinstance(x, FusedBatchNormalization)]

    @tf.function  # traced once for both halves
    def part(images: Any, labels: Any, share: Any) -> tuple[Any, ...]:
        targets = labels if soft else tf.one_hot(labels, classes)
        labels = tf.argmax(labels, -1, tf.int32) if soft else labels
        with tf.GradientTape() as tape:
            answers = model(images, training=True)
            counts = None if class_weights is None else tf.gather(class_weights, labels)
            loss = share * model.compute_loss(None, targets, answers, counts)
        right = tf.reduce_sum(tf.cast(tf.argmax(answers, -1, tf.int32) == labels, tf.int32))
        gradients = tape.gradient(loss, [v.value for v in variables])
        statistics = [[share * x for x in layer.statistics] for layer in normalisations]
        return loss, right, gradients, statistics

    def step(images: Any, labels: Any) -> tuple[Any, Any]:
        if halves:
            size = tf.shape(images)[0]
            share = tf.cast(size // 2, tf.float32) / tf.cast(size, tf.float32)
            one = part(images[: size // 2], labels[: size // 2], share)
            other = part(images[size // 2 :], labels[size // 2 :], 1 - share)
            found = tf.nest.map_structure(lambda a, b: None if a is None else a + b, one, other)
        else:
            found = part(images, labels, tf.constant(1.0))
        loss, right, gradients, statistics = found
        model.optimizer.apply(gradients, variables)
        for layer, seen in zip(normalisations, statistics, strict=True):
            layer.update_moving_averages(seen)
        return loss * tf.cast(tf.shape(images)[0], tf.float32), right

    given = model.inputs[0]
    learnt = tf.TensorSpec((None, classes)) if soft else tf.TensorSpec((None,), tf.int32)
    shapes = tf.TensorSpec(given.shape, given.dtype), learnt

    @tf.function(input_signature=shapes)
    def steps(images: Any, labels: Any) -> tuple[Any, Any]:
        def body(start: Any, loss: Any, right: Any) -> tuple[Any, Any, Any]:
            batch = slice(start, start + batch_size)
            more = step(images[batch], labels[batch])
            return start + batch_size, loss + more[0], right + more[1]

        count = tf.shape(labels)[0]
        return tf.while_loop(lambda start, *_: start < count, body, (0, 0.0, 0))[1:]

    def run(images: np.ndarray, labels: np.ndarray) -> tuple[float, int]:
        loss, right = steps(images, labels)
        return float(loss), int(right)

    return run


def jax_step(model: Any, class_weights: np.ndarray | None) -> Callable[[Any, Any], Any]:
    """One training step as a pure function, for `jax.jit` and `jax.lax.scan`.

    Args:
        model: a compiled and built `keras.Model`; the state is an argument, not read from it.
        class_weights: as for `compile_steps`.

    Returns:
        A function of (state, (images, labels)) that returns the next state, and the sum of the
        losses with the number of right answers.
    """
    import jax

    optimizer, classes = model.optimizer, model.output_shape[-1]

    def loss_of(trainable: Any, others: Any, images: Any, labels: Any) -> Any:
        answers, others, extra = model.stateless_call(
            trainable, others, images, training=True, return_losses=True
        )
        soft = labels.ndim == 2
        targets = labels if soft else jax.nn.one_hot(labels, classes)
        labels = labels.argmax(-1) if soft else labels
        counts = None if class_weights is None else jax.numpy.asarray(class_weights)[labels]
        loss = model.loss(targets, answers, counts) + sum(extra)
        return loss, (others, (answers.argmax(-1) == labels).sum())

    gradient_of = jax.value_and_grad(loss_of, has_aux=True)

    def step(state: Any, batch: Any) -> Any:
        trainable, others, optimizer_state = state
        (loss, (others, right)), gradients = gradient_of(trainable, others, *batch)
        trainable, optimizer_state = optimizer.stateless_apply(
            optimizer_state, gradients, trainable
        )
        state = [list(trainable), list(others), list(optimizer_state)]
        return state, (loss * len(batch[1]), right)

    return step


def get_state(model: Any) -> Any:
    """What a training step changes: weights, moving averages and random seeds, the optimizer's."""
    return [[v.value for v in variables] for variables in _variables(model)]


def set_state(model: Any, state: Any) -> None:
    """Give a model the state that steps have made."""
    for variables, values in zip(_variables(model), state, strict=True):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def _variables(model: Any) -> tuple[Any, Any, Any]:
    return model.trainable_variables, model.non_trainable_variables, model.optimizer.variables


def _on_jax(model: Any, batch_size: int, class_weights: np.ndarray | None) -> Steps:
    import jax

    step = jax_step(model, class_weights)

    def in_a_loop(state: Any, images: Any, labels: Any) -> Any:
        state, (losses, right) = jax.lax.scan(step, state, (images, labels))
        return state, losses.sum(), right.sum()

    looped, one = jax.jit(in_a_loop), jax.jit(step)

    def one_by_one(state: Any, images: np.ndarray, labels: np.ndarray, size: int) -> Any:
        loss, right = 0.0, 0
        for batch in zip(images, labels, strict=True):
            state, (more_loss, more_right) = one(
                state, tuple(to_global_array(x, size) for x in batch)
            )
            loss, right = loss + more_loss, right + more_right
        return state, loss, right

    def all_at_once(state: Any, images: np.ndarray, labels: np.ndarray, size: int) -> Any:
        return looped(
            state, to_global_array(images, size, axis=1), to_global_array(labels, size, axis=1)
        )

    # on processors XLA's gradients of convolutions take ten times as long inside a loop
    steps = one_by_one if jax.default_backend() == "cpu" else all_at_once

    def run(images: np.ndarray, labels: np.ndarray) -> tuple[float, int]:
        state = get_state(model)
        whole = len(labels) // batch_size * batch_size
        loss, right, used = 0.0, 0, 0
        for part, size in ((labels[:whole], batch_size), (labels[whole:], len(labels) - whole)):
            if not len(part):
                continue
            y = local_shard(part, size)
            x = images[used : used + len(y)]
            used += len(y)
            x, y = (a.reshape(len(part) // size, -1, *a.shape[1:]) for a in (x, y))
            state, more_loss, more_right = steps(state, x, y, size)
            loss, right = loss + float(more_loss), right + int(more_right)
        set_state(model, state)
        return loss, right

    return run
