"""A small network with a convolution, normalization and dropout, for programs that tests start."""

from fashion_cnn.keras_setup import keras


def network(*_):
    """A convolution without overlap, whose gradient XLA compiles quickly."""
    layers = keras.layers
    x = pixels = keras.Input((28, 28, 1), dtype="uint8")
    x = layers.Conv2D(3, 4, strides=4, use_bias=False)(layers.Rescaling(1 / 255)(x))
    x = layers.Flatten()(layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x)))
    x = layers.Dropout(0.2)(x)
    return keras.Model(pixels, layers.Dense(4, activation="softmax", dtype="float32")(x))
