"""The compact network: as much accuracy as possible for the arithmetic it costs."""

from typing import Any

from fashion_cnn.models.layers import resize_factors, resize_layers


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
    """A small network with batch normalisation after the pooling, where it is four times cheaper.

    A 2x2 convolution, then blocks of convolution, pooling, normalisation and ReLU (after Keller
    Jordan's airbench, arXiv:2404.00498), each twice as wide as the one before, and one hidden dense
    layer, which costs little arithmetic and buys much accuracy (docs/experiments.md).

    Args:
        image_shape: (height, width, channels) of the raw pixels.
        classes: how many outputs.
        stem: filters of the 2x2 convolution at full size.
        width: filters of the first block.
        blocks: each halves height and width.
        convolutions: in each block.
        hidden: units of the dense layer.
        dropout: the rate before the last layer.

    Returns:
        An uncompiled `keras.Model`, uint8 -> softmax probabilities float32 (n, classes).

    Raises:
        ValueError: an option is out of its range, or the images are too small for so many blocks.
    """
    require_shape(image_shape, blocks, convolutions, dropout, stem=stem, width=width, hidden=hidden)
    from fashion_cnn.keras_setup import keras

    layers = keras.layers
    x = pixels = keras.Input(image_shape, dtype="uint8", name="pixels")
    for layer in [layers.Rescaling(1 / 127.5, offset=-1), *resize_layers(image_shape)]:
        x = layer(x)
    x = layers.Conv2D(stem, 2, activation="relu")(x)
    for block in range(blocks):
        filters = width * 2**block
        for i in range(convolutions):
            x = layers.ReLU()(convolve(x, filters, pool=i == 0))
    x = head(layers.Flatten()(x), hidden, dropout, classes)
    return keras.Model(pixels, x, name="compact")


def require_shape(
    image_shape: tuple[int, int, int],
    blocks: int,
    convolutions: int,
    dropout: float,
    **at_least_one: int,
) -> None:
    """Raise ValueError unless there can be such a network for such images."""
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout: got {dropout}; expected 0 <= rate < 1")
    for name, value in at_least_one.items():
        if value < 1:
            raise ValueError(f"{name}: got {value}; expected at least 1")
    larger, smaller = resize_factors(image_shape)
    edge = min(image_shape[:2]) * larger // smaller
    least = edge - 1 >> blocks if blocks >= 0 else 0
    if convolutions < 1 or least < 1:
        raise ValueError(
            f"blocks, convolutions: got {blocks}, {convolutions} for images of {image_shape[:2]}; "
            "expected at least 1 convolution, and blocks that leave a pixel"
        )


def convolve(x: Any, filters: int, pool: bool = False) -> Any:
    """A 3x3 convolution, halved in height and width if `pool`, and normalised; no ReLU yet."""
    from fashion_cnn.keras_setup import keras

    x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
    x = keras.layers.MaxPooling2D()(x) if pool else x
    return keras.layers.BatchNormalization(momentum=0.9)(x)


def head(x: Any, hidden: int, dropout: float, classes: int) -> Any:
    """Features (n, m) through a hidden layer to probabilities float32 (n, classes)."""
    from fashion_cnn.keras_setup import keras

    x = keras.layers.Dense(hidden, use_bias=False)(x)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.Dropout(dropout)(x) if dropout else x
    return keras.layers.Dense(classes, activation="softmax", dtype="float32")(x)
