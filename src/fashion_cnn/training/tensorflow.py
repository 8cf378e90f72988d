"""Many training steps as one compiled TensorFlow function: a chunk of images in, sums out.

The loop over the batches is part of the graph, so that a step costs its arithmetic and little else
(docs/decisions/0001-the-loop-is-in-the-graph.md).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from fashion_cnn.training.averaging import update_averages
from fashion_cnn.training.batches import Steps
from fashion_cnn.training.normalization import FusedBatchNormalization
from fashion_cnn.training.optimizers import SAM_EPSILON


def compile_steps(
    model: Any,
    batch_size: int,
    split_batch: bool = True,
    class_weights: np.ndarray | None = None,
    soft_labels: bool = False,
) -> Steps:
    """Compile the training steps of a model.

    Args:
        model: a compiled `keras.Model`; its loss takes one-hot labels and probabilities.
        batch_size: images a step; the last step of a chunk takes the remaining ones.
        split_batch: compute both halves of each batch at the same time, on half of the cores each.
            Default: true. Without effect on a GPU.
        class_weights: weight of each class in the loss, float32 (classes,). Default: equal weights.
        soft_labels: whether targets are probabilities, float32 (n, classes). Default: integer
            labels (n,).

    Returns:
        A function that trains on a chunk, uint8 images (n, height, width, channels) or other
        inputs of the model and their targets, in order; it returns the sum of the losses, the
        number of correct predictions, and the predicted probability of each image's label.
    """
    split_batch = split_batch and not tf.config.list_physical_devices("GPU")
    half_step = _make_half_step(model, class_weights, soft_labels)
    step = _make_step(model, half_step, split_batch)
    inputs, classes = model.inputs[0], model.output_shape[-1]
    target_spec = (
        tf.TensorSpec((None, classes)) if soft_labels else tf.TensorSpec((None,), tf.int32)
    )

    @tf.function(input_signature=(tf.TensorSpec(inputs.shape, inputs.dtype), target_spec))
    def steps(images: Any, targets: Any) -> tuple[Any, Any, Any]:
        def body(i: Any, loss: Any, correct: Any, confidences: Any) -> tuple[Any, ...]:
            batch = slice(i * batch_size, (i + 1) * batch_size)
            batch_loss, batch_correct, batch_confidences = step(images[batch], targets[batch])
            confidences = confidences.write(i, batch_confidences)
            return i + 1, loss + batch_loss, correct + batch_correct, confidences

        count = -(-tf.shape(targets)[0] // batch_size)
        confidences = tf.TensorArray(tf.float32, count, infer_shape=False, element_shape=(None,))
        start = 0, 0.0, 0, confidences
        _, loss, correct, confidences = tf.while_loop(lambda i, *_: i < count, body, start)
        return loss, correct, confidences.concat()

    def train_chunk(images: np.ndarray, targets: np.ndarray) -> tuple[float, int, np.ndarray]:
        loss, correct, confidences = steps(images, targets)
        return float(loss), int(correct), confidences.numpy()

    return train_chunk


def _make_half_step(
    model: Any, class_weights: np.ndarray | None, soft_labels: bool
) -> Callable[[Any, Any, Any], tuple[Any, ...]]:
    """Forward and backward pass of a batch, or of half of one with its `share` of the loss."""
    classes, variables = model.output_shape[-1], model.trainable_variables

    @tf.function  # traced once for both halves
    def half_step(images: Any, targets: Any, share: Any) -> tuple[Any, ...]:
        labels = tf.argmax(targets, -1, tf.int32) if soft_labels else targets
        one_hot = targets if soft_labels else tf.one_hot(labels, classes)
        with tf.GradientTape() as tape:
            probabilities = model(images, training=True)
            weights = None if class_weights is None else tf.gather(class_weights, labels)
            loss = share * model.compute_loss(None, one_hot, probabilities, weights)
        predicted = tf.argmax(probabilities, -1, tf.int32)
        correct = tf.reduce_sum(tf.cast(predicted == labels, tf.int32))
        confidences = tf.gather(probabilities, labels, batch_dims=1)
        gradients = tape.gradient(loss, [v.value for v in variables])
        statistics = [[share * x for x in layer.statistics] for layer in _normalizations(model)]
        return confidences, (loss, correct, gradients, statistics)

    return half_step


def _make_step(
    model: Any, half_step: Callable[[Any, Any, Any], tuple[Any, ...]], split_batch: bool
) -> Callable[[Any, Any], tuple[Any, Any, Any]]:
    """One step of the optimizer; it returns what `compile_steps` sums up, of a batch."""

    def gradients_of(images: Any, targets: Any) -> tuple[Any, ...]:
        if not split_batch:
            return half_step(images, targets, tf.constant(1.0))
        size = tf.shape(images)[0]
        half = size // 2
        share = tf.cast(half, tf.float32) / tf.cast(size, tf.float32)
        first_confidences, first = half_step(images[:half], targets[:half], share)
        second_confidences, second = half_step(images[half:], targets[half:], 1 - share)
        sums = tf.nest.map_structure(
            lambda a, b: None if a is None else a + b, first, second
        )  # a layer that takes no part has no gradient
        return tf.concat([first_confidences, second_confidences], 0), sums

    def step(images: Any, targets: Any) -> tuple[Any, Any, Any]:
        sam, state = getattr(model.optimizer, "sam", 0.0), model.non_trainable_variables
        before = [tf.identity(v) for v in state] if sam else []  # seeds and moving averages
        confidences, (loss, correct, gradients, statistics) = gradients_of(images, targets)
        if sam:
            after = [tf.identity(v) for v in state]
            _assign(state, before)
            kept = [tf.identity(v) for v in model.trainable_variables]
            radius = sam / (tf.linalg.global_norm(gradients) + SAM_EPSILON)
            for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
                if gradient is not None:
                    variable.assign_add(radius * gradient)
            _, (_, _, gradients, _) = gradients_of(images, targets)
            _assign(model.trainable_variables, kept)
            _assign(state, after)
        model.optimizer.apply(gradients, model.trainable_variables)
        update_averages(model)
        for layer, values in zip(_normalizations(model), statistics, strict=True):
            layer.update_moving_averages(values)
        return loss * tf.cast(tf.shape(images)[0], tf.float32), correct, confidences

    return step


def _assign(variables: list[Any], values: list[Any]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _normalizations(model: Any) -> list[Any]:
    """The layers whose moving averages training updates."""
    return [x for x in model.layers if isinstance(x, FusedBatchNormalization) and x.trainable]
