"""A photo of a garment in; what Fashion-MNIST would have made of it out: 28x28, light on black.

The data set's makers had garments on plain white; they trimmed, shrank, centred and negated them
(arXiv:1708.07747, section 2). Photos from anywhere need one step more, and it decides: telling the
garment from what it lies on. Why these steps and numbers: docs/experiments.md.
"""

from dataclasses import dataclass

import numpy as np

SIDE = 28
EDGE = 112  # pixels of the longest edge, where garment and background are told apart
FRAME = 0.03  # of the longest edge: so much all around is background
BINS = 16  # of each axis of Lab, for counting colours
OF_FRAME = 0.9  # how much of the frame's colours is background inside of it, to begin with
FLOOR = 1e-3  # of a colour's share, so that rare colours decide nothing alone
PULL = 2.0  # of neighbours of the same colour, against the evidence of a pixel's own
ROUNDS, SWEEPS = 3, 5
MIDDLE = 1.5  # how much more the middle is garment than the frame, where colours say too little
SMALLEST = 0.08  # of the photo; less is no garment that was found, but a part of one
NARROWER = 0.86  # laid flat, garments are wider than the data set's
DARKEST = 0.3  # a white garment, negated; black is the background
ALIKE = 12.0  # difference in Lab between garment and surroundings under which a mask is doubtful
HALF = 0.5 - 1e-9  # however a mean of just a half has been rounded
_GREY = np.array([0.299, 0.587, 0.114])
_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.072175],
        [0.0193339, 0.119192, 0.9503041],
    ]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])
_LOWEST, _SPAN = np.array([0, -64, -64]), np.array([100, 128, 128])  # of Lab, in bins
_BLUR = (np.eye(BINS, k=-1) + 2 * np.eye(BINS) + np.eye(BINS, k=1)) / 4
_BLUR[0, 0] = _BLUR[-1, -1] = 0.75  # beyond the ends is what is at the ends
_BLUR = _BLUR @ _BLUR
_NEIGHBOURS = ((0, 1, 1.0), (1, 0, 1.0), (1, 1, 0.5**0.5), (1, -1, 0.5**0.5))


@dataclass(frozen=True)
class PreparedImage:
    """A photo on its way to the network.

    Attributes:
        photo: uint8 (height, width, 3); of a photo, the longest edge is `EDGE` or less.
        pixels: uint8 (height, width, channels), what the network sees.
        likely: float (height, width) of `photo`, how probably each pixel is garment; None where
            the picture was as the network wants it already.
        mask: bool (height, width) of `photo`, where the garment is; or None.
        note: what a user should know, or nothing.
    """

    photo: np.ndarray
    pixels: np.ndarray
    likely: np.ndarray | None = None
    mask: np.ndarray | None = None
    note: str = ""


