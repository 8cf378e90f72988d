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
        arguments. No part is empty, unless there are fewer groups than parts.
    """
    classes, label_index = np.unique(labels, return_inverse=True)
    names, group_index = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), len(classes)))
    np.add.at(counts, (group_index, label_index), 1)
    target = np.outer(shares, counts.sum(0))
    filled = np.zeros_like(target)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(1), kind="stable")]
    parts = np.full(len(counts), -1)  # in no part yet
    smallest = order[::-1][: len(target)]  # one for each part, so that none stays empty
    parts[smallest] = np.arange(len(smallest))
    filled[: len(smallest)] = counts[smallest]
    groups_in = np.bincount(parts[smallest], minlength=len(target))
    for _ in range(_MAX_PASSES):
        before = parts.copy()
        for group, count in zip(order, counts[order], strict=True):
            part = parts[group]
            if part >= 0 and groups_in[part] == 1:
                continue
            if part >= 0:
                filled[part] -= count
                groups_in[part] -= 1
            increase = count * (count + 2 * (filled - target)) / target  # of chi-squared
            parts[group] = part = increase.sum(1).argmin()
            filled[part] += count
            groups_in[part] += 1
        if np.array_equal(parts, before):
            break
    return parts[group_index]


def join_groups(*keys: Sequence[str]) -> np.ndarray:
    """Number the groups of images that share a key, directly or through others.

    Args:
        keys: several lists, each with a key for each of n images.

    Returns:
        int64 (n,), the index of the first image of each image's group.
    """
    indices = [np.unique(key, return_inverse=True)[1] for key in keys]
    joined = np.arange(len(keys[0]))
    while True:
        before = joined
        for index in indices:
            first = np.full(len(joined), len(joined))
            np.minimum.at(first, index, joined)
            joined = first[index]
        if np.array_equal(joined, before):
            return joined
