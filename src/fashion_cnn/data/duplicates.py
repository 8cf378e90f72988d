"""Near-duplicates: two sets of images go in; the pairs that show almost the same come out."""

import numpy as np
from PIL import Image

from fashion_cnn.data.dataset import channels_last

# Of the 100 nearest pairs in Fashion-MNIST, the 18 up to this distance (in gray levels) show the
# same article or one that cannot be told from it; from 11 on most are two plain trousers.
MAX_DISTANCE = 10.0
COMPARED_SIZE = 32  # pixels
_BLOCK = 500  # images compared at a time


def near_duplicates(images: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, ...]:
    """Find the nearest neighbor of each image among `others`, up to `MAX_DISTANCE`.

    The distance is the root mean squared difference of gray pixels, at most 32x32.

    Args:
        images: uint8 (n, height, width[, channels]).
        others: uint8 (m, height, width[, channels]).

    Returns:
        Indices into `images`, indices into `others`, and distances, nearest pair first.
    """
    a, b = _gray_rows(images), _gray_rows(others)
    squares = (b * b).sum(1)
    nearest = np.empty(len(a), int)
    for start in range(0, len(a), _BLOCK):
        block = a[start : start + _BLOCK]
        nearest[start : start + _BLOCK] = (squares - 2 * block @ b.T).argmin(1)
    distance = np.sqrt(((a - b[nearest]) ** 2).mean(1))
    pairs = np.flatnonzero(distance <= MAX_DISTANCE)
    pairs = pairs[np.argsort(distance[pairs], kind="stable")]
    return pairs, nearest[pairs], distance[pairs]


def _gray_rows(images: np.ndarray) -> np.ndarray:
    """Gray pixels of each image as one row: float32 (n, pixels)."""
    images = channels_last(images)
    if max(images.shape[1:3]) > COMPARED_SIZE:
        size = (COMPARED_SIZE, COMPARED_SIZE)
        gray = [Image.fromarray(image.squeeze()).convert("L") for image in images]
        small = [np.asarray(image.resize(size, Image.Resampling.LANCZOS)) for image in gray]
        images = np.stack(small)[..., np.newaxis]
    return images.mean(3, dtype=np.float32).reshape(len(images), -1)
