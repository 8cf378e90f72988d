"""Bounds on what rounding may do, which hold on every processor."""

import numpy as np

# Where no step is large enough to amplify it, rounding of 1e-7 stays near 1e-6 of the change of
# the weights; with other dropout masks the difference is 0.2 and more.
ROUNDING = 1e-3


def relative_difference(some, others, start):
    """How far the results of two trainings differ, relative to what training changed.

    Args:
        some: the weights at the end of a training, a sequence of arrays.
        others: those of the other training, in the same order.
        start: the weights from which both started.

    Returns:
        |some - others| / |others - start|, Euclidean norms; the largest over the arrays, so that
        arrays that change much hide nothing. An array that neither training changed counts 0.
    """
    arrays = zip(some, others, start, strict=True)
    return max(_norm(a - b) / max(_norm(b - c), 1e-30) for a, b, c in arrays)


def _norm(array):
    return float(np.linalg.norm(np.ravel(array).astype(np.float64)))


def are_beyond_rounding(probabilities, by=2e-4):
    """Which rows have a largest probability that rounding of half of `by` cannot overtake."""
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    return first - second > by
