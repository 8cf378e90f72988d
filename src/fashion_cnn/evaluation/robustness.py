"""Robustness to image corruptions: images in, accuracy by corruption and severity out.

The corruptions are the common ones (arXiv:1903.12261), with severities that suit small images.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage

from fashion_cnn.data.dataset import channels_last
from fashion_cnn.data.split import stratified
from fashion_cnn.evaluation.metrics import accuracy

EXAMPLES = 1000
MAX_VALUES = 20_000_000  # in all examples together, so that there are fewer of large images


def noise(images: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise; `level` is its standard deviation as a share of 255."""
    return images + rng.normal(0, 255 * level, images.shape)


def blur(images: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur; `level` is its standard deviation as a share of the height."""
    sigma = level * images.shape[1]
    return ndimage.gaussian_filter(images, (0, sigma, sigma, 0))


def shift(images: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Shift by `level`, a share of the height, in a random direction; fill with black."""
    angles = rng.uniform(0, 2 * np.pi, len(images))
    offsets = level * images.shape[1] * np.stack([np.sin(angles), np.cos(angles)], 1)
    shifted = np.empty_like(images)
    for i, (down, right) in enumerate(offsets):
        shifted[i] = ndimage.shift(images[i], (down, right, 0), order=1)
    return shifted


def rotation(images: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Rotate by `level` degrees, every second image in the opposite direction."""
    rotated = np.empty_like(images)
    for start, angle in ((0, level), (1, -level)):
        every_second = images[start::2]
        rotated[start::2] = ndimage.rotate(every_second, angle, axes=(1, 2), reshape=False, order=1)
    return rotated


def brightness(images: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Add `level`, a share of 255, to every pixel."""
    return images + 255 * level


def contrast(images: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Multiply each pixel's distance from the image's mean by `level`."""
    mean = images.mean((1, 2), keepdims=True)
    return mean + level * (images - mean)


def inverted_tones(images: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Invert the pixels that are at least `level`, a share of 255; at 0 all pixels (solarize)."""
    return np.where(images >= 255 * level, 255 - images, images)


def occlusion(images: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a gray square at a random position; its side is `level` times the shorter edge."""
    n, height, width, _ = images.shape
    side = round(level * min(height, width))
    tops, lefts = rng.integers(0, height - side + 1, n), rng.integers(0, width - side + 1, n)
    occluded = images.copy()
    for image, top, left in zip(occluded, tops, lefts, strict=True):
        image[top : top + side, left : left + side] = 128
    return occluded


# name -> function, and its mild, medium and strong level
CORRUPTIONS: dict[str, tuple[Callable[..., np.ndarray], tuple[float, float, float]]] = {
    "noise": (noise, (0.05, 0.1, 0.2)),
    "blur": (blur, (0.02, 0.04, 0.06)),
    "shift": (shift, (0.05, 0.1, 0.2)),
    "rotation": (rotation, (10, 20, 40)),
    "brightness": (brightness, (0.1, 0.25, 0.5)),
    "contrast": (contrast, (0.75, 0.5, 0.25)),
    "inverted tones": (inverted_tones, (0.75, 0.5, 0.0)),
    "occlusion": (occlusion, (0.2, 0.3, 0.4)),
}


def corrupt(images: np.ndarray, name: str, level: float) -> np.ndarray:
    """Apply a corruption of `CORRUPTIONS` to images uint8 (n, height, width, channels).

    The unit of `level`, the severity, is in the docstring of its function.
    """
    function, _ = CORRUPTIONS[name]
    corrupted = function(images.astype(np.float32), level, np.random.default_rng(0))
    return np.clip(np.rint(corrupted), 0, 255).astype(np.uint8)


def robustness(
    predict: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    advance: Callable[[str], Any] = lambda name: None,
) -> dict[str, Any]:
    """Accuracy under every corruption, on `EXAMPLES` fixed images, or fewer if they are large.

    `advance` is called with the name of each corruption as it begins. The result has `examples`,
    `accuracy` (of the original images), and `corruptions`: name -> `levels` and `accuracy`.
    """
    count = min(EXAMPLES, MAX_VALUES // images[0].size, len(labels))
    chosen = stratified(labels, max(count, 1))
    images, labels = channels_last(images[chosen]), labels[chosen]

    corruptions = {}
    for name, (_, levels) in CORRUPTIONS.items():
        advance(name)
        accuracies = [accuracy(predict(corrupt(images, name, x)), labels) for x in levels]
        corruptions[name] = {"levels": list(levels), "accuracy": accuracies}
    original = accuracy(predict(images), labels)
    return {"examples": len(labels), "accuracy": original, "corruptions": corruptions}
