"""Probabilities and labels in, named numbers out; plain NumPy and scikit-learn."""

from typing import Any

import numpy as np


def classification_metrics(
    probabilities: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...] | None = None
) -> dict[str, Any]:
    """The figures of a classifier on one set of images.

    Args:
        probabilities: float (n, classes).
        labels: integers (n,), 0..classes-1.
        class_names: one a class; numbers without.

    Returns:
        `accuracy` (top-1, 0..1), `loss` (mean cross-entropy in nats), `examples` (n), `per_class`
        (name -> `precision`, `recall`, `f1`, `support`; recall is the accuracy within the class),
        `confusion_matrix` (rows are true classes, columns predicted ones).

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
    of_truth = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    columns = precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    per_class = {
        name: dict(zip(("precision", "recall", "f1", "support"), row, strict=True))
        for name, row in zip(names, zip(*(c.tolist() for c in columns), strict=True), strict=True)
    }
    return {
        "accuracy": float((predicted == labels).mean()),
        "loss": float(-np.log(np.maximum(of_truth, np.finfo(np.float32).tiny)).mean()),
        "examples": len(labels),
        "per_class": per_class,
        "confusion_matrix": confusion_matrix(labels, predicted, labels=classes).tolist(),
    }
