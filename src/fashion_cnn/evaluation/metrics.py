"""Class probabilities and labels in, named metrics out.

To add a metric, write a function of probabilities and labels and enter it in `METRICS`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fashion_cnn.evaluation import calibration

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)  # shares of the images in `coverage`
MAX_CONFUSED = 10  # pairs of classes in `most_confused`


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Top-1 accuracy, 0..1."""
    return float((probabilities.argmax(1) == labels).mean())


def accuracy_interval(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """95 % confidence interval of the accuracy (Wilson, 1927): low, high."""
    from scipy.stats import binomtest

    correct = int((probabilities.argmax(1) == labels).sum())
    low, high = binomtest(correct, len(labels)).proportion_ci(0.95, method="wilson")
    return float(low), float(high)


def per_class(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """`precision`, `recall`, `f1` and `support`, each (classes,).

    NaN stands for a precision without predictions, and for all three of a class without images.
    """
    from sklearn.metrics import precision_recall_fscore_support

    classes, predicted = range(probabilities.shape[1]), probabilities.argmax(1)
    *shares, support = precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=np.nan
    )
    shares = [np.where(support > 0, share, np.nan) for share in shares]
    return dict(zip(("precision", "recall", "f1", "support"), (*shares, support), strict=True))


def macro_average(probabilities: np.ndarray, labels: np.ndarray, key: str) -> float:
    """The mean of a per-class metric over the classes that have images."""
    columns = per_class(probabilities, labels)
    return float(columns[key][columns["support"] > 0].mean())


def top2_accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose true class is among the two most probable, 0..1."""
    # not scikit-learn's top_k_accuracy_score, which ranks the last of equal classes first
    top2 = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    return float((top2 == labels[:, np.newaxis]).any(1).mean())


# metrics of (probabilities, labels), in the order of metrics.json
METRICS: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {
    "accuracy": accuracy,
    "accuracy_interval": accuracy_interval,
    "macro_accuracy": partial(macro_average, key="recall"),
    "macro_f1": partial(macro_average, key="f1"),
    "top2_accuracy": top2_accuracy,
    "loss": calibration.log_loss,
    "brier": calibration.brier_score,
    "ece": calibration.calibration_error,
}


def classification_metrics(
    probabilities: np.ndarray,
    labels: np.ndarray,
    class_names: tuple[str, ...] | None = None,
    temperature: float | None = None,
) -> dict[str, Any]:
    """All of `METRICS`, the confusion matrix, and tables; docs/metrics.md explains each."""
    from sklearn.metrics import confusion_matrix

    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        raise ValueError(
            f"got probabilities {probabilities.shape} and labels {labels.shape}; expected "
            "(n, classes) and (n,) with n >= 1"
        )
    classes = range(probabilities.shape[1])
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(
            f"labels: got {labels.min()} to {labels.max()}; expected 0 to {classes[-1]}, the "
            "numbers of the classes in the sorted order of their labels"
        )
    names = class_names or tuple(str(k) for k in classes)
    metrics = {name: function(probabilities, labels) for name, function in METRICS.items()}
    if temperature is not None:
        calibrated = calibration.apply_temperature(probabilities, temperature)
        for name in ("loss", "brier", "ece"):
            metrics[f"calibrated_{name}"] = METRICS[name](calibrated, labels)
    columns = per_class(probabilities, labels)
    matrix = confusion_matrix(labels, probabilities.argmax(1), labels=classes)
    return metrics | {
        "examples": len(labels),
        "per_class": {
            name: {key: _or_none(column[k].item()) for key, column in columns.items()}
            for name, k in zip(names, classes, strict=True)
        },
        "confusion_matrix": matrix.tolist(),
        "most_confused": most_confused(matrix, names),
        "coverage": _coverage_rows(probabilities, labels),
    }


def _or_none(number: float) -> float | None:
    """None in place of NaN, which JSON does not have."""
    return None if np.isnan(number) else number


def coverage(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy if only the most confident predictions are accepted (selective classification).

    Returns:
        The share of accepted images, 1/n to 1, and the accuracy on them, (n,) each.
    """
    order = np.argsort(-probabilities.max(1), kind="stable")
    correct = (probabilities.argmax(1) == labels)[order]
    accepted = np.arange(1, len(labels) + 1)
    return accepted / len(labels), correct.cumsum() / accepted


def most_confused(matrix: np.ndarray, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The most frequent errors of a confusion matrix: `true`, `predicted` and `count`."""
    errors = matrix * (1 - np.eye(len(matrix), dtype=int))
    order = np.argsort(-errors, axis=None, kind="stable")[:MAX_CONFUSED]
    return [
        {"true": names[row], "predicted": names[column], "count": int(errors[row, column])}
        for row, column in zip(*np.unravel_index(order, matrix.shape), strict=True)
        if errors[row, column]
    ]


def _coverage_rows(probabilities: np.ndarray, labels: np.ndarray) -> list[dict[str, float]]:
    """`share` and `accuracy` at each of `COVERAGES`."""
    shares, accuracies = coverage(probabilities, labels)
    last_accepted = [max(round(share * len(labels)) - 1, 0) for share in COVERAGES]
    return [{"share": float(shares[i]), "accuracy": float(accuracies[i])} for i in last_accepted]