def prepare_photo(picture: np.ndarray) -> PreparedImage:
    """Make a photo what the network was trained on.

    A picture of 28x28, or one that is grey on black already, is only shrunk. Transparency tells
    garment from background where there is any; colours do elsewhere.

    Args:
        picture: uint8 (height, width, 4), red, green, blue and opacity, upright, not empty.

    Returns:
        `PreparedImage`.
    """
    height, width = picture.shape[:2]
    scale = min(1.0, EDGE / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    opacity, seen = np.ones(size), picture[..., :3]
    if picture[..., 3].min() < 255:
        opacity = shrink(picture[..., 3] / 255.0, size)
        seen = seen * (picture[..., 3:] / 255.0)
    seen = shrink(seen, size)
    photo = np.rint(seen).astype(np.uint8)
    grey = seen @ _GREY / 255
    transparent = (opacity < 0.5).mean() > 0.01
    if (height, width) == (SIDE, SIDE) or (not transparent and _is_ready(seen)):
        return PreparedImage(photo, _pixels(_centre(grey)))
    if transparent:
        colours = seen / np.maximum(opacity, 1e-6)[..., np.newaxis]
        grey, likely, mask, note = colours @ _GREY / 255, opacity, opacity > HALF, ""
    else:
        lab = to_lab(seen)
        likely = garment(lab)
        mask = main_part(likely)
        if mask.mean() < SMALLEST:
            likely = garment(lab, MIDDLE)
            mask = main_part(likely)
        note = _doubt(lab, mask)
    return PreparedImage(
        photo, _pixels(_centre(_trimmed(grey, mask), NARROWER)), likely, mask, note
    )


def shrink(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Means over equal areas: (height, width, …) to float (size[0], size[1], …)."""
    rows = _means(values, size[0])
    return np.moveaxis(_means(np.moveaxis(rows, 1, 0), size[1]), 0, 1)


def _means(values: np.ndarray, m: int) -> np.ndarray:
    """Means of m equal parts of the first axis, which may begin and end within a pixel."""
    n = len(values)
    ends = np.arange(m + 1) * n / m
    at = ends.astype(int)
    flat = values.reshape(n, -1)
    parts = np.add.reduceat(flat, at[:-1], axis=0, dtype=float)
    parts[at[1:] == at[:-1]] = 0  # of no whole pixel, for which reduceat gives the next
    parts += np.diff((ends - at)[:, np.newaxis] * flat[np.minimum(at, n - 1)], axis=0)
    return (parts * (m / n)).reshape(m, *values.shape[1:])


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB 0..255 to CIE Lab (D65), where distances are how different colours look."""
    c = rgb / 255.0
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def garment(lab: np.ndarray, middle: float = 0.0) -> np.ndarray:
    """How probably each pixel is garment, from its colour and its neighbours.

    As in GrabCut (Rother and others, 2004) a frame is background, colours of either side are
    learnt from what is believed so far, and neighbours of one colour go together; with colours
    counted in bins in place of Gaussian mixtures, and mean-field sweeps in place of cuts, which
    needs 5 ms, and no library.

    Args:
        lab: float (height, width, 3).
        middle: how much more the middle is believed to be garment than the edges.

    Returns:
        float (height, width), 0..1.
    """
    height, width, _ = lab.shape
    frame = _frame((height, width))
    if frame.all():
        return np.ones((height, width))
    scaled = np.floor((lab - _LOWEST) * (BINS / _SPAN)).astype(int)
    codes = np.ravel_multi_index(tuple(np.moveaxis(scaled, -1, 0)), (BINS,) * 3, mode="clip")
    likely = 1 - OF_FRAME * _shares(codes, frame) / np.maximum(_shares(codes, ~frame), 1e-12)
    likely = np.where(frame, 0, np.clip(likely, 0, 1))
    y, x = (np.abs((np.arange(n) + 0.5) / n * 2 - 1) for n in (height, width))
    belief = middle * 2 * (0.75 - np.maximum(y[:, None], x))
    links = _links(lab)
    for _ in range(ROUNDS):
        shares = _shares(codes, likely) + FLOOR, _shares(codes, 1 - likely) + FLOOR
        evidence = np.where(frame, -6.0, np.log(shares[0] / shares[1]) + belief)
        for _ in range(SWEEPS):
            likely = 1 / (1 + np.exp(-evidence - PULL * _pulled(2 * likely - 1, links)))
    return likely


def _frame(size: tuple[int, int]) -> np.ndarray:
    """Whether a pixel is in the frame: bool (height, width)."""
    frame, wide = np.ones(size, bool), max(1, round(FRAME * max(size)))
    frame[wide:-wide, wide:-wide] = False
    return frame


def _shares(codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Each pixel's colour's share of all weights, blurred over bins of like colours."""
    counts: np.ndarray = np.bincount(codes.ravel(), weights.ravel(), BINS**3).reshape((BINS,) * 3)
    for _ in range(3):  # an axis each: the one that was first is last afterwards
        counts = np.tensordot(counts, _BLUR, (0, 0))
    return counts.ravel()[codes] / max(counts.sum(), 1e-12)


def _links(lab: np.ndarray) -> list[np.ndarray]:
    """How strongly each pixel is tied to its neighbour to the right, below, and at two corners."""
    apart = [((a - b) ** 2).sum(-1) for a, b in (_pairs(lab, dy, dx) for dy, dx, _ in _NEIGHBOURS)]
    usual = 2 * np.concatenate([x.ravel() for x in apart]).mean() + 1e-6
    return [near * np.exp(-x / usual) for x, (_, _, near) in zip(apart, _NEIGHBOURS, strict=True)]


def _pairs(values: np.ndarray, dy: int, dx: int) -> tuple[np.ndarray, np.ndarray]:
    """Views of all pixels that have a neighbour at (dy, dx), and of those neighbours."""
    height, width = values.shape[:2]
    left, right = max(0, -dx), max(0, dx)
    return values[: height - dy, left : width - right], values[dy:, right : width - left]


def _pulled(signs: np.ndarray, links: list[np.ndarray]) -> np.ndarray:
    """The sum of what each pixel's eight neighbours say, by the strength of the ties."""
    pulled = np.zeros_like(signs)
    for (dy, dx, _), link in zip(_NEIGHBOURS, links, strict=True):
        (here, there), (to_here, to_there) = _pairs(signs, dy, dx), _pairs(pulled, dy, dx)
        to_here += link * there
        to_there += link * here
    return pulled


def main_part(likely: np.ndarray) -> np.ndarray:
    """The garment without specks and small holes.

    The connected part that weighs most, pixels in the middle weighing more, and others that weigh
    a third of it (a shoe's fellow); holes of up to 5 % of it are filled.

    Args:
        likely: float (height, width), garment above a half.

    Returns:
        bool (height, width).
    """
    mask = likely > 0.5
    y, x = ((np.arange(n) + 0.5) / n * 2 - 1 for n in mask.shape)
    weights = np.exp(-(y[:, None] ** 2) - x**2) * mask
    parts = _parts(mask)
    weight = np.bincount(parts.ravel(), weights.ravel(), mask.size)
    mask = mask & (weight >= 0.3 * weight.max())[parts]
    holes = _parts(~mask)
    size = np.bincount(holes.ravel(), minlength=mask.size)
    size[np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]])] = mask.size
    return mask | (size <= 0.05 * mask.sum())[holes] & ~mask


