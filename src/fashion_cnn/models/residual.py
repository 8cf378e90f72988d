"""The residual network: for long trainings; it goes on learning where `compact` has stopped."""

from typing import Any

from fashion_cnn.models.compact import convolve, head, require_shape
from fashion_cnn.models.layers import resize_layers


def residual(
    image_shape: tuple[int, int, int] = (28, 28, 1),
    classes: int = 10,
    *,
    stem: int = 8,
    width: int = 64,
    blocks: int = 2,
    convolutions: int = 3,
    repeats: int = 1,
    hidden: int = 256,
    dropout: float = 0.0,
    drop_path: float = 0.0,
) -> Any:
    """`compact` with a second convolution at full size, shortcuts, and a mean in place of places.

    A 2x2 and a 3x3 convolution at full size, where collars and buttons are a few pixels; then
    blocks as in `compact`, in each of which what the first convolution gives is added to what the
    last one gives (arXiv:1512.03385). The mean over all places replaces flattening: a quarter of
    the weights, so that it is later that training images are learnt by heart (docs/experiments.md).

    Args:
        image_shape: (height, width, channels) of the raw pixels.
        classes: how many outputs.
        stem: filters of the 2x2 convolution at full size; the 3x3 has twice as many.
        width: filters of the first block; each further block has twice as many.
        blocks: each halves height and width.
        convolutions: in each block; at least 2.
        repeats: how often all of them but the first, and the shortcut, are in each block.
        hidden: units of the dense layer.
        dropout: the rate before the last layer.
        drop_path: the rate at which images take the last shortcut alone, in training; the others
            in proportion to their depth (stochastic depth, arXiv:1603.09382).

    Returns:
        An uncompiled `keras.Model`, uint8 -> softmax probabilities float32 (n, classes).

    Raises:
        ValueError: an option is out of its range, or the images are too small for so many blocks.
    """
    sizes = {"stem": stem, "width": width, "repeats": repeats, "hidden": hidden}
    require_shape(image_shape, blocks, convolutions, dropout, **sizes)
    if not 0 <= drop_path < 1:
        raise ValueError(f"drop_path: got {drop_path}; expected 0 <= rate < 1")
    if convolutions < 2:
        raise ValueError(f"convolutions: got {convolutions}; expected at least 2 to go around")
    from fashion_cnn.keras_setup import keras

    layers = keras.layers
    x = pixels = keras.Input(image_shape, dtype="uint8", name="pixels")
    for layer in [layers.Rescaling(1 / 127.5, offset=-1), *resize_layers(image_shape)]:
        x = layer(x)
    x = layers.Conv2D(stem, 2, activation="relu")(x)
    x = layers.ReLU()(convolve(x, 2 * stem))
    for block in range(blocks):
        filters = width * 2**block
        x = layers.ReLU()(convolve(x, filters, pool=True))
        for i in range(repeats):
            first, rate = x, drop_path * (block * repeats + i + 1) / (blocks * repeats)
            for _ in range(convolutions - 2):
                x = layers.ReLU()(convolve(x, filters))
            x = convolve(x, filters)
            x = layers.Dropout(rate, noise_shape=(None, 1, 1, 1))(x) if rate else x
            x = layers.ReLU()(layers.Add()([x, first]))
    x = head(layers.GlobalAveragePooling2D()(x), hidden, dropout, classes)
    return keras.Model(pixels, x, name="residual")
