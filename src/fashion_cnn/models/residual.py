"""The residual network: for long training; it still improves where `compact` stops improving."""

from typing import Any


def residual(
    image_shape: tuple[int, int, int] = (28, 28, 1),
    classes: int = 10,
    *,
    stem: int = 8,  # filters of the 2x2 convolution at full resolution; 0: 8 that are not trained
    width: int = 64,  # filters of the first block; each further block has twice as many
    blocks: int = 2,  # each halves height and width
    convolutions: int = 3,  # in each block, at least 2
    repeats: int = 1,  # of the shortcut and all convolutions but the first, in each block
    hidden: int = 256,  # units of the hidden dense layer
    dropout: float = 0.0,  # rate before the last layer
    drop_path: float = 0.0,  # rate at which the last shortcut's convolutions are skipped
    activation: str = "relu",  # of the convolutions; or `silu` or `gelu`
    pool_power: float = 1.0,  # of the mean over all positions; 1: average, 3: nearer to the maximum
) -> Any:
    """`compact` with a second full-resolution convolution, shortcuts and global average pooling.

    The second convolution (3x3, twice the filters) sees collars and buttons at full resolution. In
    each block, a shortcut adds the output of the first convolution to that of the last
    (arXiv:1512.03385). Global average pooling needs a quarter of the weights of flattening, so the
    network overfits later (docs/experiments.md). `drop_path` is stochastic depth
    (arXiv:1603.09382): in training, for each image, and at rates proportional to the depth of the
    shortcut. With a `pool_power` p the pooling is the p-th root of the mean p-th power (GeM,
    arXiv:1711.02512), of what is not negative.
    """
    from fashion_cnn.keras_setup import keras
    from fashion_cnn.models import layers as shared

    shared.require_rate("dropout", dropout)
    shared.require_rate("drop_path", drop_path)
    sizes = {
        "stem": stem or shared.HAAR_FILTERS,
        "width": width,
        "repeats": repeats,
        "hidden": hidden,
    }
    shared.require_shape(image_shape, blocks, convolutions, sizes)
    if convolutions < 2:
        raise ValueError(f"convolutions: got {convolutions}; expected at least 2, for the shortcut")
    shared.require_activation(activation)
    layers = keras.layers
    pixels, x = shared.scaled_input(image_shape)
    x = shared.stem_convolution(x, stem, activation)
    x = layers.Activation(activation)(shared.convolve(x, 2 * x.shape[-1]))
    for block in range(blocks):
        filters = width * 2**block
        x = layers.Activation(activation)(shared.convolve(x, filters, pool=True))
        for i in range(repeats):
            shortcut = x
            rate = drop_path * (block * repeats + i + 1) / (blocks * repeats)
            for _ in range(convolutions - 2):
                x = layers.Activation(activation)(shared.convolve(x, filters))
            x = shared.convolve(x, filters)
            x = layers.Dropout(rate, noise_shape=(None, 1, 1, 1))(x) if rate else x
            x = layers.Activation(activation)(layers.Add()([x, shortcut]))
    x = shared.head(shared.generalized_mean(x, pool_power), hidden, dropout, classes)
    return keras.Model(pixels, x, name="residual")