def _parts(mask: np.ndarray) -> np.ndarray:
    """For each pixel the largest index of a pixel that it hangs together with, side by side."""
    numbers = np.arange(mask.size).reshape(mask.shape)
    while True:
        before = numbers.copy()
        for dy, dx in ((0, 1), (1, 0)):
            joined = np.logical_and(*_pairs(mask, dy, dx))
            here, there = _pairs(numbers, dy, dx)
            np.maximum(here, there, out=here, where=joined)
            np.maximum(there, here, out=there, where=joined)
        numbers = numbers.ravel()[numbers]
        if (numbers == before).all():
            return numbers


def _is_ready(rgb: np.ndarray) -> bool:
    """Whether a picture is grey on black, as Fashion-MNIST is."""
    around = rgb[_frame(rgb.shape[:2])]
    return bool(np.ptp(rgb, axis=-1).max() <= 8 and np.median(around) <= 8 and rgb.max() > 40)


def _trimmed(grey: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A garment negated, on black, cut to where it is; the whole photo where it is nowhere."""
    mask = mask if mask.any() else np.ones_like(mask)
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    inside = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return ((1 - (1 - DARKEST) * grey) * mask)[inside]


def _centre(values: np.ndarray, narrower: float = 1.0) -> np.ndarray:
    """Shrink to 28 pixels at the longest edge, in the middle of black: float (28, 28).

    Then make it narrower: in two steps, which softens upright edges a little, and is right on 1 to
    2 % more photos than one step.
    """
    scale = SIDE / max(values.shape)
    height, width = (max(1, round(n * scale)) for n in values.shape)
    small = shrink(values, (height, width))
    width = max(1, round(width * narrower))
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    centred = np.zeros((SIDE, SIDE))
    centred[top : top + height, left : left + width] = shrink(small, (height, width))
    return centred


def _pixels(values: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)[..., np.newaxis]


def _doubt(lab: np.ndarray, mask: np.ndarray) -> str:
    """What to tell a user whose garment may not have been found."""
    share = mask.mean()
    if not SMALLEST <= share <= 0.9:
        return "no garment found; try a plain background, and the whole garment in the picture"
    apart = np.linalg.norm(lab[mask].mean(0) - lab[~mask].mean(0))
    if apart < ALIKE:
        return "garment and background look alike; try a background of another colour"
    return ""
