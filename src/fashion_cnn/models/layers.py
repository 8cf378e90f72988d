"""Image shapes in; the layers out that bring images to a size that networks for 28x28 can use."""

from typing import Any

SMALLEST, USUAL, LARGEST = 20, 28, 96  # pixels


def resize_factors(image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """How many times larger, or smaller, images become: two whole numbers, one of them 1.

    The shorter edge comes to at least 20 pixels, then the longer one to at most 96 if it can.

    Args:
        image_shape: (height, width, channels).
    """
    shorter, longer = sorted(image_shape[:2])
    if shorter < SMALLEST:
        return -(-USUAL // shorter), 1
    return 1, max(1, min(-(-longer // LARGEST), shorter // SMALLEST))


def resize_layers(image_shape: tuple[int, int, int]) -> list[Any]:
    """The layer that does it, or none."""
    from fashion_cnn.keras_setup import keras

    larger, smaller = resize_factors(image_shape)
    if larger > 1:
        return [keras.layers.UpSampling2D(larger, interpolation="bilinear")]
    return [keras.layers.AveragePooling2D(smaller)] if smaller > 1 else []
