"""Drawings of random shapes and text."""

import numpy as np
import pytest

from fashion_cnn.data.outliers import KINDS, draw_outlier


@pytest.mark.parametrize("shape", [(28, 28), (40, 60, 1), (33, 20, 3), (400, 8, 3), (1, 1)])
def test_drawings_have_the_shape_of_the_images(shape):
    for seed in range(len(KINDS)):
        image = draw_outlier(seed, shape)
        assert image.dtype == np.uint8 and image.shape == shape


def test_drawings_differ_and_a_seed_draws_the_same_again():
    images = np.stack([draw_outlier(seed, (32, 32, 3)) for seed in range(40)])
    assert len(np.unique(images.reshape(40, -1), axis=0)) == 40
    assert images.std((1, 2, 3)).min() > 2  # none is of one color
    for seed in (0, 17):
        np.testing.assert_array_equal(draw_outlier(seed, (32, 32, 3)), images[seed])


def test_large_drawings_are_small_ones_enlarged(monkeypatch):
    monkeypatch.setattr("fashion_cnn.data.outliers.MAX_EDGE", 16)
    image = draw_outlier(0, (64, 64)).astype(float)
    neighbors = np.abs(np.diff(image, axis=0)).mean()
    assert neighbors < image.std() / 2
