import numpy as np
import pytest

from fashion_cnn.data.augment import SHIFT, augment, flip, noise_columns, shift

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 28, 28, 1), dtype=np.uint8)


def test_flip_mirrors_exactly_the_chosen():
    noise = np.array([[0.2], [0.8]])
    flipped = flip(IMAGES[:2], noise)
    np.testing.assert_array_equal(flipped[0], IMAGES[0, :, ::-1])
    np.testing.assert_array_equal(flipped[1], IMAGES[1])


@pytest.mark.parametrize("down", range(-SHIFT, SHIFT + 1))
@pytest.mark.parametrize("right", range(-SHIFT, SHIFT + 1))
def test_shift_moves_and_fills_with_black(down, right):
    steps = np.array([[SHIFT - down, SHIFT - right]])
    moved = shift(IMAGES[:1], (steps + 0.5) / (2 * SHIFT + 1))
    expected = np.zeros((28 + 2 * SHIFT, 28 + 2 * SHIFT), np.uint8)
    expected[SHIFT + down : SHIFT + down + 28, SHIFT + right : SHIFT + right + 28] = IMAGES[
        0, ..., 0
    ]
    np.testing.assert_array_equal(moved[0, ..., 0], expected[SHIFT:-SHIFT, SHIFT:-SHIFT])


def test_each_reads_its_own_columns_and_keeps_shape_and_dtype():
    names = ("flip", "shift")
    noise = np.random.default_rng(1).random((50, noise_columns(names)))
    both = augment(IMAGES, noise, names)
    np.testing.assert_array_equal(both, shift(flip(IMAGES, noise[:, :1]), noise[:, 1:]))
    assert both.shape == IMAGES.shape
    assert both.dtype == np.uint8


def test_nothing_named_changes_nothing():
    assert augment(IMAGES, np.zeros((50, 0)), ()) is IMAGES
