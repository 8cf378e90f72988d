"""Stratified, reproducible choice of indices from labels, by image or by group of images."""

from collections.abc import Sequence

import numpy as np

SPLIT_SEED = 2017  # the year of Fashion-MNIST; never changed, so that all results are comparable
_MAX_PASSES = 20  # over all groups, each of which may move to another part


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


def group_folds(labels: np.ndarray, groups: np.ndarray, folds: int) -> np.ndarray:
    """The fold of each image, 0..folds-1, int64 (n,); see `split_groups`."""
    return split_groups(labels, groups, [1 / folds] * folds)


def split_groups(labels: np.ndarray, groups: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Divide images into parts, each group whole, each class in proportion where groups allow it.

    The largest groups come first. Each goes to the part whose class counts then deviate least from
    their targets (by Pearson's chi-squared); afterwards groups move while that gets less.

    Args:
        labels: integers (n,).
        groups: what belongs together, integers or texts (n,).
        shares: of the images that each part should get, each more than 0, together 1.

    Returns:
        int64 (n,), the part of each image, an index into `shares`; always the same for the same
        arguments.
    """
    classes, label_index = np.unique(labels, return_inverse=True)
    names, group_index = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), len(classes)))
    np.add.at(counts, (group_index, label_index), 1)
    target = np.outer(shares, counts.sum(0))
    filled = np.zeros_like(target)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(1), kind="stable")]
    parts = np.full(len(counts), -1)  # of no part yet
    for _ in range(_MAX_PASSES):
        before = parts.copy()
        for group, count in zip(order, counts[order], strict=True):
            if parts[group] >= 0:
                filled[parts[group]] -= count
            increase = count * (count + 2 * (filled - target)) / target  # of chi-squared
            parts[group] = increase.sum(1).argmin()
            filled[parts[group]] += count
        if np.array_equal(parts, before):
            break
    return parts[group_index]
