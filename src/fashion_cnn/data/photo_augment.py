"""Augmentation that makes images of Fashion-MNIST look like photos that `photo.py` has prepared.

In photos sleeves are spread, shoes come in pairs seen from above, tones vary, and the segmentation
is imperfect. Ablations: docs/experiments.md. Lengths are in half image sizes.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from fashion_cnn.data.camera_augment import grid, interpolate

UNCHANGED_PROBABILITY = 0.5
INVERT_PROBABILITY, PLAIN_PROBABILITY, STRIPES_PROBABILITY = 0.1, 0.2, 0.3
FOREGROUND_THRESHOLD = 0.06  # brightness 0..1; darker pixels are background
WAVE_AMPLITUDE = 0.04  # of each of three waves
MAX_EXTENT = 2.2  # how far from the center a warped garment can reach
_OUTSIDE = 9.0  # a coordinate that is outside of every image
_WARP_COLUMNS, _TONE_COLUMNS, _CUTOUT_COLUMNS = 26, 11, 9
NOISE_COLUMNS = 1 + _WARP_COLUMNS + _TONE_COLUMNS + _CUTOUT_COLUMNS

# coordinates x, y (-1..1) in the output image -> coordinates in the input image
InverseMap = Callable[[Any, Any], tuple[Any, Any]]


def photo(images: Any, noise: Any, xp: ModuleType = np) -> Any:
    """Warp each garment, light on black, change its tones, and imitate a bad segmentation."""
    columns = xp.asarray(noise, np.float32).T[:, :, None, None]
    warp_end, tone_end = 1 + _WARP_COLUMNS, 1 + _WARP_COLUMNS + _TONE_COLUMNS
    values = images.astype(np.float32) / 255
    mask = values.max(-1) > FOREGROUND_THRESHOLD
    inverse_map = _random_warp(mask, columns[1:warp_end], xp)
    values = _sample_bilinear(values, *_fit_to_image(mask, inverse_map, xp), xp)
    opacity = xp.clip(8 * values.max(-1, keepdims=True), 0, 1)
    values = _change_tones(values, opacity, columns[warp_end:tone_end], xp)
    values = _cutout_and_blur(values, opacity, columns[tone_end:], xp)
    augmented = xp.rint(255 * xp.clip(values, 0, 1)).astype(images.dtype)
    return xp.where(columns[0][..., None] < UNCHANGED_PROBABILITY, images, augmented)


def _random_warp(mask: Any, columns: Any, xp: ModuleType) -> InverseMap:
    """Affine transform, waves, spread sleeves, pairs, quarter turns of shoes, and flips."""
    rotation, stretch, shear, sleeves_apart, sleeve_angle, body, shoulder, *columns = columns
    paired, gap, mirrored, turned, direction, tilt, flipped, *waves = columns
    height, width = (mask.any(k).mean(1, dtype=np.float32)[:, None, None] for k in (2, 1))
    is_flat, has_sleeves = height < 0.8 * width, (height > 0.75) & (width > 0.7)  # shoes are flat
    cos, sin = xp.cos(0.4 * rotation - 0.2), xp.sin(0.4 * rotation - 0.2)
    stretch, shear = xp.exp(0.5 * stretch - 0.25), 0.4 * shear - 0.2
    sleeve_angle = xp.where((sleeves_apart < 0.5) & has_sleeves, sleeve_angle, 0.0)
    body, shoulder = 0.25 + 0.35 * body, 0.4 * shoulder - 0.9
    quarter_turn = xp.where(turned < 0.5, xp.sign(direction - 0.5), 0.0) * (np.pi / 2)
    angle = xp.where(is_flat, quarter_turn + 0.5 * tilt - 0.25, 0.0)
    paired = paired < xp.where(is_flat, np.float32(0.6), np.float32(0.05))
    gap = (0.35 + 0.6 * gap) * xp.where(xp.abs(angle) > 0.8, height, width)

    def inverse_map(x: Any, y: Any) -> tuple[Any, Any]:
        x, y = (cos * x + sin * y) * stretch + shear * y, cos * y - sin * x
        for frequency, heading, phase, push in zip(*[iter(waves)] * 4, strict=True):
            heading, push = 2 * np.pi * heading, 2 * np.pi * push
            along = xp.cos(heading) * x + xp.sin(heading) * y
            wave = xp.sin(np.pi * (1 + 1.5 * frequency) * along + 2 * np.pi * phase)
            wave = WAVE_AMPLITUDE * wave
            x, y = x + wave * xp.cos(push), y + wave * xp.sin(push)
        pair_x = xp.where(mirrored < 0.7, xp.abs(x) - gap, x - xp.sign(x) * gap)
        x = xp.where(paired, pair_x, x)
        x, y = _spread_sleeves(x, y, sleeve_angle, body, shoulder, xp)
        x, y = xp.cos(angle) * x + xp.sin(angle) * y, xp.cos(angle) * y - xp.sin(angle) * x
        return xp.where(flipped < 0.5, -x, x), y

    return inverse_map


def _spread_sleeves(x: Any, y: Any, angle: Any, body: Any, shoulder: Any, xp: ModuleType) -> Any:
    """Inverse map that rotates what is beside the body by `angle` around the shoulders."""
    out, down = xp.abs(x) - body, y - shoulder
    cos, sin = xp.cos(angle), xp.sin(angle)
    source_out, source_down = cos * out - sin * down, sin * out + cos * down
    is_sleeve = (out > 0) & (source_out > 0) & (down > -0.2)
    is_gap = (out > 0) & (source_out <= 0) & (down > 0) & (angle > 0)
    sleeve_x = xp.sign(x) * (body + source_out)
    x = xp.where(is_sleeve, sleeve_x, xp.where(is_gap, _OUTSIDE, x))
    return x, xp.where(is_sleeve, shoulder + source_down, y)


def _fit_to_image(mask: Any, inverse_map: InverseMap, xp: ModuleType) -> tuple[Any, Any]:
    """Input coordinates x and y, (n, height, width), at which the warped garment fills it."""
    n, height, width = mask.shape
    grid_x, grid_y = grid((height, width), xp)
    x, y = inverse_map(MAX_EXTENT * grid_x, MAX_EXTENT * grid_y)
    column = xp.floor((x + 1) * (width / 2)).astype(np.int32)
    row = xp.floor((y + 1) * (height / 2)).astype(np.int32)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    row, column = xp.clip(row, 0, height - 1), xp.clip(column, 0, width - 1)
    warped_mask = inside & mask[xp.arange(n)[:, None, None], row, column]

    def center_and_length(occupied: Any) -> tuple[Any, Any]:
        size = occupied.shape[1]
        first, end = occupied.argmax(1), size - occupied[:, ::-1].argmax(1)
        low, high = (MAX_EXTENT * (k.astype(np.float32) * (2 / size) - 1) for k in (first, end))
        return ((low + high) / 2)[:, None, None], (high - low)[:, None, None]

    center_x, box_width = center_and_length(warped_mask.any(1))
    center_y, box_height = center_and_length(warped_mask.any(2))
    half = xp.maximum(xp.maximum(box_width, box_height) / 2, 0.2)
    return inverse_map(center_x + half * grid_x, center_y + half * grid_y)


def _sample_bilinear(images: Any, x: Any, y: Any, xp: ModuleType) -> Any:
    """Values at coordinates x and y, -1..1, by bilinear interpolation; zero outside."""
    _, height, width, _ = images.shape
    column = xp.clip((x + 1) * (width / 2) + 0.5, 0, width + 0.999)
    row = xp.clip((y + 1) * (height / 2) + 0.5, 0, height + 0.999)
    padded = xp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return interpolate(padded, row, column, xp)


def _change_tones(values: Any, opacity: Any, columns: Any, xp: ModuleType) -> Any:
    """Invert, make plain, add stripes, and change gamma, contrast and brightness."""
    inverted, gamma, plain, contrast, relit, brightness, *stripes = columns[..., None]
    heading, frequency, phase, striped, strength = stripes
    values = xp.where(inverted < INVERT_PROBABILITY, 1.05 - values, values)
    values = xp.clip(values, 0.01, 1) ** xp.exp2(2.6 * gamma - 1.3)
    area = xp.maximum(opacity.sum((1, 2), keepdims=True), 1)
    mean = (values * opacity).sum((1, 2), keepdims=True) / area
    brightness = xp.where(relit < 0.5, 0.08 + 0.9 * brightness, mean)
    contrast = xp.where(plain < PLAIN_PROBABILITY, 0.05, 0.25 + 1.1 * contrast)
    values = brightness + (values - mean) * contrast
    x, y = (k[..., None] for k in grid(values.shape[1:3], xp))
    along = xp.cos(2 * np.pi * heading) * x + xp.sin(2 * np.pi * heading) * y
    wave = xp.sin((3 + 14 * frequency) * along + 2 * np.pi * phase)
    amplitude = xp.where(striped < STRIPES_PROBABILITY, 0.3 * strength, 0.0)
    return xp.clip(values + amplitude * wave, 0.03, 1)


def _cutout_and_blur(values: Any, opacity: Any, columns: Any, xp: ModuleType) -> Any:
    """Cut out a disc, add a disc of background, and blur; black where the opacity is zero."""
    cut, cut_x, cut_y, cut_size, left, left_x, left_y, left_size, blur = columns[..., None]
    grid_x, grid_y = (k[..., None] for k in grid(values.shape[1:3], xp))

    def disc(x: Any, y: Any, radius: Any) -> Any:
        return (grid_x - 2.2 * x + 1.1) ** 2 + (grid_y - 2.2 * y + 1.1) ** 2 < radius**2

    opacity = xp.where(disc(cut_x, cut_y, 0.12 + 0.3 * cut_size) & (cut < 0.25), 0.0, opacity)
    opacity = xp.where(disc(left_x, left_y, 0.1 + 0.25 * left_size) & (left < 0.2), 1.0, opacity)
    sharp = values * opacity
    padded = xp.pad(sharp, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4  # binomial filter 1 2 1
    blurred = (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 4
    return sharp + xp.maximum(2 * blur - 1, 0.0) * (blurred - sharp)
