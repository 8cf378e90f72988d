"""The compact network: high accuracy for little arithmetic."""

from typing import Any


def compact(
    image_shape: tuple[int, int, int] = (28, 28, 1),
    classes: int = 10,
    *,
    stem: int = 8,  # filters of the 2x2 convolution at full resolution; 0: 8 that are not trained
    width: int = 32,  # filters of the first block; each further block has twice as many
    blocks: int = 2,  # each halves height and width
    convolutions: int = 1,  # in each block
    hidden: int = 128,  # units of the hidden dense layer
    dropout: float = 0.0,  # rate before the last layer
) -> Any:
    """A 2x2 convolution, blocks that pool before they normalize, and one hidden dense layer.

    Batch normalization costs a quarter after the pooling (Keller Jordan's airbench,
    arXiv:2404.00498). The hidden layer adds accuracy at little cost (docs/experiments.md).
    """
    from fashion_cnn.keras_setup import keras
    from fashion_cnn.models import layers as shared

    shared.require_rate("dropout", dropout)
    sizes = {"stem": stem or shared.HAAR_FILTERS, "width": width, "hidden": hidden}
    shared.require_shape(image_shape, blocks, convolutions, sizes)
    layers = keras.layers
    pixels, x = shared.scaled_input(image_shape)
    x = shared.stem_convolution(x, stem, "relu")
    for block in range(blocks):
        for i in range(convolutions):
            x = layers.ReLU()(shared.convolve(x, width * 2**block, pool=i == 0))
    x = shared.head(layers.Flatten()(x), hidden, dropout, classes)
    return keras.Model(pixels, x, name="compact")
