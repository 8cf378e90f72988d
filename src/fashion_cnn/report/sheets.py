"""Sheets of images: samples, predictions, Grad-CAM, embeddings, and what an audit lists."""

from collections.abc import Iterable, Sequence
from textwrap import fill

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from fashion_cnn.data.dataset import Data
from fashion_cnn.report.results import RunResults
from fashion_cnn.report.style import DARK_RED, HALO, RED, STYLE, add_note, as_rgb, new_figure

MAX_IMAGES = 24  # on a sheet of predictions
CAPTION_WIDTH = 18  # of a line above or below an image, characters
MAP_SIZE = 1400, 1050  # width and height of the embedding map, pixels
MAP_TILE = 32  # side of an image on it, pixels


@matplotlib.rc_context(STYLE)
def samples(data: Data) -> Figure:
    """Ten training images of each class, one class a row."""
    tiles = []
    for label in range(len(data.class_names)):
        index = np.flatnonzero(data.train_labels == label)[:10]
        tiles.append([as_rgb(image) for image in data.train_images[index]])
    return _image_grid(tiles, data.class_names, "Ten training images of each class")


def predictions_at(results: RunResults, index: np.ndarray, title: str = "") -> Figure:
    """The first 24 of the test images with these indices."""
    index = index[:MAX_IMAGES]  # before the images are copied, which may be large
    images, labels = results.images[index], results.labels[index]
    return predictions(images, labels, results.probabilities[index], results.class_names, title)


@matplotlib.rc_context(STYLE)
def predictions(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    title: str = "",
) -> Figure:
    """The first 24 images, uint8, with predicted class and probability, and the true if another."""
    captions = []
    for label, row in zip(labels[:MAX_IMAGES], probabilities, strict=False):
        predicted = row.argmax()
        note = f"true: {class_names[label]}" if predicted != label else ""
        captions.append((f"{class_names[predicted]} {row[predicted]:.0%}", note))
    wrong = sum(note != "" for _, note in captions)
    score = f"The first {len(captions)} test images: {len(captions) - wrong} correct, {wrong} wrong"
    return _captioned_images(images, captions, title or score, columns=6)


@matplotlib.rc_context(STYLE)
def nearest_images(results: RunResults) -> Figure:
    """The test images least similar to training, one a row, before those nearest to each."""
    images: list[np.ndarray | None] = []
    captions = []
    for i, nearest, cosines in zip(*results.nearest.values(), strict=True):
        label, predicted = results.labels[i], results.predicted[i]
        caption = f"{results.class_names[predicted]} {results.probabilities[i, predicted]:.0%}"
        note = "" if predicted == label else f"true: {results.class_names[label]}"
        images.append(results.images[i])
        images += [results.train_images[k] if k >= 0 else None for k in nearest]
        captions.append((caption, note))
        captions += [(f"training, {cosine:.2f}", "") for cosine in cosines]
    title = "Test images (left), and the nearest training images"
    return _captioned_images(images, captions, title, columns=1 + len(nearest))


@matplotlib.rc_context(STYLE)
def suspects(rows: Sequence[dict[str, str]], data: Data, split: str) -> Figure:
    """The first 64 probable label errors of a split, from its rows of `suspects.csv`."""
    images = data.train_images if split == "train" else data.test_images
    captions = []
    shown = rows[:64]
    for row in shown:
        note = f"label: {row['label']}" if row["label"] != row["suggested"] else ""
        captions.append((f"{row['suggested']} {float(row['probability']):.0%}", note))
    title = f"Probable label errors: {len(shown)} of {len(rows):,} in the {split} split"
    index = [int(row["index"]) for row in shown]
    return _captioned_images(images[index], captions, title, columns=8)


@matplotlib.rc_context(STYLE)
def duplicates(rows: Sequence[dict[str, str]], data: Data) -> Figure:
    """The first 40 near-duplicates of `duplicates.csv`: a test image above its training image."""
    tiles, row_names = [], []
    for start in range(0, min(len(rows), 40), 10):
        pairs = rows[start : start + 10]
        tiles.append([as_rgb(data.test_images[int(pair["test_index"])]) for pair in pairs])
        tiles.append([as_rgb(data.train_images[int(pair["train_index"])]) for pair in pairs])
        row_names += ["test", "train"]
    return _image_grid(tiles, row_names, "Near-duplicates in the test and train splits")


@matplotlib.rc_context(STYLE)
def gradcam(results: RunResults) -> Figure:
    """Grad-CAM over test images, one true class a row; wrong predictions are written below."""
    index = results.explanations["gradcam_index"]
    heatmaps = dict(zip(index, results.explanations["gradcam"], strict=True))
    tiles, notes = [], []
    for label in range(len(results.class_names)):
        row = index[results.labels[index] == label]
        tiles.append([_overlay(results.images[i], heatmaps[i]) for i in row])
        predicted = results.predicted[row]
        notes.append(["" if k == label else f"✗ {results.class_names[k]}" for k in predicted])
    title = "Grad-CAM: evidence for the predicted class in orange"
    return _image_grid(tiles, results.class_names, title, notes)


