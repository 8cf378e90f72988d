"""The charts of one run and of several: numbers in, Matplotlib figures out."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fashion_cnn.data.dataset import channels_last
from fashion_cnn.evaluation.calibration import apply_temperature, calibration_error, reliability
from fashion_cnn.evaluation.metrics import coverage
from fashion_cnn.evaluation.robustness import corrupt
from fashion_cnn.report.results import RunResults
from fashion_cnn.report.style import BLUE, HALO, ORANGE, STYLE, add_note, epoch_axis, new_figure

FEW = 20  # predictions; the accuracy of so few is noise
MIN_COVERAGE = 0.3  # below, the accuracy is that of few images
PERCENT = PercentFormatter(1, decimals=0)


@matplotlib.rc_context(STYLE)
def curves(history: dict[str, list[float]], metric: str, held_out: str = "Validation") -> Figure:
    """Training and held-out `accuracy` or `loss` over the epochs, labeled as in the textbook."""
    figure = new_figure(8, 4.8)
    ax = figure.subplots()
    epochs, name = history["epoch"], metric.capitalize()
    title = f"Training {name}"
    ax.plot(epochs, history[metric], "o-", color=BLUE, markersize=5, label=title)
    values = history[f"val_{metric}"]
    if not np.isnan(values).all():
        title = f"Training and {held_out} {name}"
        ax.plot(epochs, values, "s-", color=ORANGE, markersize=5, label=f"{held_out} {name}")
    ax.set(title=title, ylabel=name)
    epoch_axis(ax)
    ax.legend(loc="lower right" if metric == "accuracy" else "upper right")
    if held_out == "Test":
        note = "Validated on the test set: do not choose a model by this curve"
        add_note(figure, note)
    return figure


@matplotlib.rc_context(STYLE)
def learning_rate(results: RunResults) -> Figure:
    """The learning rate at the end of each epoch."""
    figure = new_figure(8, 4.8)
    ax = figure.subplots()
    values = results.history["learning_rate"]
    ax.plot(results.history["epoch"], values, "o-", color=BLUE, markersize=5)
    ax.set(ylabel="Learning rate", title="Learning rate after each epoch")
    ax.set_ylim(bottom=0)
    epoch_axis(ax)
    return figure


@matplotlib.rc_context(STYLE)
def confusion(matrix: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Confusion matrix of counts, true classes in rows; the color is the share of the row."""
    figure = new_figure(8.2, 7.4)
    ax = figure.subplots()
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    # mistakes are a few percent of a row: a square root makes them visible beside the diagonal
    ax.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            color = "white" if share[row, column] > 0.4 else "black"
            ax.text(column, row, f"{count}", ha="center", va="center", color=color, fontsize=10)
    ticks = range(len(class_names))
    ax.set_xticks(ticks, class_names, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(ticks, class_names)
    ax.set(xlabel="Predicted class", ylabel="True class")
    ax.set_title(f"Confusion matrix, {matrix.sum():,} test images")
    ax.grid(False)
    ax.tick_params(length=0)
    return figure


@matplotlib.rc_context(STYLE)
def per_class(results: RunResults) -> Figure:
    """Recall of each tested class as bars and precision as markers, highest recall first."""
    rows = results.metrics["test_per_class"]
    tested = [name for name in rows if rows[name]["support"]]
    names = sorted(tested, key=lambda name: rows[name]["recall"])
    recall = [rows[name]["recall"] for name in names]
    precision = [np.nan if (p := rows[name]["precision"]) is None else p for name in names]
    figure = new_figure(8, 1.4 + 0.42 * len(names))
    ax = figure.subplots()
    ax.barh(names, recall, color=BLUE, label="Recall")
    markers = {"marker": "D", "color": ORANGE, "edgecolor": "white", "s": 55, "zorder": 3}
    ax.scatter(precision, names, label="Precision", **markers)
    for y, share in enumerate(recall):  # the number is in the bar, or after a short one
        x, color = (0.01, "white") if share > 0.15 else (share + 0.01, "black")
        ax.text(x, y, f"{share:.1%}", fontsize=10, va="center", color=color)
    ax.set(title="Recall and precision of each class", xlim=(0, 1.02))
    ax.xaxis.set_major_formatter(PERCENT)
    ax.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@matplotlib.rc_context(STYLE)
def reliability_diagram(results: RunResults) -> Figure:
    """Accuracy against confidence (arXiv:1706.04599), also after temperature scaling if fitted."""
    temperature = results.metrics["temperature"]
    panels = [("Before temperature scaling", results.probabilities)]
    if temperature is not None:
        scaled = apply_temperature(results.probabilities, temperature)
        panels.append((f"After temperature scaling (T = {temperature:.2f})", scaled))
    figure = new_figure(5 * len(panels) + 0.4, 6)
    all_axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    legend: dict[str, Any] = {}
    for ax, (name, probabilities) in zip(all_axes, panels, strict=True):
        _reliability_bars(ax, probabilities, results.labels)
        error = calibration_error(probabilities, results.labels)
        ax.set_title(f"{name}\nCalibration error {error:.1%}", fontsize=12)
        handles, labels = ax.get_legend_handles_labels()
        legend |= dict(zip(labels, handles, strict=True))
    all_axes[0].set_ylabel("Accuracy")
    columns = len(panels) + 1
    figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=columns)
    return figure


