"""Segment a photo into garment and background: RGB goes in; probabilities and a mask come out.

As in GrabCut (Rother et al., 2004), with Lab histograms in place of Gaussian mixtures and
mean-field inference in place of the graph cut: 5 ms, and no library. Ablations: docs/experiments.md
"""

import numpy as np

BORDER = 0.03  # width of the border, which is background, relative to the longest edge
BACKGROUND_PRIOR = 0.9  # first guess: probability that a pixel inside the border is background
BORDER_LOGIT = -6.0
LAB_BINS = 16  # histogram bins per Lab axis
HISTOGRAM_FLOOR = 1e-3  # added to frequencies, so that rare colors alone decide nothing
PAIRWISE_WEIGHT = 2.0  # of neighbors of the same color, relative to the pixel's own color
HISTOGRAM_UPDATES, MEAN_FIELD_STEPS = 3, 5
CENTER_PRIOR = 1.5  # logit; favors the center if colors alone find too little
MIN_AREA, MAX_AREA = 0.08, 0.9  # plausible share of the photo that is garment
MIN_CONTRAST = 12.0  # Lab distance of garment and background below which the mask is doubtful
MIN_PIECE, MAX_PIECES = 4, 5  # pixels of a piece; more pieces of garment make a mask doubtful
_RGB_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.072175],
        [0.0193339, 0.119192, 0.9503041],
    ]
)
_WHITE_POINT = np.array([0.95047, 1.0, 1.08883])
_LAB_MIN, _LAB_RANGE = np.array([0, -64, -64]), np.array([100, 128, 128])  # of the histogram
_BLUR = (np.eye(LAB_BINS, k=-1) + 2 * np.eye(LAB_BINS) + np.eye(LAB_BINS, k=1)) / 4
_BLUR[0, 0] = _BLUR[-1, -1] = 0.75  # the edge bins are repeated beyond the ends
_BLUR = _BLUR @ _BLUR
_NEIGHBORS = ((0, 1, 1.0), (1, 0, 1.0), (1, 1, 0.5**0.5), (1, -1, 0.5**0.5))  # dy, dx, weight


