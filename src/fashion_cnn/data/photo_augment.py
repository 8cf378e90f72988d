"""Augmentation that turns Fashion-MNIST's pictures into what photos look like after `photo.py`.

The data set's garments hang straight and face one way; in photos they lie with sleeves apart, shoes
come in pairs seen from above, tones are anything from white to black, and a part was cut off, or of
the background left on. A network that has seen such things, made from Fashion-MNIST alone, is right
on far more photos (docs/experiments.md has what each of them is worth).
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

CLEAN = 0.5  # of the images stay as they are
FAINT = 0.06  # of white; darker is background
WAVE = 0.04  # how far a wave carries, in half widths; there are three
INVERTED, PLAIN, STRIPED = 0.1, 0.2, 0.3  # of the images
REACH = 2.2  # how far posing may carry a part of a garment, in half widths of the image
_POSE, _TONE, _DAMAGE = 26, 11, 9
COLUMNS = 1 + _POSE + _TONE + _DAMAGE

Back = Callable[[Any, Any], tuple[Any, Any]]


def photo(images: Any, noise: Any, xp: ModuleType = np) -> Any:
    """Pose each garment anew, cut it out badly, and give it other tones.

    Args:
        images: uint8 (n, height, width, channels), light on black.
        noise: floats in [0, 1), (n, COLUMNS).
        xp: the array module.

    Returns:
        The images, changed; shape and dtype as given.
    """
    draws = xp.asarray(noise, np.float32).T[:, :, None, None]
    source = images.astype(np.float32) / 255
    mask = source.max(-1) > FAINT
    back = _pose(mask, draws[1 : 1 + _POSE], xp)
    values = _sample(source, *_fit(mask, back, xp), xp)
    values, cover = _tone(values, draws[1 + _POSE : 1 + _POSE + _TONE], xp)
    values = _damage(values, cover, draws[1 + _POSE + _TONE :], xp)
    changed = xp.rint(255 * xp.clip(values, 0, 1)).astype(images.dtype)
    return xp.where(draws[0][..., None] < CLEAN, images, changed)


def _grid(size: int, xp: ModuleType) -> Any:
    """The middles of `size` pixels, from -1 to 1."""
    return ((xp.arange(size) + 0.5) * (2 / size) - 1).astype(np.float32)


def _pose(mask: Any, draws: Any, xp: ModuleType) -> Back:
    """Where in an image a place of its posed form comes from: a function of x and y, -1..1.

    Turned, stretched, slanted and waved; sleeves apart, where it is wide and tall as garments with
    sleeves are; flat ones, mostly shoes, often in pairs and seen from above.
    """
    rotation, stretch, slant, sleeves_apart, spread, body, shoulder, *draws = draws
    paired, gap, facing, turned, which, tilt, flipped, *waves = draws
    tall, wide = (mask.any(k).mean(1, dtype=np.float32)[:, None, None] for k in (2, 1))
    flat, sleeved = tall < 0.8 * wide, (tall > 0.75) & (wide > 0.7)
    cos, sin = xp.cos(0.4 * rotation - 0.2), xp.sin(0.4 * rotation - 0.2)
    stretch, slant = xp.exp(0.5 * stretch - 0.25), 0.4 * slant - 0.2
    spread = xp.where((sleeves_apart < 0.5) & sleeved, spread, 0.0)
    body, shoulder = 0.25 + 0.35 * body, 0.4 * shoulder - 0.9
    quarter = xp.where(turned < 0.5, xp.sign(which - 0.5), 0.0) * (np.pi / 2)
    angle = xp.where(flat, quarter + 0.5 * tilt - 0.25, 0.0)
    paired = paired < xp.where(flat, np.float32(0.6), np.float32(0.05))
    gap = (0.35 + 0.6 * gap) * xp.where(xp.abs(angle) > 0.8, tall, wide)

    def back(x: Any, y: Any) -> tuple[Any, Any]:
        x, y = (cos * x + sin * y) * stretch + slant * y, cos * y - sin * x
        for length, heading, phase, aim in zip(*[iter(waves)] * 4, strict=True):
            heading, aim = 2 * np.pi * heading, 2 * np.pi * aim
            along = xp.cos(heading) * x + xp.sin(heading) * y
            wave = WAVE * xp.sin(np.pi * (1 + 1.5 * length) * along + 2 * np.pi * phase)
            x, y = x + wave * xp.cos(aim), y + wave * xp.sin(aim)
        side = xp.sign(x)
        x = xp.where(paired, xp.where(facing < 0.7, xp.abs(x) - gap, x - side * gap), x)
        x, y = _splay(x, y, spread, body, shoulder, xp)
        x, y = xp.cos(angle) * x + xp.sin(angle) * y, xp.cos(angle) * y - xp.sin(angle) * x
        return xp.where(flipped < 0.5, -x, x), y

    return back


def _splay(x: Any, y: Any, spread: Any, body: Any, shoulder: Any, xp: ModuleType) -> Any:
    """What is beyond the body turns around the shoulders by `spread`; between is nothing."""
    out, down = xp.abs(x) - body, y - shoulder
    cos, sin = xp.cos(spread), xp.sin(spread)
    inwards, along = cos * out - sin * down, sin * out + cos * down
    sleeve = (out > 0) & (inwards > 0) & (down > -0.2)
    between = (out > 0) & (inwards <= 0) & (down > 0) & (spread > 0)
    side = xp.sign(x)
    x = xp.where(sleeve, side * (body + inwards), xp.where(between, 9.0, x))
    return x, xp.where(sleeve, shoulder + along, y)


def _fit(mask: Any, back: Back, xp: ModuleType) -> tuple[Any, Any]:
    """Where each pixel comes from if what was posed fills the image again: x and y, (n, h, w)."""
    n, height, width = mask.shape
    across, down = _grid(width, xp)[None, None, :], _grid(height, xp)[None, :, None]
    x, y = back(REACH * across, REACH * down)
    column = xp.floor((x + 1) * (width / 2)).astype(np.int32)
    row = xp.floor((y + 1) * (height / 2)).astype(np.int32)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    row, column = xp.clip(row, 0, height - 1), xp.clip(column, 0, width - 1)
    seen = inside & mask[xp.arange(n)[:, None, None], row, column]

    def ends(occupied: Any) -> tuple[Any, Any]:
        size = occupied.shape[1]
        first, last = occupied.argmax(1), size - occupied[:, ::-1].argmax(1)
        low, high = (REACH * (end.astype(np.float32) * (2 / size) - 1) for end in (first, last))
        return ((low + high) / 2)[:, None, None], (high - low)[:, None, None]

    (x0, wide), (y0, tall) = ends(seen.any(1)), ends(seen.any(2))
    half = xp.maximum(xp.maximum(wide, tall) / 2, 0.2)
    return back(x0 + half * across, y0 + half * down)


def _sample(source: Any, x: Any, y: Any, xp: ModuleType) -> Any:
    """The values at x and y, -1..1, between pixels in proportion; nothing outside."""
    n, height, width, _ = source.shape
    x = xp.clip((x + 1) * (width / 2) + 0.5, 0, width + 0.999)
    y = xp.clip((y + 1) * (height / 2) + 0.5, 0, height + 0.999)
    left, top = xp.floor(x), xp.floor(y)
    right, below = (x - left)[..., None], (y - top)[..., None]
    column, row = left.astype(np.int32), top.astype(np.int32)
    padded = xp.pad(source, ((0, 0), (1, 1), (1, 1), (0, 0)))
    image = xp.arange(n)[:, None, None]
    above = padded[image, row, column] * (1 - right) + padded[image, row, column + 1] * right
    under = (
        padded[image, row + 1, column] * (1 - right) + padded[image, row + 1, column + 1] * right
    )
    return above * (1 - below) + under * below


def _tone(values: Any, draws: Any, xp: ModuleType) -> tuple[Any, Any]:
    """Another gamma, contrast and brightness, or inverted, plain or striped; and its cover."""
    inverted, gamma, plain, contrast, moved, level, *stripes = draws[..., None]
    heading, width, phase, striped, strength = stripes
    cover = xp.clip(8 * values.max(-1, keepdims=True), 0, 1)
    values = xp.where(inverted < INVERTED, 1.05 - values, values)
    values = xp.clip(values, 0.01, 1) ** xp.exp2(2.6 * gamma - 1.3)
    size = xp.maximum(cover.sum((1, 2), keepdims=True), 1)
    mean = (values * cover).sum((1, 2), keepdims=True) / size
    level = xp.where(moved < 0.5, 0.08 + 0.9 * level, mean)
    values = level + (values - mean) * xp.where(plain < PLAIN, 0.05, 0.25 + 1.1 * contrast)
    across = _grid(values.shape[2], xp)[None, None, :, None]
    down = _grid(values.shape[1], xp)[None, :, None, None]
    along = xp.cos(2 * np.pi * heading) * across + xp.sin(2 * np.pi * heading) * down
    wave = xp.sin((3 + 14 * width) * along + 2 * np.pi * phase)
    return xp.clip(values + xp.where(striped < STRIPED, 0.3 * strength, 0.0) * wave, 0.03, 1), cover


def _damage(values: Any, cover: Any, draws: Any, xp: ModuleType) -> Any:
    """Discs cut off or left on, and edges more or less sharp; black outside of the cover."""
    bitten, at_x, at_y, bite, left, on_x, on_y, blot, soft = draws[..., None]
    across = _grid(values.shape[2], xp)[None, None, :, None]
    down = _grid(values.shape[1], xp)[None, :, None, None]

    def disc(x: Any, y: Any, radius: Any) -> Any:
        return (across - 2.2 * x + 1.1) ** 2 + (down - 2.2 * y + 1.1) ** 2 < radius**2

    cover = xp.where(disc(at_x, at_y, 0.12 + 0.3 * bite) & (bitten < 0.25), 0.0, cover)
    cover = xp.where(disc(on_x, on_y, 0.1 + 0.25 * blot) & (left < 0.2), 1.0, cover)
    sharp = values * cover
    padded = xp.pad(sharp, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    blurred = (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 4
    return sharp + xp.maximum(2 * soft - 1, 0.0) * (blurred - sharp)