def _reliability_bars(ax: Any, probabilities: np.ndarray, labels: np.ndarray) -> None:
    """Bars of accuracy, with the mean confidence of each as a marker and the gap as a line."""
    bins = reliability(probabilities, labels)
    width = 1 / len(bins["count"])
    filled = np.flatnonzero(bins["count"])
    centers = (filled + 0.5) * width
    count, accuracy, confidence = (bins[key][filled] for key in ("count", "accuracy", "confidence"))
    few = count < FEW
    groups = (("Accuracy", ~few, 1.0), (f"Accuracy, fewer than {FEW} predictions", few, 0.35))
    for label, group, alpha in groups:
        if group.any():
            style = {"color": BLUE, "alpha": alpha, "zorder": 2, "label": label}
            ax.bar(centers[group], accuracy[group], 0.92 * width, **style)
    ax.vlines(centers, accuracy, confidence, color=ORANGE, linewidth=3, zorder=3)
    markers = {"marker": "D", "color": ORANGE, "edgecolor": "white", "s": 50, "zorder": 4}
    ax.scatter(centers, confidence, label="Mean confidence", **markers)
    ax.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
    ax.set_xlabel("Confidence (probability of the predicted class)")
    ax.xaxis.set_major_formatter(PERCENT)
    ax.yaxis.set_major_formatter(PERCENT)


@matplotlib.rc_context(STYLE)
def coverage_curve(results: RunResults) -> Figure:
    """Accuracy on the most confident predictions against their share (selective prediction)."""
    share, accuracy = coverage(results.probabilities, results.labels)
    figure = new_figure(8, 4.8)
    ax = figure.subplots()
    enough = share >= MIN_COVERAGE
    ax.plot(share[enough], accuracy[enough], color=BLUE)
    for target in (1.0, 0.9, 0.8):
        i = max(round(target * len(share)) - 1, 0)
        point = share[i], accuracy[i]
        ax.plot(*point, "o", color=ORANGE, markersize=8, zorder=3)
        offset = {"xytext": (-8, -6), "textcoords": "offset points", "ha": "right", "va": "top"}
        ax.annotate(f"{accuracy[i]:.1%}", point, **offset)
    ax.margins(y=0.1)
    ax.set(title="Accuracy against coverage", xlim=(MIN_COVERAGE, 1.01))
    ax.xaxis.set_major_formatter(PERCENT)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel("Coverage: share of images that get a prediction")
    ax.set_ylabel("Accuracy on these images")
    return figure


