"""What the networks share: option checks, resizing, convolutions, the head. Imports Keras."""

from typing import Any

import numpy as np

from fashion_cnn.keras_setup import keras

ACTIVATIONS = ("relu", "silu", "gelu")
# The Haar wavelets of 2x2 pixels, scaled to about equal variance on Fashion-MNIST's
HAAR = (
    ((0.5, 0.5), (0.5, 0.5)),
    ((2.0, 2.0), (-2.0, -2.0)),
    ((2.0, -2.0), (2.0, -2.0)),
    ((3.0, -3.0), (-3.0, 3.0)),
)
HAAR_FILTERS = 2 * len(HAAR)
MIN_EDGE, TARGET_EDGE, MAX_EDGE = 20, 28, 96  # pixels


def require_rate(name: str, rate: float) -> None:
    """Raise ValueError unless `rate` is valid for dropout."""
    if not 0 <= rate < 1:
        raise ValueError(f"{name}: got {rate}; expected 0 <= rate < 1")


def require_activation(name: str) -> None:
    """Raise ValueError unless the networks know this activation."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation: got {name!r}; expected {', '.join(ACTIVATIONS)}")


def require_shape(
    image_shape: tuple[int, int, int], blocks: int, convolutions: int, sizes: dict[str, int]
) -> None:
    """Raise ValueError unless images of this shape fit, and all `sizes` (by option) are >= 1."""
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}: got {value}; expected at least 1")
    upscale, downscale = resize_factors(image_shape)
    after_stem = min(image_shape[:2]) * upscale // downscale - 1
    if blocks < 0 or convolutions < 1 or after_stem >> blocks < 1:
        raise ValueError(
            f"blocks, convolutions: got {blocks}, {convolutions} for images of {image_shape[:2]}; "
            "expected at least 1 convolution, and few enough blocks to leave at least one pixel"
        )


def resize_factors(image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Integer factors (upscale, downscale) that suit networks for 28x28; one of them is 1."""
    shorter, longer = sorted(image_shape[:2])
    if shorter < MIN_EDGE:
        return -(-TARGET_EDGE // shorter), 1
    # the longer edge becomes at most 96 pixels if the shorter one keeps at least 20
    return 1, max(1, min(-(-longer // MAX_EDGE), shorter // MIN_EDGE))


def resize_layers(image_shape: tuple[int, int, int]) -> list[Any]:
    """The layer that resizes images by `resize_factors`; an empty list if they stay as they are."""
    upscale, downscale = resize_factors(image_shape)
    if upscale > 1:
        return [keras.layers.UpSampling2D(upscale, interpolation="bilinear")]
    return [keras.layers.AveragePooling2D(downscale)] if downscale > 1 else []


def scaled_input(image_shape: tuple[int, int, int]) -> tuple[Any, Any]:
    """The input `pixels` (uint8), and the same scaled to -1..1 and resized."""
    pixels = keras.Input(image_shape, dtype="uint8", name="pixels")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(pixels)
    for layer in resize_layers(image_shape):
        x = layer(x)
    return pixels, x


def stem_convolution(x: Any, filters: int, activation: str) -> Any:
    """2x2 convolution and activation: (n, h, w, c) -> (n, h - 1, w - 1, filters).

    With 0 filters, gray images give the Haar wavelets of all patches and their negatives: 8 fixed
    filters that whiten, as in airbench (arXiv:2404.00498), and need no gradients. Of images with
    more channels, 8 filters are trained.
    """
    if filters or x.shape[-1] != 1:
        filters = filters or HAAR_FILTERS
        return keras.layers.Conv2D(filters, 2, activation=activation)(x)
    wavelets = np.array([*HAAR, *-np.array(HAAR)])  # (filter, row, column)
    kernel = keras.initializers.Constant(wavelets.transpose(1, 2, 0)[:, :, None].tolist())
    settings = {"activation": activation, "kernel_initializer": kernel, "use_bias": False}
    return keras.layers.Conv2D(HAAR_FILTERS, 2, trainable=False, **settings)(x)


def convolve(x: Any, filters: int, pool: bool = False) -> Any:
    """3x3 convolution, 2x2 max pooling if `pool`, and batch normalization; without activation."""
    x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
    x = keras.layers.MaxPooling2D()(x) if pool else x
    return keras.layers.BatchNormalization(momentum=0.9)(x)


def generalized_mean(x: Any, power: float) -> Any:
    """The `power`-th root of the mean power over all positions: (n, h, w, m) -> (n, m)."""
    if not 1 <= power <= 6:  # beyond, the smallest powers are 0 in float32
        raise ValueError(f"pool_power: got {power}; expected 1..6")
    if power == 1:
        return keras.layers.GlobalAveragePooling2D()(x)
    x = keras.ops.maximum(x, 1e-6) ** power
    return keras.layers.GlobalAveragePooling2D()(x) ** (1 / power)


def head(x: Any, hidden: int, dropout: float, classes: int) -> Any:
    """Hidden dense layer and softmax: features (n, m) -> probabilities float32 (n, classes)."""
    x = keras.layers.Dense(hidden, use_bias=False)(x)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.Dropout(dropout)(x) if dropout else x
    return keras.layers.Dense(classes, activation="softmax", dtype="float32")(x)
