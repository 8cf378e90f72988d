import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fashion_cnn.data import as_data


def data_of(shape, labels=None):
    images = np.zeros((14, *shape), np.uint8)
    labels = np.arange(14) % 2 if labels is None else labels
    return as_data(((images, labels), (images, labels)))


@given(st.lists(st.sampled_from([0, 1, 2, 3, 4, 28]), min_size=1, max_size=4))
def test_images_have_one_or_three_channels_in_the_last_axis(shape):
    is_image = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))
    if is_image and 0 not in shape:
        assert data_of(shape).image_shape == (*shape[:2], *(shape[2:] or [1]))
        return
    with pytest.raises(ValueError, match="train images: got") as refusal:
        data_of(shape)
    is_channels_first = len(shape) == 3 and shape[0] in (1, 3) and shape[2] not in (1, 3)
    assert ("np.moveaxis(x, 1, -1)" in str(refusal.value)) == is_channels_first


@given(st.lists(st.integers(-3, 300), min_size=14, max_size=14))
def test_integer_labels_are_numbered_in_their_order(labels):
    assume(len(set(labels)) > 1)
    ranks = [sorted(set(labels)).index(label) for label in labels]
    for array in (np.array(labels), np.array(labels)[:, None]):
        data = data_of((8, 8), array)
        assert data.class_names == tuple(map(str, sorted(set(labels))))
        assert data.train_labels.tolist() == data.test_labels.tolist() == ranks


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="classes: got only 7; expected at least two"):
        data_of((8, 8), np.full(14, 7))


def test_names_are_labels_too():
    labels = np.array(["shoe", "coat"] * 7)
    data = data_of((8, 8), labels)
    assert data.class_names == ("coat", "shoe")
    assert data.train_labels[:2].tolist() == [1, 0]


@pytest.mark.parametrize("labels", [np.zeros(14), np.zeros(14, bool), np.eye(14, dtype=int)])
def test_other_labels_are_refused(labels):
    with pytest.raises(ValueError, match=r"labels: got .*expected one integer per image"):
        data_of((8, 8), labels)
