"""One network in other forms: the fastest to train, and the mean with its mirror image."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fashion_cnn.keras_setup import keras


def training_copy(network: Any, precision: str = "float32") -> Any:
    """The same network with the same weights, as fast as the backend can train it.

    Args:
        network: an uncompiled `keras.Model` of Keras's own layers, none of them a model itself.
        precision: what all layers but the last compute in, `float32` or `bfloat16`; weights are
            float32.

    Returns:
        An uncompiled `keras.Model`; its weights, in order, are those of `network`.
    """
    policy = "mixed_bfloat16" if precision == "bfloat16" else precision
    last = network.layers[-1].name

    def fast(layer: Any) -> Any:
        if not isinstance(layer, keras.layers.Layer):
            return layer  # a plain sum or product
        config = layer.get_config()
        kind = type(layer)
        usual = len(layer.output.shape) in (2, 4) and config.get("axis") == -1
        if kind is keras.layers.BatchNormalization and usual:
            kind = FusedBatchNormalization
        exact = layer.name == last or kind is keras.layers.Rescaling  # 1/127.5 is 0.4 % off in bf16
        return kind.from_config(config if exact else {**config, "dtype": policy})

    graph = keras.Model(network.inputs[0], network.outputs[0], name=network.name)
    model = keras.models.clone_model(graph, clone_function=fast)
    model.set_weights(network.get_weights())
    return model


def flip_averaged(model: Any) -> Any:
    """A network that answers with the mean over each image and its mirror image."""
    pixels = keras.Input(model.input_shape[1:], dtype="uint8", name="pixels")
    answers = [model(pixels), model(keras.ops.flip(pixels, axis=2))]
    return keras.Model(pixels, keras.layers.Average()(answers), name=f"{model.name}_flip_averaged")


def average_models(networks: Sequence[Any]) -> Any:
    """A network that answers with the mean over networks of the same images."""
    pixels = keras.Input(networks[0].input_shape[1:], dtype="uint8", name="pixels")
    for i, network in enumerate(networks):
        network.name = f"{network.name}_{i}"
    answers = [network(pixels) for network in networks]
    return keras.Model(pixels, keras.layers.Average()(answers), name="ensemble")


def with_temperature(model: Any, temperature: float) -> Any:
    """The network with a temperature in it (arXiv:1706.04599): the same answers, less or more sure.

    Where one softmax ends the network, the weights before it are divided by the temperature; a mean
    of several networks gets p^(1/T), normalised, at its end, which is the same for one.

    Args:
        model: a `keras.Model` that ends in probabilities; it is left as it is.
        temperature: above 0.

    Returns:
        A `keras.Model`; the very same where the temperature is 1.
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
    tiny = keras.ops.maximum(model(pixels), np.finfo(np.float32).tiny)
    answers = keras.ops.softmax(keras.ops.log(tiny) / temperature)
    return keras.Model(pixels, answers, name=f"{model.name}_with_temperature")


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalisation (arXiv:1502.03167), equal in output, faster on TensorFlow.

    Keras 3 computes mean, variance and scaling with an operation each; at 27x27x32 and a batch of
    128 that takes two to four times as long as TensorFlow's one kernel. Only for training: saved
    models have Keras's own layer.

    On TensorFlow a training call leaves the moving averages alone and puts what they need into
    `statistics`, so that the parts of a batch need not wait for each other; `training.steps` hands
    the mean of the parts to `remember`.

    Attributes:
        statistics: mean and variance of the last training call, float32 (channels,) each.
    """

    statistics: tuple[Any, Any]

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise (n, height, width, channels) or (n, channels) over all axes but the last."""
        if keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        learning = bool(training) and self.trainable
        shape, channels, empty = tf.shape(inputs), inputs.shape[-1], tf.zeros([0])
        flat = len(inputs.shape) == 2
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=tf.reshape(inputs, (-1, 1, 1, channels)) if flat else inputs,
            scale=self.gamma.value if self.scale else tf.ones(channels),
            offset=self.beta.value if self.center else tf.zeros(channels),
            mean=empty if learning else self.moving_mean.value,
            variance=empty if learning else self.moving_variance.value,
            epsilon=self.epsilon,
            is_training=learning,
        )
        if learning:
            n = tf.cast(tf.reduce_prod(shape[:-1]), tf.float32)
            # the kernel gives the unbiased variance, Keras keeps the other
            self.statistics = mean, variance * (n - 1) / n
        return tf.reshape(outputs, shape) if flat else outputs

    def remember(self, statistics: tuple[Any, Any]) -> None:
        """Move the moving averages towards the mean and variance of a batch."""
        for moving, now in zip((self.moving_mean, self.moving_variance), statistics, strict=True):
            moving.assign(moving * self.momentum + now * (1 - self.momentum))
