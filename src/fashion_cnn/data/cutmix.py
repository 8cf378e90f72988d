"""CutMix (arXiv:1905.04899): parts of other training images are pasted into images and targets.

Like an augmentation, it depends on each image's random numbers only, on NumPy and JAX alike. The
other image is any of the epoch, not one of the batch, so that every batch can be made by itself.
"""

from types import ModuleType
from typing import Any

import numpy as np

CUTMIX_COLUMNS = 5  # of noise: whether to paste, from which image, how much, and where


def cutmix_images(
    images: Any, index: Any, order: Any, noise: Any, probability: float, xp: ModuleType = np
) -> Any:
    """Images with a rectangle of another one.

    Args:
        images: all training images, uint8 (m, height, width, channels).
        index: of the images to return, (n,).
        order: indices of the epoch's images, from which the others are chosen, (k,).
        noise: float32 (n, CUTMIX_COLUMNS), uniform in [0, 1).
        probability: that an image gets a rectangle.
        xp: the array module. Default: NumPy.
    """
    _, height, width, _ = images.shape
    top, bottom, left, right = _rectangle(noise, probability, height, width, xp)
    row, column = xp.arange(height), xp.arange(width)
    in_rows = (row >= top[:, None]) & (row < bottom[:, None])
    in_columns = (column >= left[:, None]) & (column < right[:, None])
    inside = (in_rows[:, :, None] & in_columns[:, None, :])[..., None]
    return xp.where(inside, images[_partners(order, noise, xp)], images[index])


def cutmix_targets(
    targets: Any,
    index: Any,
    order: Any,
    noise: Any,
    probability: float,
    shape: tuple[int, int, int],
    xp: ModuleType = np,
) -> Any:
    """Probabilities float32 (n, classes) for `cutmix_images`, weighted by area.

    `targets` are those of all training images, (m, classes), and `shape` is that of an image.
    """
    height, width, _ = shape
    top, bottom, left, right = _rectangle(noise, probability, height, width, xp)
    share = ((bottom - top) * (right - left) / (height * width)).astype(np.float32)[:, None]
    return (1 - share) * targets[index] + share * targets[_partners(order, noise, xp)]


def _partners(order: Any, noise: Any, xp: ModuleType) -> Any:
    """The index of the image that each image gets a part of."""
    return order[xp.minimum((noise[:, 1] * len(order)).astype(np.int32), len(order) - 1)]


def _rectangle(
    noise: Any, probability: float, height: int, width: int, xp: ModuleType
) -> tuple[Any, Any, Any, Any]:
    """The first and the last row and column, exclusive; empty where nothing is pasted."""
    edge = xp.sqrt(xp.where(noise[:, 0] < probability, noise[:, 2], 0))  # of the image's edges
    rows, columns = (xp.rint(n * edge).astype(np.int32) for n in (height, width))
    top = xp.floor(noise[:, 3] * (height - rows + 1)).astype(np.int32)
    left = xp.floor(noise[:, 4] * (width - columns + 1)).astype(np.int32)
    return top, top + rows, left, left + columns
