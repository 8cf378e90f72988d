"""Probabilities and labels in, named numbers out; plain NumPy, SciPy and scikit-learn."""

from typing import Any

import numpy as np

from fashion_cnn.evaluation.calibration import (
    apply_temperature,
    brier_score,
    calibration_error,
    log_loss,
)

SHARES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
PAIRS = 10


def classification_metrics(
    probabilities: np.ndarray,
    labels: np.ndarray,
    class_names: tuple[str, ...] | None = None,
    temperature: float | None = None,
) -> dict[str, Any]:
    """The figures of a classifier on one set of images; docs/metrics.md explains each.

    Args:
        probabilities: float (n, classes).
        labels: integers (n,), 0..classes-1.
        class_names: one a class; numbers without.
        temperature: adds `calibrated_loss`, `calibrated_brier` and `calibrated_ece`.

    Returns:
        `accuracy` (top-1, 0..1), `accuracy_interval` (95 %, low and high), `top2_accuracy`, `loss`
        (mean cross-entropy in nats), `brier`, `ece`, `examples` (n), `per_class` (name ->
        `precision`, `recall`, `f1`, `support`; recall is the accuracy within the class),
        `confusion_matrix` (rows are true classes, columns predicted ones), `most_confused`
        (`true`, `predicted`, `count`), `coverage` (`share`, `accuracy`).

    Raises:
        ValueError: shapes do not fit, or there is nothing to measure.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        raise ValueError(
            f"got probabilities {probabilities.shape} and labels {labels.shape}; expected "
            "(n, classes) and (n,) with n >= 1"
        )
    classes = range(probabilities.shape[1])
    names = class_names or tuple(str(k) for k in classes)
    predicted = probabilities.argmax(1)
    columns = precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    per_class = {
        name: dict(zip(("precision", "recall", "f1", "support"), row, strict=True))
        for name, row in zip(names, zip(*(c.tolist() for c in columns), strict=True), strict=True)
    }
    matrix = confusion_matrix(labels, predicted, labels=classes)
    accuracy_at = dict(zip(("share", "accuracy"), coverage(probabilities, labels), strict=True))
    kept = [round(share * len(labels)) - 1 for share in SHARES]
    found = {
        "accuracy": float((predicted == labels).mean()),
        "accuracy_interval": accuracy_interval(int((predicted == labels).sum()), len(labels)),
        "macro_accuracy": _over_classes(per_class, "recall"),
        "macro_f1": _over_classes(per_class, "f1"),
        "top2_accuracy": float((_rank_of_truth(probabilities, labels) < 2).mean()),
        "loss": log_loss(probabilities, labels),
        "brier": brier_score(probabilities, labels),
        "ece": calibration_error(probabilities, labels),
    }
    if temperature is not None:
        with_temperature = apply_temperature(probabilities, temperature)
        found |= {
            "calibrated_loss": log_loss(with_temperature, labels),
            "calibrated_brier": brier_score(with_temperature, labels),
            "calibrated_ece": calibration_error(with_temperature, labels),
        }
    return found | {
        "examples": len(labels),
        "per_class": per_class,
        "confusion_matrix": matrix.tolist(),
        "most_confused": most_confused(matrix, names),
        "coverage": [
            {key: float(column[max(i, 0)]) for key, column in accuracy_at.items()} for i in kept
        ],
    }


def _over_classes(per_class: dict[str, dict[str, float]], key: str) -> float:
    """The mean over all classes that there are images of."""
    return float(np.mean([row[key] for row in per_class.values() if row["support"]]))


def accuracy_interval(right: int, examples: int) -> tuple[float, float]:
    """Where the accuracy on endless such images lies with 95 % (Wilson, 1927)."""
    from scipy.stats import binomtest

    low, high = binomtest(right, examples).proportion_ci(0.95, method="wilson")
    return float(low), float(high)


def coverage(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy when only the surest answers count.

    Args:
        probabilities: float (n, classes).
        labels: integers (n,).

    Returns:
        The share of images that are answered, 1/n to 1, and the accuracy on them, (n,) each.
    """
    order = np.argsort(-probabilities.max(1), kind="stable")
    right = (probabilities.argmax(1) == labels)[order]
    answered = np.arange(1, len(labels) + 1)
    return answered / len(labels), right.cumsum() / answered


def most_confused(matrix: np.ndarray, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The `PAIRS` commonest mistakes, as `true`, `predicted` and `count`, commonest first."""
    mistakes = matrix * (1 - np.eye(len(matrix), dtype=int))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:PAIRS]
    places = zip(*np.unravel_index(order, matrix.shape), strict=True)
    return [
        {"true": names[row], "predicted": names[column], "count": int(mistakes[row, column])}
        for row, column in places
        if mistakes[row, column]
    ]


def _rank_of_truth(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes are likelier than the true one; of equals, the first."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    return (order == labels[:, np.newaxis]).argmax(1)
