"""Augmentation as plain functions of images and explicit random numbers.

Images in, images out, same shape and dtype. Nothing is drawn in here: the caller gives
`noise`, one row of uniform numbers an image, so a picture's fate depends on (seed, epoch, index)
and on nothing else. `xp` is the array module (`numpy`, `jax.numpy`) the code runs on.
"""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from fashion_cnn.data.photo_augment import COLUMNS, photo


def flip(images: Any, noise: Any, xp: ModuleType = np) -> Any:
    """Mirror left to right every image whose `noise[:, 0]` is below a half."""
    mirror = (noise[:, 0] < 0.5).reshape(-1, 1, 1, 1)
    return xp.where(mirror, images[:, :, ::-1], images)


def shift(images: Any, noise: Any, xp: ModuleType = np, reach: int = 2) -> Any:
    """Move each image by up to `reach` pixels down (`noise[:, 0]`) and right (`noise[:, 1]`).

    What comes in at the edge is black, the background of Fashion-MNIST.
    """
    n, height, width, _ = images.shape
    steps = xp.floor(noise[:, :2] * (2 * reach + 1)).astype(xp.int32)
    padded = xp.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    rows = (xp.arange(height) + steps[:, :1])[:, :, None]
    columns = (xp.arange(width) + steps[:, 1:])[:, None, :]
    return padded[xp.arange(n)[:, None, None], rows, columns]


def shift1(images: Any, noise: Any, xp: ModuleType = np) -> Any:
    """`shift` by at most one pixel, which suits short trainings better."""
    return shift(images, noise, xp, reach=1)


def erase(images: Any, noise: Any, xp: ModuleType = np) -> Any:
    """Paint a grey rectangle over a random half of the images (random erasing, arXiv:1708.04896).

    It covers 2 to 25 % of the image, at a ratio of 0.3 to 3.3. Six numbers an image: whether, area,
    ratio, row and column of its corner, and its grey.
    """
    _, height, width, _ = images.shape
    area = (0.02 + 0.23 * noise[:, 1]) * height * width
    ratio = xp.exp((2 * noise[:, 2] - 1) * np.log(3.3))
    tall, wide = xp.minimum(xp.sqrt(area * ratio), height), xp.minimum(xp.sqrt(area / ratio), width)
    above = xp.arange(height) - (noise[:, 3] * (height - tall))[:, None]
    left = xp.arange(width) - (noise[:, 4] * (width - wide))[:, None]
    rows, columns = (above >= 0) & (above < tall[:, None]), (left >= 0) & (left < wide[:, None])
    inside = rows[:, :, None] & columns[:, None, :] & (noise[:, 0] < 0.5)[:, None, None]
    grey = xp.floor(256 * noise[:, 5]).astype(images.dtype)[:, None, None, None]
    return xp.where(inside[..., None], grey, images)


def zoom(images: Any, noise: Any, xp: ModuleType = np) -> Any:
    """Enlarge a random part of each image to the whole (as in arXiv:1409.4842): photos vary so.

    It has 50 to 100 % of the area, at a ratio of 3:4 to 4:3 to the image's. Four numbers an image:
    area, ratio, row and column of its corner.
    """
    area, ratio = 0.5 + 0.5 * noise[:, 0], xp.exp((2 * noise[:, 1] - 1) * np.log(4 / 3))
    tall, wide = (xp.minimum(xp.sqrt(x), 1.0) for x in (area * ratio, area / ratio))
    for axis, part, corner in ((1, tall, noise[:, 2]), (2, wide, noise[:, 3])):
        images = _enlarge(images, axis, part, corner, xp)
    return images


def _enlarge(images: Any, axis: int, part: Any, corner: Any, xp: ModuleType) -> Any:
    """Spread a `part` of an axis of uint8 images over all of it, between pixels in proportion."""
    size = images.shape[axis]
    at = (xp.arange(size) + 0.5) * part[:, None] - 0.5 + (corner * (1 - part) * size)[:, None]
    at = xp.clip(at, 0, size - 1)
    first = xp.minimum(at.astype(np.int32), size - 2)
    share = (256 * (at - first)).astype(np.uint16)  # whole numbers are twice as fast
    image = xp.arange(len(images))[:, None]
    if axis == 1:
        share = share[:, :, None, None]
        near, far = images[image, first], images[image, first + 1]
    else:
        share, first = share[:, None, :, None], first[:, None]
        place = image[:, :, None], xp.arange(images.shape[1])[None, :, None]
        near, far = images[*place, first], images[*place, first + 1]
    return ((near * (256 - share) + far * share) >> 8).astype(images.dtype)


def colour(images: Any, noise: Any, xp: ModuleType = np) -> Any:
    """Another light and another camera: brightness, contrast (30 % each way) and saturation (50 %).

    Three numbers an image, in this order.
    """
    light, contrast, saturation = (noise[:, :3] - 0.5).T[:, :, None, None]
    channels = images.shape[3]
    grey = xp.full((channels, channels), 1 / channels)
    colours = (1 + 0.6 * contrast) * (grey + (1 + saturation) * (xp.eye(channels) - grey))
    mean = images[:, ::4, ::4].mean((1, 2, 3))[:, None, None]
    pixels = images.reshape(len(images), -1, channels).astype(np.float32)
    values = xp.matmul(pixels, colours.astype(np.float32))
    values = values + (mean * 0.6 * (light - contrast)).astype(np.float32)
    return xp.clip(values, 0, 255).astype(images.dtype).reshape(images.shape)


# name -> function, and how many numbers an image it reads
AUGMENTATIONS: dict[str, tuple[Callable[..., Any], int]] = {
    "flip": (flip, 1),
    "shift": (shift, 2),
    "shift1": (shift1, 2),
    "erase": (erase, 6),
    "zoom": (zoom, 4),
    "colour": (colour, 3),
    "photo": (photo, COLUMNS),
}


def noise_columns(names: Sequence[str]) -> int:
    """How many uniform numbers an image `augment` reads for these names."""
    return sum(AUGMENTATIONS[name][1] for name in names)


def augment(images: Any, noise: Any, names: Sequence[str], xp: ModuleType = np) -> Any:
    """Apply the named augmentations in order.

    Args:
        images: (n, height, width, channels), any dtype.
        noise: floats in [0, 1), (n, noise_columns(names)).
        names: keys of `AUGMENTATIONS`.
        xp: the array module.

    Returns:
        The images, changed; shape and dtype as given.
    """
    column = 0
    for name in names:
        function, columns = AUGMENTATIONS[name]
        images = function(images, noise[:, column : column + columns], xp)
        column += columns
    return images
