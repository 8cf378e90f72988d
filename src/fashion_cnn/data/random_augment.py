"""RandAugment (arXiv:1909.13719) for small gray images: two random changes of random strength.

Images uint8 (n, height, width, channels) and random numbers in, images of the same shape out.
"""

from types import ModuleType
from typing import Any

import numpy as np

from fashion_cnn.data.camera_augment import interpolate

CHANGES = ("shift", "rotate", "shear", "contrast", "erase")
RANDOM_COLUMNS = 7  # which two, how strong each is, and where
BLOCK = 64  # images that NumPy changes at once: as many as fit into the processor's cache
MAX_SHIFT = 3 / 28  # of the edge
MAX_ANGLE, MAX_SHEAR = 0.3, 0.3  # radians; width for each unit of height
MAX_CONTRAST = 0.7  # the logarithm of the factor
MAX_ERASED = 0.4  # of the edge


def random_augment(images: Any, noise: Any, xp: ModuleType = np) -> Any:
    """Shift, rotate, shear, change the contrast or erase, two of these; black comes in."""
    if xp is np and len(images) > BLOCK:
        starts = range(0, len(images), BLOCK)
        blocks = [slice(start, start + BLOCK) for start in starts]
        return np.concatenate([random_augment(images[b], noise[b]) for b in blocks])
    first = xp.floor(len(CHANGES) * noise[:, 0])
    second = (first + 1 + xp.floor((len(CHANGES) - 1) * noise[:, 1])) % len(CHANGES)
    strength, other_strength = 2 * noise[:, 2] - 1, 2 * noise[:, 3] - 1  # -1..1
    strengths = {
        name: xp.where(first == k, strength, xp.where(second == k, other_strength, 0))
        for k, name in enumerate(CHANGES)
    }
    shift_y, place_x, place_y = (2 * noise[:, 4:].T - 1).astype(np.float32)
    warped = _warp(images, strengths, shift_y, xp)
    factor = xp.exp(MAX_CONTRAST * strengths["contrast"]).astype(np.float32)[:, None, None, None]
    images = xp.rint(xp.minimum(warped * factor, 255)).astype(images.dtype)
    return _erase(images, xp.abs(strengths["erase"]), place_x, place_y, xp)


def _warp(images: Any, strengths: dict[str, Any], shift_y: Any, xp: ModuleType) -> Any:
    """Shift, rotate and shear each image about its center, by bilinear interpolation: float32."""
    _, height, width, _ = images.shape
    angle, shear = MAX_ANGLE * strengths["rotate"], MAX_SHEAR * strengths["shear"]
    move_x = MAX_SHIFT * width * strengths["shift"]
    move_y = MAX_SHIFT * height * xp.where(strengths["shift"] != 0, shift_y, 0)
    angle, shear, move_x, move_y = (
        x.astype(np.float32)[:, None, None] for x in (angle, shear, move_x, move_y)
    )
    y = (xp.arange(height, dtype=np.float32) - (height - 1) / 2)[None, :, None]
    x = (xp.arange(width, dtype=np.float32) - (width - 1) / 2)[None, None, :]
    column = xp.cos(angle) * x + (xp.sin(angle) + shear) * y - move_x + (width - 1) / 2
    row = xp.cos(angle) * y - xp.sin(angle) * x - move_y + (height - 1) / 2
    padded = xp.pad(images, ((0, 0), (1, 2), (1, 2), (0, 0)))  # black, also beyond the last pixel
    row, column = xp.clip(row + 1, 0, height + 1), xp.clip(column + 1, 0, width + 1)
    return interpolate(padded, row, column, xp)


def _erase(images: Any, strength: Any, place_x: Any, place_y: Any, xp: ModuleType) -> Any:
    """Paint a square of medium gray, at most `MAX_ERASED` of the edge wide."""
    _, height, width, _ = images.shape
    row = xp.abs(xp.arange(height) - (height - 1) / 2 * (1 + place_y[:, None]))
    column = xp.abs(xp.arange(width) - (width - 1) / 2 * (1 + place_x[:, None]))
    half = (MAX_ERASED / 2 * strength)[:, None]
    inside = (row < half * height)[:, :, None] & (column < half * width)[:, None, :]
    return xp.where(inside[..., None], xp.asarray(128, images.dtype), images)