def segment_garment(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Foreground probability, mask and a note if they are doubtful; rgb is float 0..255."""
    lab = to_lab(rgb)
    probability = foreground_probability(lab)
    mask, pieces = main_components(probability)
    if mask.mean() < MIN_AREA:
        probability = foreground_probability(lab, CENTER_PRIOR)
        mask, pieces = main_components(probability)
    return probability, mask, _note(lab, mask, pieces)


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB 0..255 to CIE Lab (D65), in which distances are perceived color differences."""
    c = rgb / 255.0
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _RGB_TO_XYZ.T / _WHITE_POINT
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def foreground_probability(lab: np.ndarray, center_prior: float = 0.0) -> np.ndarray:
    """The probability that each pixel is garment, float (height, width); the prior is a logit."""
    height, width, _ = lab.shape
    border = border_mask((height, width))
    if border.all():
        return np.ones((height, width))
    bins = np.floor((lab - _LAB_MIN) * (LAB_BINS / _LAB_RANGE)).astype(int)
    bins = np.ravel_multi_index(tuple(np.moveaxis(bins, -1, 0)), (LAB_BINS,) * 3, mode="clip")
    inside = np.maximum(_color_frequencies(bins, ~border), 1e-12)
    probability = 1 - BACKGROUND_PRIOR * _color_frequencies(bins, border) / inside
    probability = np.where(border, 0, np.clip(probability, 0, 1))
    y, x = (np.abs((np.arange(n) + 0.5) / n * 2 - 1) for n in (height, width))
    prior = center_prior * 2 * (0.75 - np.maximum(y[:, None], x))
    pairwise = _pairwise_weights(lab)
    for _ in range(HISTOGRAM_UPDATES):
        foreground = _color_frequencies(bins, probability) + HISTOGRAM_FLOOR
        background = _color_frequencies(bins, 1 - probability) + HISTOGRAM_FLOOR
        unary = np.where(border, BORDER_LOGIT, np.log(foreground / background) + prior)
        for _ in range(MEAN_FIELD_STEPS):
            message = PAIRWISE_WEIGHT * _sum_neighbors(2 * probability - 1, pairwise)
            probability = 1 / (1 + np.exp(-unary - message))
    return probability


def border_mask(size: tuple[int, int]) -> np.ndarray:
    """Whether each pixel is in the border: bool (height, width)."""
    mask, thickness = np.ones(size, bool), max(1, round(BORDER * max(size)))
    mask[thickness:-thickness, thickness:-thickness] = False
    return mask


def _color_frequencies(bins: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """For each pixel the relative frequency of its color, in a blurred weighted histogram."""
    histogram: np.ndarray = np.bincount(bins.ravel(), weights.ravel(), LAB_BINS**3)
    histogram = histogram.reshape((LAB_BINS,) * 3)
    for _ in range(3):  # tensordot moves the first axis to the end, so each axis gets its turn
        histogram = np.tensordot(histogram, _BLUR, (0, 0))
    return histogram.ravel()[bins] / max(histogram.sum(), 1e-12)


def _pairwise_weights(lab: np.ndarray) -> list[np.ndarray]:
    """For each of `_NEIGHBORS` how strongly pixels are coupled to that neighbor."""
    squared_distances = []
    for dy, dx, _ in _NEIGHBORS:
        pixel, neighbor = _neighbor_views(lab, dy, dx)
        squared_distances.append(((pixel - neighbor) ** 2).sum(-1))
    scale = 2 * np.concatenate([x.ravel() for x in squared_distances]).mean() + 1e-6
    return [
        weight * np.exp(-x / scale)
        for x, (_, _, weight) in zip(squared_distances, _NEIGHBORS, strict=True)
    ]


def _neighbor_views(values: np.ndarray, dy: int, dx: int) -> tuple[np.ndarray, np.ndarray]:
    """Views of all pixels that have a neighbor at (dy, dx), and of those neighbors."""
    height, width = values.shape[:2]
    left, right = max(0, -dx), max(0, dx)
    return values[: height - dy, left : width - right], values[dy:, right : width - left]


def _sum_neighbors(values: np.ndarray, pairwise: list[np.ndarray]) -> np.ndarray:
    """The weighted sum of the eight neighbors of each pixel."""
    total = np.zeros_like(values)
    for (dy, dx, _), weights in zip(_NEIGHBORS, pairwise, strict=True):
        pixel, neighbor = _neighbor_views(values, dy, dx)
        pixel_total, neighbor_total = _neighbor_views(total, dy, dx)
        pixel_total += weights * neighbor
        neighbor_total += weights * pixel
    return total


def main_components(probability: np.ndarray) -> tuple[np.ndarray, int]:
    """The mask of the garment without specks and small holes, bool (height, width).

    The second value is the number of pieces of at least `MIN_PIECE` pixels, those that are left out
    included.
    """
    mask = probability > 0.5
    y, x = ((np.arange(n) + 0.5) / n * 2 - 1 for n in mask.shape)
    weights = np.exp(-(y[:, None] ** 2) - x**2) * mask  # central pixels count more
    components = label_components(mask)
    area = np.bincount(components.ravel(), weights.ravel(), mask.size)
    pieces = int((np.bincount(components[mask]) >= MIN_PIECE).sum())
    mask = mask & (area >= 0.3 * area.max())[components]  # also the second shoe of a pair
    holes = label_components(~mask)
    size = np.bincount(holes.ravel(), minlength=mask.size)
    size[np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]])] = mask.size
    return mask | (size <= 0.05 * mask.sum())[holes] & ~mask, pieces


def label_components(mask: np.ndarray) -> np.ndarray:
    """Label 4-connected components: each pixel gets the largest index of a connected pixel."""
    labels = np.arange(mask.size).reshape(mask.shape)
    while True:
        previous = labels.copy()
        for dy, dx in ((0, 1), (1, 0)):
            connected = np.logical_and(*_neighbor_views(mask, dy, dx))
            pixel, neighbor = _neighbor_views(labels, dy, dx)
            np.maximum(pixel, neighbor, out=pixel, where=connected)
            np.maximum(neighbor, pixel, out=neighbor, where=connected)
        labels = labels.ravel()[labels]
        if (labels == previous).all():
            return labels


def _note(lab: np.ndarray, mask: np.ndarray, pieces: int) -> str:
    """What to tell the user if the mask is doubtful."""
    if not MIN_AREA <= mask.mean() <= MAX_AREA:
        return "no garment found; try a plain background, and the whole garment in the picture"
    if np.linalg.norm(lab[mask].mean(0) - lab[~mask].mean(0)) < MIN_CONTRAST:
        return "garment and background look alike; try a background of another color"
    if pieces > MAX_PIECES:
        return f"the cut-out is in {pieces} pieces; try a plain background of another color"
    return ""
