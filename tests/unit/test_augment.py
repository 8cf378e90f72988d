import numpy as np
import pytest

from fashion_cnn.data.augment import (
    AUGMENTATIONS,
    augment,
    colour,
    erase,
    flip,
    noise_columns,
    shift,
    shift1,
    zoom,
)
from fashion_cnn.data.photo_augment import CLEAN, photo

SHIFT = 2

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


def test_nudge_is_a_shift_by_one():
    noise = np.random.default_rng(2).random((50, 2))
    nudged = shift1(IMAGES, noise)
    for image, moved, (down, right) in zip(
        IMAGES, nudged, 1 - (3 * noise).astype(int), strict=True
    ):
        rolled = np.roll(image, (down, right), (0, 1))
        np.testing.assert_array_equal(moved[2:-2, 2:-2], rolled[2:-2, 2:-2])


def test_erase_paints_one_rectangle_on_half_of_the_images():
    noise = np.random.default_rng(3).random((2000, noise_columns(["erase"])))
    black = np.zeros((2000, 28, 28, 1), np.uint8)
    noise[:, 5] = 0.999  # white
    white = erase(black, noise)[..., 0] == 255
    np.testing.assert_array_equal(white.any((1, 2)), noise[:, 0] < 0.5)
    for mask in white[noise[:, 0] < 0.5]:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    shares = white[noise[:, 0] < 0.5].mean((1, 2))
    assert 0 < shares.min() < 0.05 and 0.2 < shares.max() < 0.3
    assert white.mean(0)[4:-4, 4:-4].min() > 0.02 and white.mean(0)[12:16, 12:16].max() < 0.15


@pytest.mark.slow
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_same_code_runs_on_jax(name):
    jnp = pytest.importorskip("jax.numpy")
    noise = np.random.default_rng(4).random((50, noise_columns([name])), np.float32)
    here, there = augment(IMAGES, noise, [name]), augment(jnp.asarray(IMAGES), noise, [name], jnp)
    assert (np.asarray(there) != here).mean() < 1e-3  # a rounded edge
    assert there.dtype == np.uint8 and (here != IMAGES).any()


def test_each_reads_its_own_columns_and_keeps_shape_and_dtype():
    names = ("flip", "shift")
    noise = np.random.default_rng(1).random((50, noise_columns(names)))
    both = augment(IMAGES, noise, names)
    np.testing.assert_array_equal(both, shift(flip(IMAGES, noise[:, :1]), noise[:, 1:]))
    assert both.shape == IMAGES.shape
    assert both.dtype == np.uint8


def test_nothing_named_changes_nothing():
    assert augment(IMAGES, np.zeros((50, 0)), ()) is IMAGES


def garments():
    """What of Fashion-MNIST `photo` tells apart: sleeved, narrow, and flat."""
    images = np.zeros((3, 28, 28, 1), np.uint8)
    images[0, 2:26, 3:25] = images[1, :, 9:19] = images[2, 9:19, :] = 180
    return images


@pytest.mark.parametrize("which", range(3))
def test_photographed_garments_fill_the_picture_and_differ(which):
    images = np.repeat(garments()[which : which + 1], 400, 0)
    noise = np.random.default_rng(which).random((400, noise_columns(["photo"])), np.float32)
    noise[:, 0] = 0.99
    found = photo(images, noise)
    assert (found.shape, found.dtype) == (images.shape, np.uint8)
    seen = found[..., 0] > 8
    longest = np.maximum(seen.any(1).sum(1), seen.any(2).sum(1))
    assert np.median(longest) >= 26  # as data/photo.py trims
    assert (seen.mean((1, 2)) > 0.03).mean() > 0.95
    assert len(np.unique(found.reshape(400, -1), axis=0)) > 390


def test_some_photographed_images_are_left_as_they_are():
    images = np.random.default_rng(0).integers(0, 256, (2000, 28, 28, 1), dtype=np.uint8)
    noise = np.random.default_rng(1).random((2000, noise_columns(["photo"])), np.float32)
    same = (photo(images, noise) == images).all((1, 2, 3))
    np.testing.assert_array_equal(same, noise[:, 0] < CLEAN)


def test_each_photograph_depends_on_its_own_numbers_alone():
    images = np.repeat(garments(), 4, 0)
    noise = np.random.default_rng(2).random((12, noise_columns(["photo"])), np.float32)
    whole = photo(images, noise)
    for k in range(12):
        np.testing.assert_array_equal(photo(images[k : k + 1], noise[k : k + 1])[0], whole[k])
    again = photo(np.zeros_like(images), noise)  # nothing to see is no failure
    assert again.shape == images.shape


def test_zoom_shows_a_part_of_the_image_and_all_of_it_at_one_end():
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (3, 40, 30, 3), dtype=np.uint8)
    whole = np.array([[1.0, 0.5, 0.3, 0.9]] * 3)  # all of the area, at the image's own ratio
    np.testing.assert_array_equal(zoom(images, whole), images)
    down, right = np.mgrid[:200, :100]
    slopes = np.stack([down, 2 * right, 0 * down], 2).astype(np.uint8)[np.newaxis]
    half = np.sqrt(0.5)
    for row, column in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)):
        part = zoom(slopes, np.array([[0.0, 0.5, row, column]]))[0].astype(float)
        top, left = row * (1 - half) * 200, column * (1 - half) * 100
        expected = (
            top + (np.arange(200) + 0.5) * half - 0.5,
            left + (np.arange(100) + 0.5) * half - 0.5,
        )
        np.testing.assert_allclose(part[:, 50, 0], np.clip(expected[0], 0, None), atol=1.5)
        np.testing.assert_allclose(part[100, :, 1], 2 * np.clip(expected[1], 0, None), atol=2.5)
    areas = []
    for _ in range(200):  # what is a sixteenth of the image becomes larger, by up to twice
        spot = np.zeros((1, 64, 64, 1), np.uint8)
        spot[:, 24:40, 24:40] = 255
        areas.append((zoom(spot, rng.random((1, 4))) > 127).sum() / 256)
    assert min(areas) >= 0.95 and 1.7 < max(areas) < 2.2


def test_colour_changes_light_contrast_and_saturation_each_by_its_own_number():
    grey = np.full((1, 8, 8, 3), 100, np.uint8)
    assert colour(grey, np.array([[1.0, 0.5, 0.5]])).mean() == pytest.approx(130, abs=1)
    assert colour(grey, np.array([[0.5, 1.0, 0.0]])).mean() == pytest.approx(100, abs=1)
    split = grey.copy()
    split[:, :4] = 50
    changed = colour(split, np.array([[0.5, 1.0, 0.5]]))[0, :, 0, 0].astype(float)
    assert changed[7] - changed[0] == pytest.approx(1.3 * 50, abs=2)
    red = np.zeros((1, 8, 8, 3), np.uint8)
    red[..., 0] = 120
    pale = colour(red, np.array([[0.5, 0.5, 0.0]]))[0, 0, 0].astype(int)
    assert pale[0] - pale[1] == pytest.approx(60, abs=2)
    one = colour(IMAGES, np.full((50, 3), 0.5))
    assert np.abs(one.astype(int) - IMAGES).max() <= 1
