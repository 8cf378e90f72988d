"""Labels in, a stratified and reproducible choice of indices out."""

import numpy as np

SPLIT_SEED = 2017  # the year of the data set; never changed, so that every figure compares


def stratified(labels: np.ndarray, size: int, seed: int = SPLIT_SEED) -> np.ndarray:
    """Choose `size` indices with each class in its share.

    Args:
        labels: integers (n,).
        size: how many to choose, 0..n.
        seed: the same labels, size and seed give the same choice.

    Returns:
        int64 (size,), ascending.

    Raises:
        ValueError: `size` is more than there are labels.
    """
    if not 0 <= size <= len(labels):
        raise ValueError(f"split size: got {size}; expected 0..{len(labels)}")
    classes, counts = np.unique(labels, return_counts=True)
    share = counts * size / max(len(labels), 1)
    take = np.floor(share).astype(int)
    largest_remainders = np.argsort(take - share, kind="stable")[: size - take.sum()]
    take[largest_remainders] += 1
    rng = np.random.default_rng(seed)
    chosen = [
        rng.permutation(np.flatnonzero(labels == label))[:count]
        for label, count in zip(classes, take, strict=True)
    ]
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)
