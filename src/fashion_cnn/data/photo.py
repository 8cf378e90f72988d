"""Convert a photo of a garment to the format of Fashion-MNIST: 28x28, gray, light on black.

Steps of arXiv:1708.07747, section 2, after a segmentation; their reasons: docs/experiments.md
"""

from dataclasses import dataclass

import numpy as np

from fashion_cnn.data.segmentation import border_mask, segment_garment

SIDE = 28
MAX_EDGE = 112  # pixels of the longest edge during segmentation
LIGHT_BORDER = 100  # of 255; as light are the borders of 2 in 70,000 Fashion-MNIST images
WIDTH_SCALE = 0.86  # garments lying flat are wider than those of the data set
MIN_BRIGHTNESS = 0.3  # of a white garment after inversion; the background is 0
OPACITY_THRESHOLD = 0.5 - 1e-9  # a mean of exactly one half is garment, however it is rounded
_GRAY = np.array([0.299, 0.587, 0.114])  # luma weights of red, green, blue


@dataclass(frozen=True)
class PreparedImage:
    """The input of a network, and how it was made; without segmentation there is no mask."""

    photo: np.ndarray  # uint8 (height, width, 3), shrunk to a longest edge of `MAX_EDGE`
    pixels: np.ndarray  # uint8 (height, width, channels), the input of the network
    garment_probability: np.ndarray | None = None  # float (height, width) of `photo`
    mask: np.ndarray | None = None  # bool (height, width) of `photo`, where the garment is
    note: str = ""  # a warning for the user


def prepare_photo(picture: np.ndarray) -> PreparedImage:
    """Convert a photo to the format of Fashion-MNIST; one that already looks so is only shrunk.

    Args:
        picture: uint8 (height, width, 4), red, green, blue and alpha, upright, not empty.
    """
    height, width = picture.shape[:2]
    scale = min(1.0, MAX_EDGE / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    opacity, rgb = np.ones(size), picture[..., :3]
    if picture[..., 3].min() < 255:
        opacity = shrink(picture[..., 3] / 255.0, size)
        rgb = rgb * (picture[..., 3:] / 255.0)
    rgb = shrink(rgb, size)
    photo = np.rint(rgb).astype(np.uint8)
    gray = rgb @ _GRAY / 255
    is_transparent = (opacity < 0.5).mean() > 0.01
    if not is_transparent and _is_prepared(rgb, (height, width) == (SIDE, SIDE)):
        return PreparedImage(photo, _to_uint8(_center(gray)))
    if is_transparent:  # the opacity is the segmentation
        gray = rgb / np.maximum(opacity, 1e-6)[..., np.newaxis] @ _GRAY / 255
        probability, mask, note = opacity, opacity > OPACITY_THRESHOLD, ""
    else:
        probability, mask, note = segment_garment(rgb)
    pixels = _to_uint8(_center(_invert_and_crop(gray, mask), WIDTH_SCALE))
    return PreparedImage(photo, pixels, probability, mask, note)


def shrink(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Downsample by area averaging: (height, width, …) to float (size[0], size[1], …)."""
    rows = _block_means(values, size[0])
    return np.moveaxis(_block_means(np.moveaxis(rows, 1, 0), size[1]), 0, 1)


def _block_means(values: np.ndarray, m: int) -> np.ndarray:
    """Means of m equal blocks along the first axis; blocks may start and end within a pixel."""
    n = len(values)
    edges = np.arange(m + 1) * n / m
    pixel = edges.astype(int)
    flat = values.reshape(n, -1)
    sums = np.add.reduceat(flat, pixel[:-1], axis=0, dtype=float)
    sums[pixel[1:] == pixel[:-1]] = 0  # blocks within one pixel, for which reduceat returns it
    sums += np.diff((edges - pixel)[:, np.newaxis] * flat[np.minimum(pixel, n - 1)], axis=0)
    return (sums * (m / n)).reshape(m, *values.shape[1:])


def _is_prepared(rgb: np.ndarray, is_28x28: bool) -> bool:
    """Whether a picture looks like those of Fashion-MNIST already: something light on dark."""
    border = np.median(rgb[border_mask(rgb.shape[:2])])
    is_gray_on_black = border <= 8 and np.ptp(rgb, axis=-1).max() <= 8
    has_contrast = np.ptp(rgb, axis=(0, 1)).max() > 40
    return bool(has_contrast and (is_gray_on_black or (is_28x28 and border < LIGHT_BORDER)))


def _invert_and_crop(gray: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The inverted garment on black, cropped to its bounding box; everything if it is empty."""
    mask = mask if mask.any() else np.ones_like(mask)
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return ((1 - (1 - MIN_BRIGHTNESS) * gray) * mask)[box]


def _center(values: np.ndarray, width_scale: float = 1.0) -> np.ndarray:
    """Shrink the longest edge to 28 pixels and pad with black: float (28, 28)."""
    scale = SIDE / max(values.shape)
    height, width = (max(1, round(n * scale)) for n in values.shape)
    small = shrink(values, (height, width))
    width = max(1, round(width * width_scale))  # two steps: 1 to 2 % more are classified correctly
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    centered = np.zeros((SIDE, SIDE))
    centered[top : top + height, left : left + width] = shrink(small, (height, width))
    return centered


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)[..., np.newaxis]
