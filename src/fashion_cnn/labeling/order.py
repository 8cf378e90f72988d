"""Probabilities in; the order in which people should look at pictures out."""

import numpy as np

from fashion_cnn.inference.features import normalized

WINDOW = 50  # pictures with the least margins among which the next one is chosen
RECENT = 10  # pictures that the next one should not resemble


def order_labeled(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Order labeled pictures, the most probable label errors first.

    They are ordered by the ratio of the probability of their label to that of the most probable
    other class, the least first; why by this: docs/experiments.md.

    Args:
        labels: integers (n,).
        probabilities: float (n, classes), by a network that was not trained on the picture.

    Returns:
        int64 (n,): indices of all pictures.
    """
    rows = np.arange(len(labels))
    others = np.array(probabilities, np.float64)
    others[rows, labels] = 0
    ratio = probabilities[rows, labels] / np.maximum(others.max(1), np.finfo(np.float64).tiny)
    return np.argsort(ratio, kind="stable")


def order_unlabeled(probabilities: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Order pictures without labels: those between two classes first, and not ten alike in a row.

    Each next picture is, of the `WINDOW` with the least margins between their two most probable
    classes, the one whose place there plus its cosine to the last `RECENT` pictures is least.

    Args:
        probabilities: float (n, classes).
        features: float (n, units), of the same pictures.

    Returns:
        int64 (n,): indices of all pictures.
    """
    top = np.sort(probabilities, 1)
    remaining = list(np.argsort(top[:, -1] - top[:, -2], kind="stable"))
    vectors = normalized(features)
    order: list[int] = []
    while remaining:
        window = remaining[:WINDOW]
        score = np.arange(len(window)) / WINDOW
        if order:
            score = score + (vectors[window] @ vectors[order[-RECENT:]].T).max(1)
        order.append(int(remaining.pop(int(score.argmin()))))
    return np.array(order, int)
