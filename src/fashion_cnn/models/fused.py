"""Batch normalisation as one TensorFlow kernel, and what a trained network is made into."""

from typing import Any

from fashion_cnn.framework import keras


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalisation (arXiv:1502.03167), equal in output, faster on TensorFlow.

    Keras 3 computes mean, variance and scaling with an operation each; at 27x27x32 and a batch of
    128 that takes three to four times as long as TensorFlow's one kernel. Only for training:
    `plain` puts Keras's own layer in its place before a model is saved.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise (n, height, width, channels) over all axes but the last."""
        if keras.backend.backend() != "tensorflow" or len(inputs.shape) != 4:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        learning = bool(training) and self.trainable
        empty = tf.zeros([0])
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma.value if self.scale else tf.ones(inputs.shape[-1]),
            offset=self.beta.value if self.center else tf.zeros(inputs.shape[-1]),
            mean=empty if learning else self.moving_mean.value,
            variance=empty if learning else self.moving_variance.value,
            epsilon=self.epsilon,
            is_training=learning,
        )
        if learning:
            n = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
            variance *= (n - 1) / n  # the kernel gives the unbiased one, Keras keeps the other
            for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + now * (1 - self.momentum))
        return outputs


def plain(model: Any) -> Any:
    """The same network with the same weights in float32, made of Keras's own layers only."""

    def unfused(layer: Any) -> Any:
        fused = isinstance(layer, FusedBatchNormalization)
        kind = keras.layers.BatchNormalization if fused else type(layer)
        return kind.from_config({**layer.get_config(), "dtype": "float32"})

    layers = keras.Model(model.inputs, model.outputs, name=model.name)  # without the optimizer
    network = keras.models.clone_model(layers, clone_function=unfused)
    network.set_weights(model.get_weights())
    return network


def mirrored(model: Any) -> Any:
    """A network that answers with the mean over each image and its mirror image."""
    pixels = keras.Input(model.input_shape[1:], dtype="uint8", name="pixels")
    answers = [model(pixels), model(keras.ops.flip(pixels, axis=2))]
    return keras.Model(pixels, keras.layers.Average()(answers), name=f"{model.name}_mirrored")
