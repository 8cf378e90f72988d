"""Class probabilities and labels in, named metrics out.

To add a metric, write a function of probabilities and labels and enter it in `METRICS`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fashion_cnn.evaluation.calibration import (
    apply_temperature,
    brier_score,
    calibration_error,
    log_loss,
)

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)  # shares of the images in `coverage`
MAX_CONFUSED = 10  # pairs of classes in `most_confused`


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Top-1 accuracy, 0..1."""
    return float((probabilities.argmax(1) == labels).mean())


def accuracy_interval(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """95 % confidence interval of the accuracy (Wilson, 1927): low, high."""
    from scipy.stats import binomtest

    correct = probabilities.argmax(1) == labels
    result = binomtest(int(correct.sum()), len(labels))
    low, high = result.proportion_ci(0.95, method="wilson")
    return float(low), float(high)


def macro_accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean recall over the classes that have images, 0..1."""
    return _macro_average(probabilities, labels, "recall")


def macro_f1(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean F1 score over the classes that have images, 0..1."""
    return _macro_average(probabilities, labels, "f1")


def top2_accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose true class is among the two most probable, 0..1."""
    # not scikit-learn's top_k_accuracy_score, which ranks the last of equal classes first
    top2 = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    return float((top2 == labels[:, np.newaxis]).any(1).mean())


# metrics of (probabilities, labels), in the order of metrics.json
METRICS: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {
    "accuracy": accuracy,
    "accuracy_interval": accuracy_interval,
    "macro_accuracy": macro_accuracy,
    "macro_f1": macro_f1,
    "top2_accuracy": top2_accuracy,
    "loss": log_loss,
    "brier": brier_score,
    "ece": calibration_error,
}
CALIBRATED = ("loss", "brier", "ece")  # also computed with the temperature applied


def classification_metrics(
    probabilities: np.ndarray,
    labels: np.ndarray,
    class_names: tuple[str, ...] | None = None,
    temperature: float | None = None,
) -> dict[str, Any]:
    """All metrics of a classifier on one set of images; docs/metrics.md explains each.

    Args:
        probabilities: float (n, classes).
        labels: integers (n,), 0..classes-1.
        class_names: one per class. Default: the class indices.
        temperature: adds `calibrated_loss`, `calibrated_brier` and `calibrated_ece`.

    Returns:
        All of `METRICS`, `examples` (n), `per_class` (name -> `precision`, `recall`, `f1`,
        `support`), `confusion_matrix` (rows are true classes, columns predicted ones),
        `most_confused` (`true`, `predicted`, `count`), `coverage` (`share`, `accuracy`).

    Raises:
        ValueError: shapes do not match, or there are no images.
    """
    from sklearn.metrics import confusion_matrix

    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        raise ValueError(
            f"got probabilities {probabilities.shape} and labels {labels.shape}; expected "
            "(n, classes) and (n,) with n >= 1"
        )
    classes = range(probabilities.shape[1])
    names = class_names or tuple(str(k) for k in classes)
    metrics = {name: function(probabilities, labels) for name, function in METRICS.items()}
    if temperature is not None:
        calibrated = apply_temperature(probabilities, temperature)
        for name in CALIBRATED:
            metrics[f"calibrated_{name}"] = METRICS[name](calibrated, labels)
    columns = _per_class(probabilities, labels)
    matrix = confusion_matrix(labels, probabilities.argmax(1), labels=classes)
    return metrics | {
        "examples": len(labels),
        "per_class": {
            name: {key: column[k].item() for key, column in columns.items()}
            for name, k in zip(names, classes, strict=True)
        },
        "confusion_matrix": matrix.tolist(),
        "most_confused": most_confused(matrix, names),
        "coverage": _coverage_rows(probabilities, labels),
    }


def coverage(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy if only the most confident predictions are accepted (selective classification).

    Args:
        probabilities: float (n, classes).
        labels: integers (n,).

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


def _per_class(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """`precision`, `recall`, `f1` and `support`, each (classes,)."""
    from sklearn.metrics import precision_recall_fscore_support

    classes, predicted = range(probabilities.shape[1]), probabilities.argmax(1)
    columns = precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    return dict(zip(("precision", "recall", "f1", "support"), columns, strict=True))


def _macro_average(probabilities: np.ndarray, labels: np.ndarray, key: str) -> float:
    """The mean of a per-class metric over the classes that have images."""
    columns = _per_class(probabilities, labels)
    return float(columns[key][columns["support"] > 0].mean())


def _coverage_rows(probabilities: np.ndarray, labels: np.ndarray) -> list[dict[str, float]]:
    """`share` and `accuracy` at each of `COVERAGES`."""
    shares, accuracies = coverage(probabilities, labels)
    rows = []
    for target in COVERAGES:
        i = max(round(target * len(labels)) - 1, 0)
        rows.append({"share": float(shares[i]), "accuracy": float(accuracies[i])})
    return rows
