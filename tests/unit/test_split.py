import hashlib

import numpy as np
import pytest

from fashion_cnn.data.split import stratified


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
