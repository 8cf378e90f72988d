"""How a network bears what happens to pictures: images in, accuracy by kind and strength out.

The kinds are the usual ones (arXiv:1903.12261), with strengths that suit small pictures.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage

from fashion_cnn.data.dataset import channels_last
from fashion_cnn.data.split import stratified

EXAMPLES = 1000
MAX_VALUES = 20_000_000  # of pixels and channels of all examples; of large images there are fewer


def noise(images: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise; `level` is its standard deviation, 1 from black to white."""
    return images + rng.normal(0, 255 * level, images.shape)


def blur(images: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur; `level` is its standard deviation as a share of the height."""
    reach = level * images.shape[1]
    return ndimage.gaussian_filter(images, (0, reach, reach, 0))


def shift(images: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Move every image a way of its own by `level`, a share of the height; black comes in."""
    angles = rng.uniform(0, 2 * np.pi, len(images))
    steps = level * images.shape[1] * np.stack([np.sin(angles), np.cos(angles)], 1)
    moved = [ndimage.shift(x, (*s, 0), order=1) for x, s in zip(images, steps, strict=True)]
    return np.stack(moved)


def rotation(images: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Turn by `level` degrees, every other image the other way."""
    turned = np.empty_like(images)
    for start, angle in ((0, level), (1, -level)):
        part = images[start::2]
        turned[start::2] = ndimage.rotate(part, angle, axes=(1, 2), reshape=False, order=1)
    return turned


def brightness(images: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Add `level` of full white everywhere."""
    return images + 255 * level


def contrast(images: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Keep `level` of each pixel's distance to the image's mean."""
    mean = images.mean((1, 2), keepdims=True)
    return mean + level * (images - mean)


def inverted_tones(images: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Turn light to dark in the pixels that are at least as light as `level`; at 0 in all."""
    return np.where(images >= 255 * level, 255 - images, images)


def occlusion(images: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Cover a grey square with a side of `level` times the image's shorter one, anywhere."""
    n, height, width, _ = images.shape
    side = round(level * min(height, width))
    tops, lefts = rng.integers(0, height - side + 1, n), rng.integers(0, width - side + 1, n)
    covered = images.copy()
    for image, top, left in zip(covered, tops, lefts, strict=True):
        image[top : top + side, left : left + side] = 128
    return covered


# name -> function, and a mild, a medium and a strong level
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


def corrupt(images: np.ndarray, name: str, level: float, seed: int = 0) -> np.ndarray:
    """Images with one corruption.

    Args:
        images: uint8 (n, height, width, channels).
        name: a key of `CORRUPTIONS`.
        level: see the function of that name.
        seed: of what is random in it.

    Returns:
        uint8, the same shape.
    """
    changed = CORRUPTIONS[name][0](images.astype(np.float32), level, np.random.default_rng(seed))
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8)


def robustness(
    predict: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    advance: Callable[[str], Any] = lambda name: None,
) -> dict[str, Any]:
    """Accuracy under every corruption, on `EXAMPLES` fixed images; of large ones on fewer.

    Args:
        predict: uint8 images -> probabilities.
        images: uint8 (n, height, width[, channels]).
        labels: integers (n,).
        advance: called with the name of each corruption as it begins.

    Returns:
        `examples`, `accuracy` (of the images as they are), and `corruptions`: name -> `levels` and
        `accuracy`, a number each a level.
    """
    count = min(EXAMPLES, MAX_VALUES // images[0].size, len(labels))
    chosen = stratified(labels, max(count, 1))
    images, labels = channels_last(images[chosen]), labels[chosen]

    def accuracy(images: np.ndarray) -> float:
        return float((predict(images).argmax(1) == labels).mean())

    found = {}
    for name, (_, levels) in CORRUPTIONS.items():
        advance(name)
        answers = [accuracy(corrupt(images, name, level)) for level in levels]
        found[name] = {"levels": list(levels), "accuracy": answers}
    return {"examples": len(labels), "accuracy": accuracy(images), "corruptions": found}
