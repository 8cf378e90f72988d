"""A run's files in, its pictures out; one house style for all of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from fashion_cnn.data.dataset import Data
from fashion_cnn.recipes import read_recipe
from fashion_cnn.run import read_arrays, read_history, read_json, write_whole

# Okabe and Ito's colours, told apart by colour-blind readers too; https://jfly.uni-koeln.de/color/
BLUE, ORANGE, RED = "#0072B2", "#E69F00", "#D55E00"
DPI = 150
STYLE: Any = {
    "figure.dpi": DPI,
    "figure.facecolor": "white",
    "font.size": 11,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.08,
    "axes.titlesize": 14,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.8,
    "lines.linewidth": 2.2,
    "legend.frameon": False,
}


def draw_run(run: Path, data: Data) -> list[Path]:
    """Draw a measured run: `accuracy.png`, `loss.png`, `predictions.png`, `confusion_matrix.png`.

    Args:
        run: a run folder with history.csv, metrics.json and predictions.npz.
        data: what the run was trained on.

    Returns:
        The pictures' paths.
    """
    history, recipe = read_history(run), read_recipe(run)
    held_out = "Test" if recipe.validation == "test" else "Validation"
    probabilities = read_arrays(run, "predictions.npz")["test_probabilities"]
    matrix = np.array(read_json(run, "metrics.json")["test_confusion_matrix"])
    figures = {
        "accuracy.png": curves(history, "accuracy", held_out),
        "loss.png": curves(history, "loss", held_out),
        "predictions.png": predictions(
            data.test_images, data.test_labels, probabilities, data.class_names
        ),
        "confusion_matrix.png": confusion(matrix, data.class_names),
    }
    return [save(figure, run / name) for name, figure in figures.items()]


def draw_samples(data: Data, path: Path) -> Path:
    """Write the sheet of `samples` and return its path."""
    return save(samples(data), path)


@matplotlib.rc_context(STYLE)
def samples(data: Data) -> Any:
    """A sheet with ten training images of each class, a row a class, as a Matplotlib figure."""
    figure, axes = _grid(len(data.class_names), 10, 0.8, 0.8, left=1.5)
    figure.suptitle("Ten training images of each class", x=0.02, ha="left", weight="bold")
    for k, row in enumerate(axes):
        chosen = np.flatnonzero(data.train_labels == k)[: len(row)]
        row[0].set_ylabel(data.class_names[k], rotation=0, ha="right", va="center")
        for axis, i in zip(row, chosen, strict=False):
            _show(axis, data.train_images[i])
    return figure


@matplotlib.rc_context(STYLE)
def curves(history: dict[str, list[float]], what: str, held_out: str = "Validation") -> Any:
    """Training and held-out `accuracy` or `loss` over the epochs.

    Args:
        history: columns of `history.csv`.
        what: `accuracy` or `loss`.
        held_out: what the second curve is measured on, `Validation` or `Test`.

    Returns:
        A Matplotlib figure.
    """
    figure = _figure(8, 4.8)
    axis = figure.subplots()
    epochs, shown = history["epoch"], what.capitalize()
    marks = {"marker": "o", "markersize": 5}
    axis.plot(epochs, history[what], color=BLUE, label=f"Training {shown}", **marks)
    second = history[f"val_{what}"]
    if not np.isnan(second).all():
        label = f"{held_out} {shown}"
        axis.plot(epochs, second, color=ORANGE, label=label, **{**marks, "marker": "s"})
        axis.set_title(f"Training and {held_out} {shown}")
    else:
        axis.set_title(f"Training {shown}")
    axis.set_xlabel("Epochs")
    axis.set_ylabel(shown)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(loc="lower right" if what == "accuracy" else "upper right")
    if held_out == "Test":
        note = "The second curve is the test set, as in the textbook: not for choosing anything."
        figure.text(0.99, 0.01, note, ha="right", fontsize=8, color="#666666")
    return figure


@matplotlib.rc_context(STYLE)
def predictions(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    count: int = 24,
) -> Any:
    """The first `count` images with the predicted class and its probability, mistakes marked.

    Args:
        images: uint8 (n, height, width[, channels]).
        labels: integers (n,).
        probabilities: float (n, classes).
        class_names: one a class.
        count: how many, six in a row.

    Returns:
        A Matplotlib figure.
    """
    count = min(count, len(images))
    figure, axes = _grid(-(-count // 6), 6, 1.55, 1.9)
    right = int((probabilities[:count].argmax(1) == labels[:count]).sum())
    title = f"The first {count} test images: {right} right, {count - right} wrong"
    figure.suptitle(title, x=0.02, ha="left", weight="bold")
    for i, axis in enumerate(axes.flat):
        if i >= count:
            axis.set_visible(False)
            continue
        _show(axis, images[i])
        guess = int(probabilities[i].argmax())
        wrong = guess != labels[i]
        text = f"{class_names[guess]} {probabilities[i, guess]:.0%}"
        truth = f"is {class_names[labels[i]]}" if wrong else ""
        axis.set_title(
            ("✗ " if wrong else "") + text,
            fontsize=9,
            pad=4,
            loc="center",
            color=RED if wrong else "black",
            weight="bold" if wrong else "normal",
        )
        axis.set_xlabel(truth, fontsize=9, color=RED, labelpad=3)
        for spine in axis.spines.values():
            spine.set(
                visible=True, color=RED if wrong else "#bbbbbb", linewidth=2.5 if wrong else 0.8
            )
    return figure


@matplotlib.rc_context(STYLE)
def confusion(matrix: np.ndarray, class_names: Sequence[str]) -> Any:
    """The confusion matrix: rows are true classes, columns predicted ones.

    Args:
        matrix: counts (classes, classes).
        class_names: one a class.

    Returns:
        A Matplotlib figure; colour is the share of the row, the numbers are counts.
    """
    figure = _figure(8.2, 7.4)
    axis = figure.subplots()
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    # mistakes are a few percent of a row: a square root makes them visible beside the diagonal
    axis.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)
    for (row, column), n in np.ndenumerate(matrix):
        if n:
            colour = "white" if share[row, column] > 0.4 else "black"
            axis.text(column, row, f"{n}", ha="center", va="center", color=colour, fontsize=10)
    ticks = range(len(class_names))
    axis.set_xticks(ticks, class_names, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_yticks(ticks, class_names)
    axis.set(xlabel="Predicted class", ylabel="True class")
    axis.set_title(f"Confusion matrix, {matrix.sum():,} test images")
    axis.grid(False)
    axis.tick_params(length=0)
    return figure


def save(figure: Any, path: Path) -> Path:
    """Write a figure, whole or not at all."""
    kind = path.suffix.removeprefix(".")
    return write_whole(path, lambda temporary: figure.savefig(temporary, format=kind, dpi=DPI))


def _figure(width: float, height: float) -> Any:
    """A figure of its own: no pyplot, so no window, no display and no global state."""
    return Figure(figsize=(width, height), layout="constrained")


def _grid(rows: int, columns: int, width: float, height: float, left: float = 0.0) -> Any:
    figure = _figure(left + columns * width, rows * height + 0.6)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        for spine in axis.spines.values():
            spine.set_visible(False)
    return figure, axes


def _show(axis: Any, image: np.ndarray) -> None:
    image = image.squeeze()
    # negative, so that garments are dark on white as on paper
    axis.imshow(image if image.ndim == 3 else 255 - image, cmap="gray", vmin=0, vmax=255)