def _overlay(image: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """A heatmap in orange over an image in gray, on which it can be told from other colors."""
    share = 0.8 * heatmap[..., np.newaxis] / 255
    gray = as_rgb(image).mean(2, keepdims=True)
    return ((1 - share) * gray + share * 255 * np.array(to_rgb(RED))).astype(np.uint8)


@matplotlib.rc_context(STYLE)
def embedding_map(results: RunResults) -> Figure:
    """Test images at their t-SNE coordinates; where they would overlap, some are only dots."""
    index, coordinates = results.explanations["map_index"], results.explanations["map"]
    images, labels = results.images[index], results.labels[index]
    colors = np.array([to_rgb(f"C{k}") for k in range(len(results.class_names))])
    low, high = coordinates.min(0), coordinates.max(0)
    free = np.array(MAP_SIZE) - MAP_TILE
    points = (coordinates - low) / np.maximum(high - low, 1e-9) * free + MAP_TILE / 2
    canvas = np.ones((*MAP_SIZE[::-1], 3))
    occupied = set()
    for (x, y), image, label in zip(points, images, labels, strict=True):
        cell = int(x // (0.8 * MAP_TILE)), int(y // (0.8 * MAP_TILE))
        if cell not in occupied:
            occupied.add(cell)
            _stamp(canvas, image, int(x), int(y), colors[label])
    figure = new_figure(10, 8)
    ax = figure.subplots()
    ax.scatter(*points.T, s=3, color=colors[labels], alpha=0.5, linewidths=0, rasterized=True)
    ax.imshow(canvas, interpolation="antialiased")
    for label in np.unique(labels):
        x, y = np.median(points[labels == label], axis=0)
        name = results.class_names[label]
        ax.text(x, y, name, ha="center", va="center", weight="bold", path_effects=HALO)
    ax.set_axis_off()
    ax.set_title(f"t-SNE of the embeddings of {len(images):,} test images")
    add_note(figure, "Color: true class. Only distances within a cluster are meaningful.")
    return figure


def _stamp(canvas: np.ndarray, image: np.ndarray, x: int, y: int, color: np.ndarray) -> None:
    """Print an image's dark parts onto the canvas around (x, y) in a color; white stays."""
    tile = Image.fromarray(as_rgb(image)).resize((MAP_TILE, MAP_TILE))
    top, left = y - MAP_TILE // 2, x - MAP_TILE // 2
    part = canvas[top : top + MAP_TILE, left : left + MAP_TILE]
    darkness = 1 - np.asarray(tile).mean(2, keepdims=True)[: part.shape[0], : part.shape[1]] / 255
    part[:] = np.minimum(part, 1 - darkness * (1 - color * 0.85))


def _captioned_images(
    images: np.ndarray | Sequence[np.ndarray | None],
    captions: Sequence[tuple[str, str]],
    title: str,
    columns: int,
) -> Figure:
    """As many images as captions: a text above, and one below that marks the image as wrong."""
    rows = max(1, -(-len(captions) // columns))
    figure = new_figure(columns * 1.55, rows * 1.9 + 0.6)
    figure.suptitle(title, x=0.02, ha="left", weight="bold")
    all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in all_axes:
        ax.set_visible(False)
    for ax, image, (caption, note) in zip(all_axes, images, captions, strict=False):
        if image is None:
            continue
        ax.set_visible(True)
        color, edge, width = (DARK_RED, RED, 2.5) if note else ("black", "#bbbbbb", 0.8)
        text = {"fontsize": 9, "color": color, "weight": "bold" if note else "normal"}
        caption = fill(f"✗ {caption}" if note else caption, CAPTION_WIDTH)
        ax.set_title(caption, loc="center", pad=4, **text)
        ax.set_xlabel(fill(note, CAPTION_WIDTH), fontsize=9, color=DARK_RED, labelpad=3)
        ax.imshow(as_rgb(image))
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        for spine in ax.spines.values():
            spine.set(visible=True, color=edge, linewidth=width)
    return figure


def _image_grid(
    tiles: Sequence[Sequence[np.ndarray]],
    row_names: Iterable[str],
    title: str,
    notes: Sequence[Sequence[str]] = (),
) -> Figure:
    """Rows of images uint8 (height, width, 3) of one size, with a text below each if given."""
    columns = max(1, max(len(row) for row in tiles))
    height, width, _ = next(tile for row in tiles for tile in row).shape
    row_height = height + round(height * (0.3 if notes else 0.12))
    column_width = width + round(width * 0.12)
    canvas = np.full((len(tiles) * row_height, columns * column_width, 3), 255, np.uint8)
    aspect = row_height / column_width
    figure = new_figure(1.6 + 0.85 * columns, 0.7 + 0.85 * len(tiles) * aspect)
    ax = figure.subplots()
    for r, (name, row) in enumerate(zip(row_names, tiles, strict=True)):
        top = r * row_height
        ax.text(-0.15 * width, top + height / 2, name, ha="right", va="center")
        for c, tile in enumerate(row):
            left = c * column_width
            canvas[top : top + height, left : left + width] = tile
            if notes and notes[r][c]:
                style = {"ha": "center", "va": "top", "fontsize": 7.5, "color": DARK_RED}
                ax.text(left + width / 2, top + height, notes[r][c], **style)
    ax.imshow(canvas)
    ax.set_axis_off()
    figure.suptitle(title, x=0.02, ha="left", weight="bold")
    return figure
