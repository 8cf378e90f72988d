"""Augmentation like a phone's camera: another point of view, and another light.

Color photos uint8 (n, height, width, 1 or 3) and random numbers in, photos of the same shape out.
"""

from types import ModuleType
from typing import Any

import numpy as np

MAX_ANGLE = 0.2  # radians
MIN_AREA, MAX_AREA = 0.45, 1.15  # of the part of the photo that is seen, relative to all of it
MAX_STRETCH = 4 / 3  # of width to height
MAX_PERSPECTIVE = 0.15  # how much nearer one edge is than the center
PERSPECTIVE_COLUMNS, LIGHT_COLUMNS = 7, 8


def grid(size: tuple[int, int], xp: ModuleType) -> tuple[Any, Any]:
    """Coordinates of pixel centers, -1..1: x (1, 1, width) and y (1, height, 1)."""
    y, x = (((xp.arange(n) + 0.5) * (2 / n) - 1).astype(np.float32) for n in size)
    return x[None, None, :], y[None, :, None]


def perspective(images: Any, noise: Any, xp: ModuleType = np) -> Any:
    """Turn, move, stretch and tilt the camera; what lies outside repeats the nearest edge."""
    columns = xp.asarray(noise, np.float32).T[:, :, None, None]
    angle, area, stretch, move_x, move_y, tilt_x, tilt_y = 2 * columns - 1  # -1..1
    angle, stretch = MAX_ANGLE * angle, xp.exp(np.log(MAX_STRETCH) * stretch)
    area = (MAX_AREA + MIN_AREA) / 2 + (MAX_AREA - MIN_AREA) / 2 * area
    half_width, half_height = xp.sqrt(area * stretch), xp.sqrt(area / stretch)
    _, height, width, _ = images.shape
    x, y = grid((height, width), xp)
    depth = 1 + MAX_PERSPECTIVE * (tilt_x * x + tilt_y * y)
    cos, sin = xp.cos(angle), xp.sin(angle)
    source_x = half_width * (cos * x + sin * y) / depth + move_x * xp.abs(1 - half_width)
    source_y = half_height * (cos * y - sin * x) / depth + move_y * xp.abs(1 - half_height)
    column = xp.clip((source_x + 1) * (width / 2) - 0.5, 0, width - 1)
    row = xp.clip((source_y + 1) * (height / 2) - 0.5, 0, height - 1)
    return xp.rint(interpolate(images, row, column, xp)).astype(images.dtype)


def interpolate(images: Any, row: Any, column: Any, xp: ModuleType = np) -> Any:
    """Pixels float32 at fractional positions (n, …, …), by bilinear interpolation."""
    n, height, width, channels = images.shape
    top = xp.minimum(row.astype(np.int32), height - 2)
    left = xp.minimum(column.astype(np.int32), width - 2)
    down, right = ((x - i.astype(np.float32))[..., None] for x, i in ((row, top), (column, left)))
    pixels = images.reshape(-1, channels)
    first = (xp.arange(n, dtype=np.int32)[:, None, None] * height + top) * width + left
    above = pixels[first] * (1 - right) + pixels[first + 1] * right
    below = pixels[first + width] * (1 - right) + pixels[first + width + 1] * right
    return above * (1 - down) + below * down


def light(images: Any, noise: Any, xp: ModuleType = np) -> Any:
    """Change exposure, contrast, gamma, saturation and white balance, and shade one side."""
    columns = xp.asarray(noise, np.float32).T[:, :, None, None, None]
    exposure, contrast, gamma, saturation, red, blue, shade, direction = 2 * columns - 1  # -1..1
    x, y = grid(images.shape[1:3], xp)
    values = xp.maximum(images, 1).astype(np.float32) / 255
    values = values ** xp.exp(0.35 * gamma)
    if images.shape[3] == 3:
        balance = xp.concatenate([0.15 * red, xp.zeros_like(red), 0.15 * blue], -1)
        values = values * xp.exp(balance)
    ramp = xp.cos(np.pi * direction) * x[..., None] + xp.sin(np.pi * direction) * y[..., None]
    values = values * (1 + 0.3 * xp.abs(shade) * ramp)
    gray = values.mean(-1, keepdims=True)
    values = gray + (values - gray) * (1 + 0.45 * saturation)
    mean = values.mean((1, 2, 3), keepdims=True)
    values = mean * (1 + 0.35 * exposure) + (values - mean) * (1 + 0.3 * contrast)
    return xp.rint(255 * xp.clip(values, 0, 1)).astype(images.dtype)
