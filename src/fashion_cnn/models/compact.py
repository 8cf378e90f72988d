"""The compact network: high accuracy for little arithmetic."""

from typing import Any

from fashion_cnn.models.layers import convolve, head, require_rate, require_shape, scaled_input


def compact(
    image_shape: tuple[int, int, int] = (28, 28, 1),
    classes: int = 10,
    *,
    stem: int = 8,
    width: int = 32,
    blocks: int = 2,
    convolutions: int = 1,
    hidden: int = 128,
    dropout: float = 0.0,
) -> Any:
    """A small network with batch normalization after the pooling, where it costs a quarter.

    A 2x2 convolution, then blocks of convolution, max pooling, batch normalization and ReLU (after
    Keller Jordan's airbench, arXiv:2404.00498), each twice as wide as the one before. One hidden
    dense layer adds much accuracy for little arithmetic (docs/experiments.md).

    Args:
        image_shape: (height, width, channels) of the raw pixels.
        classes: number of classes.
        stem: filters of the 2x2 convolution at full resolution.
        width: filters of the first block.
        blocks: number of blocks; each halves height and width.
        convolutions: number of convolutions in each block.
        hidden: units of the hidden dense layer.
        dropout: rate before the last layer.

    Returns:
        An uncompiled `keras.Model`, uint8 -> softmax probabilities float32 (n, classes).

    Raises:
        ValueError: an option is out of range, or the images are too small for that many blocks.
    """
    require_rate("dropout", dropout)
    sizes = {"stem": stem, "width": width, "hidden": hidden}
    require_shape(image_shape, blocks, convolutions, sizes)
    from fashion_cnn.keras_setup import keras

    layers = keras.layers
    pixels, x = scaled_input(image_shape)
    x = layers.Conv2D(stem, 2, activation="relu")(x)
    for block in range(blocks):
        for i in range(convolutions):
            x = layers.ReLU()(convolve(x, width * 2**block, pool=i == 0))
    x = head(layers.Flatten()(x), hidden, dropout, classes)
    return keras.Model(pixels, x, name="compact")