@matplotlib.rc_context(STYLE)
def corruption_accuracy(results: RunResults) -> Figure:
    """Accuracy under each corruption, above it one test image at each severity."""
    robustness = results.robustness
    image = channels_last(results.images)[0]
    figure = new_figure(11.5, 6.6)
    title = f"Accuracy under corruptions ({robustness['examples']:,} test images)"
    figure.suptitle(title, x=0.02, ha="left", weight="bold")
    all_axes = figure.subplots(2, 4, sharex=True, sharey=True).flat
    for ax, (name, row) in zip(all_axes, robustness["corruptions"].items(), strict=True):
        values = [robustness["accuracy"], *row["accuracy"]]
        corrupted = [corrupt(image[np.newaxis], name, level)[0] for level in row["levels"]]
        ax.plot(range(4), values, "o-", color=BLUE)
        for x, (value, example) in enumerate(zip(values, [image, *corrupted], strict=True)):
            style = {"ha": "center", "va": "top", "fontsize": 9, "path_effects": HALO}
            ax.text(x, value - 0.06, f"{value:.0%}", **style)
            # not `as_rgb`: a negative would turn brightness and inverted tones around
            rgb = np.broadcast_to(example, (*example.shape[:2], 3))
            ax.imshow(rgb, extent=(x - 0.44, x + 0.44, 1.08, 1.43), aspect="auto")
        ax.set_title(name.capitalize(), fontsize=11, pad=6)
        ax.grid(axis="x", visible=False)
        ax.set(xlim=(-0.5, 3.5), ylim=(0, 1.45), yticks=[0, 0.25, 0.5, 0.75, 1])
        ax.set_xticks(range(4), ["original", "mild", "medium", "strong"], fontsize=9)
        ax.yaxis.set_major_formatter(PERCENT)
    return figure


@matplotlib.rc_context(STYLE)
def comparison(histories: dict[str, dict[str, list[float]]], note: str) -> Figure:
    """Held-out accuracy and loss of runs (name -> history); of training if nothing was held out."""
    figure = new_figure(12, 4.8)
    for ax, metric in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        for name, history in histories.items():
            values, label, line = history[f"val_{metric}"], name, "-"
            if np.isnan(values).all():
                values, label, line = history[metric], f"{name} (training)", ":"
            ax.plot(history["epoch"], values, f"o{line}", markersize=4, label=label)
        ax.set(ylabel=metric.capitalize(), title=f"Held-out {metric}")
        epoch_axis(ax)
    figure.axes[0].legend(loc="lower right")
    if note:
        add_note(figure, note)
    return figure


@matplotlib.rc_context(STYLE)
def trials(rows: Sequence[dict[str, str]], importance: dict[str, float], epoch: int) -> Figure:
    """The trials of a search, and each hyperparameter's share of the variance after `epoch`."""
    widths = [2, 1] if importance else [2]
    figure = new_figure(4.5 * sum(widths) - 2, 4.6)
    all_axes = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    _trials_over_time(all_axes[0], rows)
    if importance:
        ax = all_axes[1]
        names = sorted(importance, key=importance.__getitem__)
        ax.barh(names, [importance[name] for name in names], color=ORANGE)
        ax.set_title("Importance")
        ax.set_xlabel(f"Share of the variance after epoch {epoch}\nof {len(rows)} trials (fANOVA)")
        ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.grid(axis="y", visible=False)
    figure.legend(loc="outside lower left", ncols=3)
    return figure


def _trials_over_time(ax: Any, rows: Sequence[dict[str, str]]) -> None:
    """Validation accuracy of each trial against the training time spent so far."""
    minutes = np.cumsum([float(row["seconds"]) for row in rows]) / 60
    values = np.array([float(row["val_accuracy"] or "nan") for row in rows])
    completed = np.array([row["state"] == "COMPLETE" for row in rows])
    best = np.fmax.accumulate(np.where(completed, values, np.nan))
    style: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 6}
    ax.step(minutes, best, where="post", color=BLUE, label="Best so far")
    ax.plot(minutes[completed], values[completed], color=BLUE, label="Completed", **style)
    style |= {"color": "dimgray", "markerfacecolor": "none"}
    ax.plot(minutes[~completed], values[~completed], label="Pruned (stopped early)", **style)
    ax.set(title="Trials", xlabel="Training time so far, minutes", ylabel="Validation accuracy")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
