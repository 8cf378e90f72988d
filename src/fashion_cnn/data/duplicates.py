"""Two sets of images in; the pairs that are all but the same picture out."""

import numpy as np

from fashion_cnn.data.dataset import channels_last

# Grey levels. Of Fashion-MNIST's 100 nearest pairs, looked at, those up to here (18) are the same
# article or one that cannot be told from it; from 11 on most are two plain trousers.
WITHIN = 10.0
SIDE = 32
_BLOCK = 500


def near_duplicates(
    images: np.ndarray, others: np.ndarray, within: float = WITHIN
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest of `others` to each image, where it is near enough.

    Distance is the root of the mean squared difference of the pixels, both pictures grey and at
    most 32 pixels high and wide.

    Args:
        images: uint8 (n, height, width[, channels]).
        others: uint8 (m, height, width[, channels]).
        within: the largest distance, in grey levels of 255.

    Returns:
        Indices of `images`, indices of `others`, and distances, nearest pair first.
    """
    a, b = _small(images), _small(others)
    squares = (b * b).sum(1)
    nearest = np.empty(len(a), int)
    for start in range(0, len(a), _BLOCK):
        block = a[start : start + _BLOCK]
        nearest[start : start + _BLOCK] = (squares - 2 * block @ b.T).argmin(1)
    distance = np.sqrt(((a - b[nearest]) ** 2).mean(1))
    found = np.flatnonzero(distance <= within)
    found = found[np.argsort(distance[found], kind="stable")]
    return found, nearest[found], distance[found]


def _small(images: np.ndarray) -> np.ndarray:
    """Grey pixels in rows, float32 (n, pixels)."""
    images = channels_last(images)
    if max(images.shape[1:3]) > SIDE:
        from PIL import Image

        shape = (SIDE, SIDE)
        rows = [Image.fromarray(x.squeeze()).convert("L").resize(shape, 1) for x in images]
        images = np.stack([np.asarray(row) for row in rows])[..., np.newaxis]
    return images.mean(3, dtype=np.float32).reshape(len(images), -1)
