"""Augmentations as plain functions: images and random numbers go in, changed images come out.

Images keep their shape and dtype. `noise` has one row of uniform numbers per image, so that the
result depends on (seed, epoch, index) only. `xp` is the array module, `numpy` or `jax.numpy`.
"""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from fashion_cnn.data.camera_augment import (
    LIGHT_COLUMNS,
    PERSPECTIVE_COLUMNS,
    light,
    perspective,
)
from fashion_cnn.data.photo_augment import NOISE_COLUMNS, photo
from fashion_cnn.data.random_augment import RANDOM_COLUMNS, random_augment


def flip(images: Any, noise: Any, xp: ModuleType = np) -> Any:
    """Mirror half of the images horizontally, those with `noise[:, 0]` < 0.5."""
    mirrored = (noise[:, 0] < 0.5).reshape(-1, 1, 1, 1)
    return xp.where(mirrored, images[:, :, ::-1], images)


def alternate_flip(images: Any, noise: Any, xp: ModuleType = np) -> Any:
    """`flip`, but each image is mirrored in every other epoch (arXiv:2404.00498).

    `training.batches` makes the random numbers so.
    """
    return flip(images, noise, xp)


def shift(images: Any, noise: Any, xp: ModuleType = np, max_shift: int = 2) -> Any:
    """Translate each image by up to `max_shift` pixels and fill with black."""
    n, height, width, _ = images.shape
    offsets = xp.floor(noise[:, :2] * (2 * max_shift + 1)).astype(xp.int32)
    padding = (max_shift, max_shift)
    padded = xp.pad(images, ((0, 0), padding, padding, (0, 0)))
    rows = (xp.arange(height) + offsets[:, :1])[:, :, None]
    columns = (xp.arange(width) + offsets[:, 1:])[:, None, :]
    return padded[xp.arange(n)[:, None, None], rows, columns]


def shift1(images: Any, noise: Any, xp: ModuleType = np) -> Any:
    """`shift` by at most one pixel, which suits short trainings better."""
    return shift(images, noise, xp, max_shift=1)


def erase(images: Any, noise: Any, xp: ModuleType = np) -> Any:
    """Paint a gray rectangle over half of the images (random erasing, arXiv:1708.04896)."""
    _, height, width, _ = images.shape
    area = (0.02 + 0.23 * noise[:, 1]) * height * width
    ratio = xp.exp((2 * noise[:, 2] - 1) * np.log(3.3))
    box_height = xp.minimum(xp.sqrt(area * ratio), height)
    box_width = xp.minimum(xp.sqrt(area / ratio), width)
    row = xp.arange(height) - (noise[:, 3] * (height - box_height))[:, None]
    column = xp.arange(width) - (noise[:, 4] * (width - box_width))[:, None]
    in_rows = (row >= 0) & (row < box_height[:, None])
    in_columns = (column >= 0) & (column < box_width[:, None])
    erased = in_rows[:, :, None] & in_columns[:, None, :] & (noise[:, 0] < 0.5)[:, None, None]
    gray = xp.floor(256 * noise[:, 5]).astype(images.dtype)[:, None, None, None]
    return xp.where(erased[..., None], gray, images)


def zoom(images: Any, noise: Any, xp: ModuleType = np) -> Any:
    """Resize a random crop of each image to the full size (as in arXiv:1409.4842)."""
    area, ratio = 0.5 + 0.5 * noise[:, 0], xp.exp((2 * noise[:, 1] - 1) * np.log(4 / 3))
    crop_height = xp.minimum(xp.sqrt(area * ratio), 1.0)
    crop_width = xp.minimum(xp.sqrt(area / ratio), 1.0)
    images = _crop_and_resize(images, 1, crop_height, noise[:, 2], xp)
    return _crop_and_resize(images, 2, crop_width, noise[:, 3], xp)


def _crop_and_resize(images: Any, axis: int, fraction: Any, corner: Any, xp: ModuleType) -> Any:
    """Resize a `fraction` of one axis of uint8 images to all of it, by linear interpolation."""
    size = images.shape[axis]
    offset = (corner * (1 - fraction) * size)[:, None]
    position = (xp.arange(size) + 0.5) * fraction[:, None] - 0.5 + offset
    position = xp.clip(position, 0, size - 1)
    first = xp.minimum(position.astype(np.int32), size - 2)
    weight = (256 * (position - first)).astype(np.uint16)  # integers are twice as fast
    image = xp.arange(len(images))[:, None]
    if axis == 1:
        weight = weight[:, :, None, None]
        before, after = images[image, first], images[image, first + 1]
    else:
        weight, first = weight[:, None, :, None], first[:, None]
        index = image[:, :, None], xp.arange(images.shape[1])[None, :, None]
        before, after = images[*index, first], images[*index, first + 1]
    return ((before * (256 - weight) + after * weight) >> 8).astype(images.dtype)


def color(images: Any, noise: Any, xp: ModuleType = np) -> Any:
    """Color jitter: brightness and contrast change by up to 30 %, saturation by up to 50 %."""
    brightness, contrast, saturation = (noise[:, :3] - 0.5).T[:, :, None, None]
    channels = images.shape[3]
    gray = xp.full((channels, channels), 1 / channels)
    matrix = (1 + 0.6 * contrast) * (gray + (1 + saturation) * (xp.eye(channels) - gray))
    mean = images[:, ::4, ::4].mean((1, 2, 3))[:, None, None]
    pixels = images.reshape(len(images), -1, channels).astype(np.float32)
    values = xp.matmul(pixels, matrix.astype(np.float32))
    values = values + (mean * 0.6 * (brightness - contrast)).astype(np.float32)
    return xp.clip(values, 0, 255).astype(images.dtype).reshape(images.shape)


# name in a recipe -> (function, how many random numbers per image it reads); to add an
# augmentation, write the function, add a line here, and test it in tests/unit/test_augment.py
AUGMENTATIONS: dict[str, tuple[Callable[..., Any], int]] = {
    "flip": (flip, 1),
    "alternate_flip": (alternate_flip, 1),
    "shift": (shift, 2),
    "shift1": (shift1, 2),
    "erase": (erase, 6),
    "random": (random_augment, RANDOM_COLUMNS),
    "zoom": (zoom, 4),
    "color": (color, 3),
    "photo": (photo, NOISE_COLUMNS),
    "perspective": (perspective, PERSPECTIVE_COLUMNS),
    "light": (light, LIGHT_COLUMNS),
}

FLIPS = ("flip", "alternate_flip")  # of which a recipe has one at most


def noise_columns(names: Sequence[str]) -> int:
    """How many uniform random numbers per image `augment` reads."""
    return sum(AUGMENTATIONS[name][1] for name in names)


def augment(images: Any, noise: Any, names: Sequence[str], xp: ModuleType = np) -> Any:
    """Apply the named augmentations in order.

    Args:
        images: uint8 (n, height, width, channels).
        noise: float (n, noise_columns(names)), uniform in [0, 1).
        names: keys of `AUGMENTATIONS`.
        xp: the array module. Default: NumPy.
    """
    column = 0
    for name in names:
        function, columns = AUGMENTATIONS[name]
        images = function(images, noise[:, column : column + columns], xp)
        column += columns
    return images
