"""Pictures made of images: samples, answers, mistakes, heat, and the map of embeddings."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.colors import to_rgb
from matplotlib.style import library

from fashion_cnn.data.dataset import Data
from fashion_cnn.report.style import DARK_RED, GREY, RED, STYLE, as_rgb, new_figure

COUNT = 24
CANVAS = 1400, 1050  # pixels of the map


@matplotlib.rc_context(STYLE)
def samples(data: Data) -> Any:
    """A sheet with ten training images of each class, a row a class, as a Matplotlib figure."""
    rows = [np.flatnonzero(data.train_labels == k)[:10] for k in range(len(data.class_names))]
    tiles = [[as_rgb(data.train_images[i]) for i in row] for row in rows]
    return mosaic(tiles, data.class_names, "Ten training images of each class")


@matplotlib.rc_context(STYLE)
def predictions(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    index: Any = None,
    title: str | None = None,
    *,
    columns: int = 6,
    truth: str = "is",
) -> Any:
    """Images with the predicted class and its probability, mistakes marked.

    Args:
        images: uint8 (n, height, width[, channels]).
        labels: integers (n,).
        probabilities: float (n, classes).
        class_names: one a class.
        index: which images; the first 24 without.
        title: of the sheet; the score without.
        columns: images in a row.
        truth: the word before the label.

    Returns:
        A Matplotlib figure.
    """
    chosen = list(range(min(COUNT, len(images)))) if index is None else list(index)
    right = int((probabilities[chosen].argmax(1) == labels[chosen]).sum())
    score = f"The first {len(chosen)} test images: {right} right, {len(chosen) - right} wrong"
    rows = max(1, -(-len(chosen) // columns))
    figure = new_figure(columns * 1.55, rows * 1.9 + 0.6)
    figure.suptitle(title or score, x=0.02, ha="left", weight="bold")
    for i, axis in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        if i >= len(chosen):
            axis.set_visible(False)
            continue
        k = chosen[i]
        guess, label = int(probabilities[k].argmax()), int(labels[k])
        note = "" if guess == label else f"{truth} {class_names[label]}"
        axis.imshow(as_rgb(images[k]))
        _caption(axis, f"{class_names[guess]} {probabilities[k, guess]:.0%}", note)
    return figure


def _caption(axis: Any, answer: str, note: str) -> None:
    """The answer above, in red with a note below where it was wrong."""
    colour, edge, width = (DARK_RED, RED, 2.5) if note else ("black", "#bbbbbb", 0.8)
    text = {"fontsize": 9, "pad": 4, "loc": "center", "color": colour}
    weight = "bold" if note else "normal"
    axis.set_title(f"{'✗ ' if note else ''}{answer}", weight=weight, **text)
    axis.set_xlabel(note, fontsize=9, color=DARK_RED, labelpad=3)
    for spine in axis.spines.values():
        spine.set(visible=True, color=edge, linewidth=width)


@matplotlib.rc_context(STYLE)
def heat(
    images: np.ndarray,
    labels: np.ndarray,
    answers: np.ndarray,
    warmth: np.ndarray,
    class_names: Sequence[str],
) -> Any:
    """Grad-CAM over images, a row a true class; the redder, the more a place says for the answer.

    Args:
        images: uint8 (n, height, width[, channels]).
        labels: integers (n,).
        answers: integers (n,), the predicted classes.
        warmth: uint8 (n, height, width).
        class_names: one a class.

    Returns:
        A Matplotlib figure; wrong answers are written below their images.
    """
    ink = 255 * np.array(to_rgb(RED))

    def tile(i: int) -> np.ndarray:
        share = 0.8 * warmth[i][..., np.newaxis] / 255
        grey = as_rgb(images[i]).mean(2, keepdims=True)  # on colours the heat could not be told
        return ((1 - share) * grey + share * ink).astype(np.uint8)

    rows = [np.flatnonzero(labels == k).tolist() for k in range(len(class_names))]
    notes = [
        ["" if answers[i] == labels[i] else f"✗ {class_names[answers[i]]}" for i in r] for r in rows
    ]
    tiles = [[tile(i) for i in row] for row in rows]
    return mosaic(tiles, class_names, "Where the network looks (Grad-CAM)", notes)


@matplotlib.rc_context(STYLE)
def pairs(images: np.ndarray, others: np.ndarray, names: tuple[str, str], title: str) -> Any:
    """Pairs of images one above the other, ten pairs in a row, as a Matplotlib figure.

    Args:
        images: uint8 (n, height, width[, channels]).
        others: as many, of the same size.
        names: what the upper and the lower ones are.
        title: of the sheet.
    """
    rows = []
    for start in range(0, len(images), 10):
        rows += [[as_rgb(x) for x in half[start : start + 10]] for half in (images, others)]
    return mosaic(rows, names * (len(rows) // 2), title)


@matplotlib.rc_context(STYLE)
def mosaic(
    tiles: Sequence[Sequence[np.ndarray]],
    row_names: Sequence[str],
    title: str,
    notes: Sequence[Sequence[str]] | None = None,
) -> Any:
    """Rows of images with a name each, and a word below an image where there is one.

    Args:
        tiles: rows of uint8 (height, width, 3), all of one size.
        row_names: one a row.
        title: of the sheet.
        notes: rows of words, as many as tiles.

    Returns:
        A Matplotlib figure.
    """
    columns = max(1, max(len(row) for row in tiles))
    height, width, _ = next(tile for row in tiles for tile in row).shape
    gap_y, gap_x = (round(height * (0.3 if notes else 0.12)), round(width * 0.12))
    high, wide = height + gap_y, width + gap_x
    canvas = np.full((len(tiles) * high, columns * wide, 3), 255, np.uint8)
    figure = new_figure(1.6 + 0.85 * columns, 0.7 + 0.85 * len(tiles) * high / wide)
    axis = figure.subplots()
    for r, row in enumerate(tiles):
        axis.text(-0.15 * width, r * high + height / 2, row_names[r], ha="right", va="center")
        for c, tile in enumerate(row):
            canvas[r * high : r * high + height, c * wide : c * wide + width] = tile
            if notes and notes[r][c]:
                place = c * wide + width / 2, r * high + height
                axis.text(*place, notes[r][c], ha="center", va="top", fontsize=7.5, color=DARK_RED)
    axis.imshow(canvas)
    axis.set_axis_off()
    figure.suptitle(title, x=0.02, ha="left", weight="bold")
    return figure


@matplotlib.rc_context(STYLE)
def embedding_map(
    places: np.ndarray, images: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> Any:
    """Images where the network puts them: what it finds alike is close together.

    Args:
        places: float (n, 2).
        images: uint8 (n, height, width[, channels]).
        labels: integers (n,), which give the colour.
        class_names: one a class.

    Returns:
        A Matplotlib figure; of images that would cover each other one is shown, the rest are dots.
    """
    colours = [entry["color"] for entry in library["petroff10"]["axes.prop_cycle"]]
    inks = np.array([to_rgb(colours[k % 10]) for k in range(len(class_names))])
    width, height = CANVAS
    low, high = places.min(0), places.max(0)
    side = 32
    spots = (places - low) / np.maximum(high - low, 1e-9) * (np.array(CANVAS) - side) + side / 2
    canvas = np.ones((height, width, 3))
    taken = set()
    for (x, y), image, label in zip(spots, images, labels, strict=True):
        cell = int(x // (side * 0.8)), int(y // (side * 0.8))
        if cell not in taken:
            taken.add(cell)
            _stamp(canvas, _thumbnail(image, side), int(x), int(y), inks[label])
    figure = new_figure(10, 8)
    axis = figure.subplots()
    axis.scatter(*spots.T, s=3, color=inks[labels], alpha=0.5, linewidths=0, rasterized=True)
    axis.imshow(canvas, interpolation="antialiased")
    halo = [patheffects.withStroke(linewidth=4, foreground="white")]
    for k, name in enumerate(class_names):
        if (labels == k).any():
            place = np.median(spots[labels == k], axis=0)
            axis.text(*place, name, ha="center", va="center", weight="bold", path_effects=halo)
    axis.set_axis_off()
    axis.set_title(f"{len(images):,} test images as the network arranges them (t-SNE)")
    note = "Colour is the true class. Distances within a heap mean something, between heaps little."
    figure.text(0.99, 0.01, note, ha="right", fontsize=8, color=GREY)
    return figure


def _thumbnail(image: np.ndarray, side: int) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(as_rgb(image)).resize((side, side))) / 255


def _stamp(canvas: np.ndarray, tile: np.ndarray, x: int, y: int, ink: np.ndarray) -> None:
    """Print a tile's dark parts in its class's colour, leaving what is white."""
    half, side = len(tile) // 2, len(tile)
    part = canvas[y - half : y - half + side, x - half : x - half + side]
    dark = 1 - tile.mean(2, keepdims=True)[: part.shape[0], : part.shape[1]]
    part[:] = np.minimum(part, 1 - dark * (1 - ink * 0.85))
