import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashion_cnn.data.split import group_folds, join_groups, split_groups, stratified


def test_split_of_fashion_mnist_never_changes(real_data):
    index = real_data.validation_index
    assert len(index) == 5000
    assert np.bincount(real_data.train_labels[index]).tolist() == [500] * 10
    assert len(np.intersect1d(index, real_data.train_index)) == 0
    assert len(real_data.train_index) == 55000
    digest = hashlib.sha256(index.astype("<i8").tobytes()).hexdigest()
    assert digest.startswith("0206d7af7c686837")


def test_rounding_of_imbalanced_classes_adds_up():
    labels = np.repeat([0, 1, 2], [100, 30, 3])
    chosen = stratified(labels, 13)
    assert len(np.unique(chosen)) == 13
    assert np.bincount(labels[chosen]).tolist() == [10, 3]


def test_a_size_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match=r"got 4; expected 0\.\.3"):
        stratified(np.zeros(3, int), 4)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), min_size=1), st.integers(2, 6))
def test_no_group_is_in_two_folds(images, folds):
    labels, groups = np.array(images).T
    fold = group_folds(labels, groups, folds)
    assert fold.shape == labels.shape and set(fold) <= set(range(folds))
    assert all(len(set(fold[groups == group])) == 1 for group in groups)
    assert len(set(fold)) == min(folds, len(set(groups)))
    names = np.char.add("person", groups.astype(str))
    again = group_folds(labels, names, folds)
    assert all(len(set(again[groups == group])) == 1 for group in groups)
    np.testing.assert_array_equal(fold, group_folds(labels, groups, folds))


@pytest.mark.parametrize("shares", [(0.2,) * 5, (0.8, 0.1, 0.1), (11 / 12, 1 / 12)])
def test_small_groups_fill_each_part_to_its_share(shares):
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 1000, p=(0.4, 0.3, 0.2, 0.1))
    groups = rng.integers(0, 250, 1000)  # some four images each
    parts = split_groups(labels, groups, shares)
    counts = np.array([np.bincount(labels[parts == k], minlength=4) for k in range(len(shares))])
    np.testing.assert_allclose(counts, np.outer(shares, np.bincount(labels)), atol=1)


def test_a_group_larger_than_a_fold_leaves_the_others_balanced():
    labels = np.tile([0, 1, 2], 200)
    groups = np.where(np.arange(600) < 300, 0, np.arange(600))
    folds = group_folds(labels, groups, 5)
    assert sorted(np.bincount(folds)) == [75, 75, 75, 75, 300]
    large = folds[0]
    for fold in {*range(5)} - {large}:
        assert np.bincount(labels[folds == fold]).tolist() == [25] * 3


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1))
def test_joined_groups_share_keys_directly_or_through_others(keys):
    a, b = np.array(keys).T
    joined = join_groups(a, b.astype(str))
    for i in range(len(keys)):
        group, before = {i}, set()
        while group != before:
            before = group
            group = {j for j in range(len(a)) if a[j] in a[list(before)] or b[j] in b[list(before)]}
        assert set(np.flatnonzero(joined == joined[i])) == group
        assert joined[i] == min(group)
