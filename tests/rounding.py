"""Bounds on what rounding may do, which hold on every processor."""

import numpy as np

# Where no step is large enough to amplify it, rounding of 1e-7 stays near 1e-6 of the way that the
# weights have moved; with other dropout masks it is 0.2 and more.
SAME = 1e-3


def apart(some, others, start):
    """The distance between the ends of two trainings, as a share of the way from their start.

    Args:
        some: the weights at the end of a training, a sequence of arrays.
        others: those of the other training, in the same order.
        start: the weights from which both began.

    Returns:
        |some - others| / |others - start|, Euclidean norms; the largest over the arrays, so that
        those that move far hide nothing. An array that neither training moved counts 0.
    """
    arrays = zip(some, others, start, strict=True)
    return max(_norm(a - b) / max(_norm(b - c), 1e-30) for a, b, c in arrays)


def _norm(array):
    return float(np.linalg.norm(np.ravel(array).astype(np.float64)))


def are_clear(probabilities, by=2e-4):
    """Which rows have a largest probability that rounding of half of `by` cannot overtake."""
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    return first - second > by
