"""Stratified, reproducible choice of indices from labels."""

import numpy as np

SPLIT_SEED = 2017  # the year of Fashion-MNIST; never changed, so that all results are comparable


def stratified(labels: np.ndarray, size: int) -> np.ndarray:
    """Choose `size` indices, each class in proportion to its frequency.

    Args:
        labels: integers (n,).
        size: how many to choose, 0..n; otherwise a ValueError is raised.

    Returns:
        int64 (size,), ascending; always the same for the same arguments.
    """
    if not 0 <= size <= len(labels):
        raise ValueError(f"split size: got {size}; expected 0..{len(labels)}")
    classes, counts = np.unique(labels, return_counts=True)
    quota = counts * size / max(len(labels), 1)
    chosen_counts = np.floor(quota).astype(int)
    by_remainder = np.argsort(chosen_counts - quota, kind="stable")  # largest first
    chosen_counts[by_remainder[: size - chosen_counts.sum()]] += 1
    rng = np.random.default_rng(SPLIT_SEED)
    chosen = [
        rng.permutation(np.flatnonzero(labels == label))[:count]
        for label, count in zip(classes, chosen_counts, strict=True)
    ]
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)
