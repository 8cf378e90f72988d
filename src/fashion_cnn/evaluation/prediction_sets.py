"""Prediction sets by split conformal prediction: probabilities and labels in, thresholds out.

A set has every class of at least the probability that the share `coverage` of the validation images
gives to their true class (LAC, Sadinle et al. 2019, arXiv:1609.00451), and always the most probable
class. It contains the true class of a new picture like them with at least that probability.
"""

import math
from typing import Any

import numpy as np

COVERAGES = (0.8, 0.9, 0.95, 0.99)


def fit_prediction_sets(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The least probability of a class in a set, for each of `COVERAGES` that n images suffice for.

    Args:
        probabilities: float32 (n, classes), calibrated, of images that were not trained on.
        labels: integers (n,).

    Returns:
        Coverage as text, such as `0.95`, -> probability, 0..1.
    """
    of_true_class = np.sort(probabilities[np.arange(len(labels)), labels])
    ranks = {coverage: len(labels) - _covered(len(labels), coverage) for coverage in COVERAGES}
    return {str(key): float(of_true_class[rank]) for key, rank in ranks.items() if rank >= 0}


def measure_prediction_sets(
    probabilities: np.ndarray, labels: np.ndarray, least: dict[str, float]
) -> dict[str, Any]:
    """Of the sets of each coverage in `least`: the share with the true class, and the mean size."""
    is_top = np.eye(probabilities.shape[1], dtype=bool)[probabilities.argmax(1)]
    measured = {}
    for coverage, probability in least.items():
        sets = (probabilities >= probability) | is_top
        share, size = sets[np.arange(len(labels)), labels].mean(), sets.sum(1).mean()
        measured[coverage] = {"coverage": float(share), "mean_size": float(size)}
    return measured


def _covered(images: int, coverage: float) -> int:
    """How many images must have their true class in the set: ⌈(n + 1) coverage⌉."""
    return math.ceil(round((images + 1) * coverage, 6))
