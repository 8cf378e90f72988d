"""Synthetic outliers: drawings of random shapes and text, in many colors.

A network's features of them show where pictures of unknown things end up (compare outlier exposure:
Hendrycks et al. 2019, arXiv:1812.04606).
"""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

MAX_EDGE = 320  # pixels of a drawing; larger images are enlarged from it
CHARACTERS = list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789?!&@%")


def draw_outlier(seed: int, image_shape: tuple[int, ...]) -> np.ndarray:
    """Draw one: uint8 of the image's shape, (height, width) or (height, width, 1 or 3)."""
    height, width, *channels = image_shape
    rng = np.random.default_rng(seed)
    size = min(MAX_EDGE, max(height, width))
    image = KINDS[seed % len(KINDS)](size, rng)
    grain = rng.normal(0, rng.choice([0, 4, 12]), (size, size, 1))
    image = _to_image(np.asarray(image) + grain)
    image = image.filter(ImageFilter.GaussianBlur(size * float(rng.choice([0, 0.003, 0.006]))))
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(image if channels == [3] else image.convert("L"))
    return pixels.reshape(image_shape)


def _draw_object(size: int, rng: np.random.Generator) -> Image.Image:
    """A shape in the middle, with up to eight smaller ones on it."""
    image = _background(size, rng)
    center, radius = rng.uniform(0.4, 0.6, 2) * size, rng.uniform(0.15, 0.48) * size
    _add_shape(image, center, radius, rng)
    for _ in range(rng.choice([0, 0, 1, 2, 4, 8])):
        place = center + rng.uniform(-0.9, 0.9, 2) * radius
        _add_shape(image, place, rng.uniform(0.1, 0.6) * radius, rng)
    return image


def _draw_shapes(size: int, rng: np.random.Generator) -> Image.Image:
    """Up to thirty shapes anywhere."""
    image = _background(size, rng)
    for _ in range(rng.integers(3, 31)):
        _add_shape(image, rng.uniform(0, size, 2), rng.uniform(0.03, 0.3) * size, rng)
    return image


def _draw_text(size: int, rng: np.random.Generator) -> Image.Image:
    """A few large characters, or a page of small ones."""
    image = _background(size, rng)
    count = rng.choice([1, 1, 2, 5, 40])
    lines = 30 if count == 40 else 1
    text = "\n".join("".join(rng.choice(CHARACTERS, count)) for _ in range(lines))
    font = ImageFont.load_default(max(4, size * rng.uniform(0.8, 1.3) / max(1.3, count)))
    draw = ImageDraw.Draw(image)
    draw.text((size / 2, size / 2), text, fill=_color(rng), font=font, anchor="mm")
    return image


KINDS: tuple[Callable[[int, np.random.Generator], Image.Image], ...]
KINDS = (_draw_object, _draw_object, _draw_object, _draw_shapes, _draw_text)


def _background(size: int, rng: np.random.Generator) -> Image.Image:
    """White, one color, or a coarse or fine pattern."""
    kind = rng.integers(5)
    if kind < 2:
        return Image.new("RGB", (size, size), "white" if kind else _color(rng))
    return _pattern(size, int(rng.integers(2, 60 if kind == 2 else 6)), rng)


def _pattern(size: int, cells: int, rng: np.random.Generator) -> Image.Image:
    """A color that varies between `cells` random ones along each edge."""
    colors = rng.normal(_color(rng), rng.uniform(0, 80), (cells, cells, 3))
    return _to_image(colors).resize((size, size), Image.Resampling.BICUBIC)


def _add_shape(
    image: Image.Image, center: np.ndarray, radius: float, rng: np.random.Generator
) -> None:
    """Paint a shape with a pattern, most of them lit from one side, some with an outline."""
    size = image.width
    corners = [tuple(point) for point in center + radius * _outline(rng)]
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).polygon(corners, fill=255)
    pixels = np.asarray(_pattern(size, int(rng.choice([1, 2, 3, 8, 30])), rng)).astype(float)
    if rng.random() < 0.7:
        y, x = np.mgrid[:size, :size]
        distance = np.hypot(x - rng.uniform(0, size), y - rng.uniform(0, size)) / size
        pixels *= (1.2 - rng.uniform(0.2, 1.3) * distance).clip(0.1)[..., np.newaxis]
    image.paste(_to_image(pixels), (0, 0), mask)
    if rng.random() < 0.4:
        width = 1 + round(size * rng.uniform(0, 0.015))
        ImageDraw.Draw(image).line([*corners, corners[0]], fill=_color(rng), width=width)


def _outline(rng: np.random.Generator) -> np.ndarray:
    """Points (n, 2) of a circle, a closed wave, a polygon or a star; turned, and stretched."""
    kind = rng.choice(["circle", "wave", "polygon", "star"])
    count = rng.integers(3, 9) if kind in ("polygon", "star") else 100
    angles = math.tau * np.arange(count) / count
    radii = np.ones(count)
    if kind == "wave":
        for k in range(2, 7):
            radii += rng.normal(0, 0.25 / k) * np.cos(k * angles + rng.uniform(0, math.tau))
    elif kind == "polygon":
        radii = rng.uniform(0.5, 1, count)
    elif kind == "star":
        radii[::2] = rng.uniform(0.3, 1)
    turn, stretch = rng.uniform(0, math.tau), np.exp(rng.normal(0, 0.25, 2))
    x, y = radii * np.cos(angles) * stretch[0], radii * np.sin(angles) * stretch[1]
    rotated = x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)
    return np.stack(rotated, axis=1)


def _color(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue


def _to_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
