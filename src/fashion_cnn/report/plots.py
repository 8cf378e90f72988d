"""Numbers in, charts out; one house style for all of them."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.style import library

from fashion_cnn.evaluation.calibration import (
    apply_temperature,
    calibration_error,
    reliability,
)
from fashion_cnn.evaluation.metrics import coverage
from fashion_cnn.evaluation.robustness import corrupt
from fashion_cnn.report.style import BLUE, GREY, ORANGE, STYLE, new_figure

FEW = 20  # answers; the share of so few that is right is noise
PERCENT = matplotlib.ticker.PercentFormatter(1, decimals=0)


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
    figure = new_figure(8, 4.8)
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
        figure.text(0.99, 0.01, note, ha="right", fontsize=8, color=GREY)
    return figure


@matplotlib.rc_context(STYLE)
def comparison(histories: dict[str, dict[str, list[float]]], note: str = "") -> Any:
    """Held-out accuracy and loss of several runs, or those of training where nothing was held out.

    Args:
        histories: name -> columns of `history.csv`.
        note: to be read with it.

    Returns:
        A Matplotlib figure.
    """
    colours = [entry["color"] for entry in library["petroff10"]["axes.prop_cycle"]]
    figure = new_figure(12, 4.8)
    for axis, what in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        for i, (name, history) in enumerate(histories.items()):
            held_out = not np.isnan(history[f"val_{what}"]).all()
            style = {"color": colours[i % 10], "linestyle": "-" if held_out else ":"}
            values = history[f"val_{what}" if held_out else what]
            label = name if held_out else f"{name} (training)"
            axis.plot(history["epoch"], values, marker="o", markersize=4, label=label, **style)
        axis.set(xlabel="Epochs", ylabel=what.capitalize(), title=f"Held-out {what}")
        axis.xaxis.get_major_locator().set_params(integer=True)
    figure.axes[0].legend(loc="lower right")
    if note:
        figure.supxlabel(note, fontsize=9, color=GREY, x=0.99, ha="right")
    return figure


@matplotlib.rc_context(STYLE)
def trials(rows: Sequence[dict[str, Any]], importance: dict[str, float], epoch: int) -> Any:
    """What a search found, and when; and which settings made the difference.

    Args:
        rows: `trial`, `state`, `val_accuracy` and `seconds` of each, in the order of their ends.
        importance: setting -> its share; the second part is left out without any.
        epoch: after which `importance` was measured.

    Returns:
        A Matplotlib figure.
    """
    widths = [2, 1] if importance else [2]
    figure = new_figure(4.5 * sum(widths) - 2, 4.6)
    axis, *rest = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    minutes = np.cumsum([row["seconds"] for row in rows]) / 60
    values = np.array([row["val_accuracy"] for row in rows])
    whole = np.array([row["state"] == "COMPLETE" for row in rows])
    best = np.fmax.accumulate(np.where(whole, values, np.nan))
    axis.step(minutes, best, where="post", color=BLUE, label="Best so far")
    axis.plot(
        minutes[whole], values[whole], "o", color=BLUE, markersize=6, label="Trained to the end"
    )
    stopped = {"markersize": 6, "markerfacecolor": "none", "label": "Stopped early"}
    axis.plot(minutes[~whole], values[~whole], "o", color=GREY, **stopped)
    axis.set_title("Trials")
    axis.set_xlabel("Training time spent, minutes")
    axis.set_ylabel("Validation Accuracy")
    axis.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1, decimals=1))
    axis.legend(loc="best")
    for axis in rest:
        names = sorted(importance, key=importance.__getitem__)
        axis.barh(names, [importance[name] for name in names], color=ORANGE)
        axis.set_title("What made the difference")
        axis.set_xlabel(
            f"Share of the variance after epoch {epoch}\nof {len(rows)} trials (fANOVA)"
        )
        axis.xaxis.set_major_formatter(PERCENT)
        axis.grid(axis="y", visible=False)
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
    figure = new_figure(8.2, 7.4)
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


@matplotlib.rc_context(STYLE)
def learning_rates(history: dict[str, list[float]]) -> Any:
    """The learning rate at the end of each epoch, as a Matplotlib figure."""
    figure = new_figure(8, 4.8)
    axis = figure.subplots()
    axis.plot(history["epoch"], history["learning_rate"], color=BLUE, marker="o", markersize=5)
    axis.set(xlabel="Epochs", ylabel="Learning rate", title="Learning rate after each epoch")
    axis.set_ylim(bottom=0)
    axis.xaxis.get_major_locator().set_params(integer=True)
    return figure


@matplotlib.rc_context(STYLE)
def per_class(rows: dict[str, dict[str, float]]) -> Any:
    """Recall as bars and precision as marks, best class first.

    Args:
        rows: class name -> `precision`, `recall`.

    Returns:
        A Matplotlib figure.
    """
    names = sorted(rows, key=lambda name: rows[name]["recall"])
    figure = new_figure(8, 1.4 + 0.42 * len(names))
    axis = figure.subplots()
    recall = [rows[name]["recall"] for name in names]
    axis.barh(names, recall, color=BLUE, label="Recall: of this class, found")
    marks = {"marker": "D", "color": ORANGE, "edgecolor": "white", "s": 55, "zorder": 3}
    precision = [rows[name]["precision"] for name in names]
    axis.scatter(precision, names, label="Precision: of these answers, right", **marks)
    for place, share in enumerate(recall):
        inside = share > 0.15
        text = {"ha": "left", "va": "center", "color": "white" if inside else "black"}
        axis.text(0.01 if inside else share + 0.01, place, f"{share:.1%}", fontsize=10, **text)
    axis.set_xlim(0, 1.02)
    axis.xaxis.set_major_formatter(PERCENT)
    axis.grid(axis="y", visible=False)
    axis.set_title("Each class")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=2)
    return figure


@matplotlib.rc_context(STYLE)
def reliabilities(
    probabilities: np.ndarray, labels: np.ndarray, temperature: float | None = None
) -> Any:
    """How often answers of each probability are right; with a temperature, before and after.

    Args:
        probabilities: float (n, classes).
        labels: integers (n,).
        temperature: fitted on other images.

    Returns:
        A Matplotlib figure.
    """
    panels = [("As trained", probabilities)]
    if temperature is not None:
        panels += [
            (f"At temperature {temperature:.2f}", apply_temperature(probabilities, temperature))
        ]
    figure = new_figure(5 * len(panels) + 0.4, 5.2)
    for axis, (name, answers) in zip(
        figure.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels, strict=True
    ):
        _reliability(axis, answers, labels)
        axis.set_title(f"{name}: off by {calibration_error(answers, labels):.1%}", fontsize=12)
    figure.axes[0].set_ylabel("Share that is right")
    figure.axes[-1].legend(loc="upper left")
    return figure


def _reliability(axis: Any, answers: np.ndarray, labels: np.ndarray) -> None:
    found = reliability(answers, labels)
    bins, known = len(found["count"]), found["count"] > 0
    centres = ((np.arange(bins) + 0.5) / bins)[known]
    accuracy, confidence = found["accuracy"][known], found["confidence"][known]
    paler = np.where(found["count"][known] < FEW, 0.35, 1.0)
    bars = axis.bar(
        centres, accuracy, 0.92 / bins, color=BLUE, label="share that is right", zorder=2
    )
    for bar, alpha in zip(bars, paler, strict=True):
        bar.set_alpha(alpha)
    axis.vlines(centres, accuracy, confidence, color=ORANGE, linewidth=3, zorder=3)
    marks = {"marker": "D", "color": ORANGE, "edgecolor": "white", "s": 50, "zorder": 4}
    axis.scatter(centres, confidence, label="probability given", **marks)
    axis.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="Probability of the answer", aspect="equal")
    axis.xaxis.set_major_formatter(PERCENT)
    axis.yaxis.set_major_formatter(PERCENT)


@matplotlib.rc_context(STYLE)
def coverages(probabilities: np.ndarray, labels: np.ndarray) -> Any:
    """Accuracy when the least certain answers are left out, as a Matplotlib figure."""
    share, accuracy = coverage(probabilities, labels)
    figure = new_figure(8, 4.8)
    axis = figure.subplots()
    shown = share >= 0.3  # of few answers the accuracy is noise
    axis.plot(share[shown], accuracy[shown], color=BLUE)
    for at in (1.0, 0.9, 0.8):
        i = max(round(at * len(share)) - 1, 0)
        axis.plot(share[i], accuracy[i], "o", color=ORANGE, markersize=8, zorder=3)
        axis.annotate(
            f"{accuracy[i]:.1%}",
            (share[i], accuracy[i]),
            (-8, -6),
            textcoords="offset points",
            ha="right",
            va="top",
        )
    axis.margins(y=0.1)
    axis.set_xlim(0.3, 1.01)
    axis.xaxis.set_major_formatter(PERCENT)
    axis.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1))
    axis.set(xlabel="Share of images answered, surest first", ylabel="Accuracy on them")
    axis.set_title("What it gains to leave out the least certain")
    return figure


@matplotlib.rc_context(STYLE)
def robustness(found: dict[str, Any], image: np.ndarray) -> Any:
    """Accuracy under each corruption, with one image as it looks at each strength.

    Args:
        found: what `evaluation.robustness.robustness` returns.
        image: uint8 (height, width, channels), for show.

    Returns:
        A Matplotlib figure.
    """
    figure = new_figure(11.5, 6.6)
    figure.suptitle(
        f"Accuracy when pictures suffer ({found['examples']:,} test images)",
        x=0.02,
        ha="left",
        weight="bold",
    )
    for axis, (name, row) in zip(
        figure.subplots(2, 4, sharex=True, sharey=True).flat,
        found["corruptions"].items(),
        strict=True,
    ):
        values = [found["accuracy"], *row["accuracy"]]
        axis.plot(range(4), values, color=BLUE, marker="o")
        for x, value in enumerate(values):
            axis.text(x, value - 0.06, f"{value:.0%}", ha="center", va="top", fontsize=9)
        looks = [image, *(corrupt(image[np.newaxis], name, level)[0] for level in row["levels"])]
        for x, look in enumerate(looks):
            axis.imshow(_lit(look), extent=(x - 0.44, x + 0.44, 1.08, 1.43), aspect="auto")
        axis.set_title(name.capitalize(), fontsize=11, pad=6)
        axis.grid(axis="x", visible=False)
        axis.set(xlim=(-0.5, 3.5), ylim=(0, 1.45), yticks=[0, 0.25, 0.5, 0.75, 1])
        axis.set_xticks(range(4), ["as it is", "mild", "medium", "strong"], fontsize=9)
        axis.yaxis.set_major_formatter(PERCENT)
    return figure


def _lit(image: np.ndarray) -> np.ndarray:
    """As the network gets it, not as a negative: here the tones are what changes."""
    return np.broadcast_to(image, (*image.shape[:2], 3))
