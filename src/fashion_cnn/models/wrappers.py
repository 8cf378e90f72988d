"""Variants of a network: a fast copy for training, averaged outputs, and calibrated outputs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fashion_cnn.keras_setup import keras


def training_copy(network: Any, precision: str = "float32") -> Any:
    """Copy a network, with its weights, into the form that the backend trains fastest.

    Args:
        network: an uncompiled `keras.Model` of Keras's own layers, none of them a nested model.
        precision: compute dtype of all layers but the last, `float32` or `bfloat16`; the weights
            are float32.

    Returns:
        An uncompiled `keras.Model` with the weights of `network`, in the same order.
    """
    policy = "mixed_bfloat16" if precision == "bfloat16" else precision
    last = network.layers[-1].name

    def clone(layer: Any) -> Any:
        if not isinstance(layer, keras.layers.Layer):
            return layer  # a keras.ops operation
        config, layer_class = layer.get_config(), type(layer)
        can_fuse = len(layer.output.shape) in (2, 4) and config.get("axis") == -1
        if layer_class is keras.layers.BatchNormalization and can_fuse:
            layer_class = FusedBatchNormalization
        # Rescaling stays exact, because bfloat16 rounds 1/127.5 by 0.4 %
        if layer.name != last and layer_class is not keras.layers.Rescaling:
            config["dtype"] = policy
        return layer_class.from_config(config)

    graph = keras.Model(network.inputs[0], network.outputs[0], name=network.name)
    model = keras.models.clone_model(graph, clone_function=clone)
    model.set_weights(network.get_weights())
    return model


def flip_averaged(model: Any) -> Any:
    """A model whose output is the mean of the outputs for each image and its mirror image."""
    pixels = keras.Input(model.input_shape[1:], dtype="uint8", name="pixels")
    outputs = [model(pixels), model(keras.ops.flip(pixels, axis=2))]
    return keras.Model(pixels, keras.layers.Average()(outputs), name=f"{model.name}_flip_averaged")


def average_models(networks: Sequence[Any]) -> Any:
    """An ensemble: its output is the mean of the networks' outputs. Renames the networks."""
    pixels = keras.Input(networks[0].input_shape[1:], dtype="uint8", name="pixels")
    for i, network in enumerate(networks):
        network.name = f"{network.name}_{i}"
    outputs = [network(pixels) for network in networks]
    return keras.Model(pixels, keras.layers.Average()(outputs), name="ensemble")


def with_temperature(model: Any, temperature: float) -> Any:
    """Build temperature scaling (arXiv:1706.04599) into a model; predicted classes stay the same.

    If the model ends in a softmax layer, the weights of that layer are divided by the temperature.
    Otherwise, as in an average of networks, p^(1/T), normalized, is appended; for a softmax the two
    are equal.

    Args:
        model: a `keras.Model` that ends in probabilities; it is not changed.
        temperature: above 0.

    Returns:
        A new `keras.Model`; `model` itself if the temperature is 1.
    """
    if temperature == 1:
        return model
    last = model.layers[-1]
    if isinstance(last, keras.layers.Dense) and last.activation is keras.activations.softmax:
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        copy.layers[-1].set_weights([weight / temperature for weight in last.get_weights()])
        return copy
    pixels = keras.Input(model.input_shape[1:], dtype="uint8", name="pixels")
    positive = keras.ops.maximum(model(pixels), np.finfo(np.float32).tiny)
    outputs = keras.ops.softmax(keras.ops.log(positive) / temperature)
    return keras.Model(pixels, outputs, name=f"{model.name}_with_temperature")


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalization (arXiv:1502.03167) with the same output, faster on TensorFlow.

    Keras 3 computes mean, variance and scaling in separate operations; at 27x27x32 and a batch of
    128 that takes two to four times as long as TensorFlow's fused kernel. Only for training: saved
    models contain Keras's own layer.

    On TensorFlow a call in training does not update the moving averages but stores the batch
    statistics in `statistics`, so that the two halves of a batch do not wait for each other;
    `training.steps` passes the mean over the halves to `update_moving_averages`.

    Attributes:
        statistics: mean and variance of the last call in training, float32 (channels,) each.
    """

    statistics: tuple[Any, Any]

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize (n, height, width, channels) or (n, channels) over all axes but the last."""
        if keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        in_training = bool(training) and self.trainable
        shape, channels, empty = tf.shape(inputs), inputs.shape[-1], tf.zeros([0])
        flat = len(inputs.shape) == 2
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=tf.reshape(inputs, (-1, 1, 1, channels)) if flat else inputs,
            scale=self.gamma.value if self.scale else tf.ones(channels),
            offset=self.beta.value if self.center else tf.zeros(channels),
            mean=empty if in_training else self.moving_mean.value,
            variance=empty if in_training else self.moving_variance.value,
            epsilon=self.epsilon,
            is_training=in_training,
        )
        if in_training:
            n = tf.cast(tf.reduce_prod(shape[:-1]), tf.float32)
            # the kernel returns the unbiased variance, Keras averages the biased one
            self.statistics = mean, variance * (n - 1) / n
        return tf.reshape(outputs, shape) if flat else outputs

    def update_moving_averages(self, statistics: tuple[Any, Any]) -> None:
        """Update the moving averages with the mean and variance of a batch."""
        averages = (self.moving_mean, self.moving_variance)
        for average, value in zip(averages, statistics, strict=True):
            average.assign(average * self.momentum + value * (1 - self.momentum))
