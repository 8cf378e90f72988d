"""The residual network: for long training; it still improves where `compact` stops improving."""

from typing import Any

from fashion_cnn.models.layers import convolve, head, require_rate, require_shape, scaled_input


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
    """`compact` with a second full-resolution convolution, shortcuts and global average pooling.

    A 2x2 and a 3x3 convolution at full resolution, where collars and buttons are a few pixels; then
    blocks as in `compact`, in each of which a shortcut adds the output of the first convolution to
    the output of the last one (arXiv:1512.03385). Global average pooling instead of flattening
    needs a quarter of the weights, so the network overfits later (docs/experiments.md).

    Args:
        image_shape: (height, width, channels) of the raw pixels.
        classes: number of classes.
        stem: filters of the 2x2 convolution at full resolution; the 3x3 has twice as many.
        width: filters of the first block; each further block has twice as many.
        blocks: number of blocks; each halves height and width.
        convolutions: number of convolutions in each block, at least 2.
        repeats: how many times each block repeats its shortcut and all convolutions but the first.
        hidden: units of the hidden dense layer.
        dropout: rate before the last layer.
        drop_path: rate at which the last shortcut's convolutions are skipped for an image in
            training; the rate of the others is proportional to their depth (stochastic depth,
            arXiv:1603.09382).

    Returns:
        An uncompiled `keras.Model`, uint8 -> softmax probabilities float32 (n, classes).

    Raises:
        ValueError: an option is out of range, or the images are too small for that many blocks.
    """
    require_rate("dropout", dropout)
    require_rate("drop_path", drop_path)
    sizes = {"stem": stem, "width": width, "repeats": repeats, "hidden": hidden}
    require_shape(image_shape, blocks, convolutions, sizes)
    if convolutions < 2:
        raise ValueError(f"convolutions: got {convolutions}; expected at least 2, for the shortcut")
    from fashion_cnn.keras_setup import keras

    layers = keras.layers
    pixels, x = scaled_input(image_shape)
    x = layers.Conv2D(stem, 2, activation="relu")(x)
    x = layers.ReLU()(convolve(x, 2 * stem))
    for block in range(blocks):
        filters = width * 2**block
        x = layers.ReLU()(convolve(x, filters, pool=True))
        for i in range(repeats):
            shortcut = x
            rate = drop_path * (block * repeats + i + 1) / (blocks * repeats)
            for _ in range(convolutions - 2):
                x = layers.ReLU()(convolve(x, filters))
            x = convolve(x, filters)
            x = layers.Dropout(rate, noise_shape=(None, 1, 1, 1))(x) if rate else x
            x = layers.ReLU()(layers.Add()([x, shortcut]))
    x = head(layers.GlobalAveragePooling2D()(x), hidden, dropout, classes)
    return keras.Model(pixels, x, name="residual")
