"""The charts of several runs: of `compare`, and of the search of `tune`."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fashion_cnn.report.style import BLUE, ORANGE, PALETTE, STYLE, add_note, epoch_axis, new_figure


@matplotlib.rc_context(STYLE)
def comparison(histories: dict[str, dict[str, list[float]]], note: str = "") -> Figure:
    """Held-out accuracy and loss of several runs; those of training where nothing was held out.

    Args:
        histories: name -> columns of `history.csv`.
        note: printed below the charts.

    Returns:
        A Matplotlib figure.
    """
    figure = new_figure(12, 4.8)
    for ax, metric in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        for i, (name, history) in enumerate(histories.items()):
            values, label, line = history[f"val_{metric}"], name, "-"
            if np.isnan(values).all():
                values, label, line = history[metric], f"{name} (training)", ":"
            color = PALETTE[i % len(PALETTE)]
            ax.plot(history["epoch"], values, f"o{line}", color=color, markersize=4, label=label)
        ax.set(ylabel=metric.capitalize(), title=f"Held-out {metric}")
        epoch_axis(ax)
    figure.axes[0].legend(loc="lower right")
    if note:
        add_note(figure, note)
    return figure


@matplotlib.rc_context(STYLE)
def trials(rows: Sequence[dict[str, str]], importance: dict[str, float], epoch: int) -> Figure:
    """The trials of a hyperparameter search, and the importance of each hyperparameter.

    Args:
        rows: of `trials.csv`, in the order in which the trials ended.
        importance: hyperparameter -> its share of the variance; if empty, it is not drawn.
        epoch: after which `importance` was measured.

    Returns:
        A Matplotlib figure.
    """
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
    minutes = np.cumsum([float(row["seconds"] or "nan") for row in rows]) / 60
    values = np.array([float(row["val_accuracy"] or "nan") for row in rows])
    completed = np.array([row["state"] == "COMPLETE" for row in rows])
    best = np.fmax.accumulate(np.where(completed, values, np.nan))
    style: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 6}
    ax.step(minutes, best, where="post", color=BLUE, label="Best so far")
    ax.plot(minutes[completed], values[completed], color=BLUE, label="Completed", **style)
    style |= {"color": "dimgrey", "markerfacecolor": "none"}
    ax.plot(minutes[~completed], values[~completed], label="Pruned (stopped early)", **style)
    ax.set(title="Trials", xlabel="Training time so far, minutes", ylabel="Validation accuracy")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
