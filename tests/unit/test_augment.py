import numpy as np
import pytest

from fashion_cnn.data.augment import (
    AUGMENTATIONS,
    augment,
    color,
    erase,
    flip,
    noise_columns,
    shift,
    shift1,
    zoom,
)
from fashion_cnn.data.photo_augment import UNCHANGED_PROBABILITY, photo
from fashion_cnn.data.random_augment import (
    CHANGES,
    MAX_ANGLE,
    MAX_CONTRAST,
    MAX_SHEAR,
    random_augment,
)

MAX_SHIFT = 2

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 28, 28, 1), dtype=np.uint8)


def test_flip_mirrors_only_the_selected_images():
    noise = np.array([[0.2], [0.8]])
    flipped = flip(IMAGES[:2], noise)
    np.testing.assert_array_equal(flipped[0], IMAGES[0, :, ::-1])
    np.testing.assert_array_equal(flipped[1], IMAGES[1])


@pytest.mark.parametrize("down", range(-MAX_SHIFT, MAX_SHIFT + 1))
@pytest.mark.parametrize("right", range(-MAX_SHIFT, MAX_SHIFT + 1))
def test_shift_moves_and_fills_with_black(down, right):
    offsets = np.array([[MAX_SHIFT - down, MAX_SHIFT - right]])
    shifted = shift(IMAGES[:1], (offsets + 0.5) / (2 * MAX_SHIFT + 1))
    padded = np.zeros((28 + 2 * MAX_SHIFT, 28 + 2 * MAX_SHIFT), np.uint8)
    top, left = MAX_SHIFT + down, MAX_SHIFT + right
    padded[top : top + 28, left : left + 28] = IMAGES[0, ..., 0]
    expected = padded[MAX_SHIFT:-MAX_SHIFT, MAX_SHIFT:-MAX_SHIFT]
    np.testing.assert_array_equal(shifted[0, ..., 0], expected)


def test_shift1_shifts_by_at_most_one_pixel():
    noise = np.random.default_rng(2).random((50, 2))
    shifted = shift1(IMAGES, noise)
    for image, result, (down, right) in zip(
        IMAGES, shifted, 1 - (3 * noise).astype(int), strict=True
    ):
        rolled = np.roll(image, (down, right), (0, 1))
        np.testing.assert_array_equal(result[2:-2, 2:-2], rolled[2:-2, 2:-2])


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
def test_jax_gives_the_same_images(name):
    jnp = pytest.importorskip("jax.numpy")
    noise = np.random.default_rng(4).random((50, noise_columns([name])), np.float32)
    expected = augment(IMAGES, noise, [name])
    result = augment(jnp.asarray(IMAGES), noise, [name], jnp)
    assert (np.asarray(result) != expected).mean() < 1e-3  # rounding at edges
    assert result.dtype == np.uint8 and (expected != IMAGES).any()


def test_each_augmentation_reads_its_own_noise_columns_and_keeps_shape_and_dtype():
    names = ("flip", "shift")
    noise = np.random.default_rng(1).random((50, noise_columns(names)))
    both = augment(IMAGES, noise, names)
    np.testing.assert_array_equal(both, shift(flip(IMAGES, noise[:, :1]), noise[:, 1:]))
    assert both.shape == IMAGES.shape
    assert both.dtype == np.uint8


def test_no_augmentation_returns_the_images_unchanged():
    assert augment(IMAGES, np.zeros((50, 0)), ()) is IMAGES


def garments():
    """The kinds of garments that `photo` distinguishes: with sleeves, narrow, and flat."""
    images = np.zeros((3, 28, 28, 1), np.uint8)
    images[0, 2:26, 3:25] = images[1, :, 9:19] = images[2, 9:19, :] = 180
    return images


@pytest.mark.parametrize("kind", range(3))
def test_photo_fills_the_image_and_varies(kind):
    images = np.repeat(garments()[kind : kind + 1], 400, 0)
    noise = np.random.default_rng(kind).random((400, noise_columns(["photo"])), np.float32)
    noise[:, 0] = 0.99
    augmented = photo(images, noise)
    assert (augmented.shape, augmented.dtype) == (images.shape, np.uint8)
    visible = augmented[..., 0] > 8
    longest = np.maximum(visible.any(1).sum(1), visible.any(2).sum(1))
    assert np.median(longest) >= 26  # as data/photo.py crops
    assert (visible.mean((1, 2)) > 0.03).mean() > 0.95
    assert len(np.unique(augmented.reshape(400, -1), axis=0)) > 390


def test_photo_leaves_half_of_the_images_unchanged():
    images = np.random.default_rng(0).integers(0, 256, (2000, 28, 28, 1), dtype=np.uint8)
    noise = np.random.default_rng(1).random((2000, noise_columns(["photo"])), np.float32)
    same = (photo(images, noise) == images).all((1, 2, 3))
    np.testing.assert_array_equal(same, noise[:, 0] < UNCHANGED_PROBABILITY)


def test_photo_of_each_image_depends_on_its_own_noise_only():
    images = np.repeat(garments(), 4, 0)
    noise = np.random.default_rng(2).random((12, noise_columns(["photo"])), np.float32)
    batch = photo(images, noise)
    for k in range(12):
        np.testing.assert_array_equal(photo(images[k : k + 1], noise[k : k + 1])[0], batch[k])
    black = photo(np.zeros_like(images), noise)  # images without a garment do not fail
    assert black.shape == images.shape


def test_zoom_resizes_a_crop_between_half_and_all_of_the_image():
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (3, 40, 30, 3), dtype=np.uint8)
    full = np.array([[1.0, 0.5, 0.3, 0.9]] * 3)  # all of the area, with the image's own ratio
    np.testing.assert_array_equal(zoom(images, full), images)
    down, right = np.mgrid[:200, :100]
    gradients = np.stack([down, 2 * right, 0 * down], 2).astype(np.uint8)[np.newaxis]
    half = np.sqrt(0.5)
    for row, column in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)):
        crop = zoom(gradients, np.array([[0.0, 0.5, row, column]]))[0].astype(float)
        top, left = row * (1 - half) * 200, column * (1 - half) * 100
        expected = (
            top + (np.arange(200) + 0.5) * half - 0.5,
            left + (np.arange(100) + 0.5) * half - 0.5,
        )
        np.testing.assert_allclose(crop[:, 50, 0], np.clip(expected[0], 0, None), atol=1.5)
        np.testing.assert_allclose(crop[100, :, 1], 2 * np.clip(expected[1], 0, None), atol=2.5)
    areas = []
    for _ in range(200):  # a square of a sixteenth of the area grows by up to a factor of two
        square = np.zeros((1, 64, 64, 1), np.uint8)
        square[:, 24:40, 24:40] = 255
        areas.append((zoom(square, rng.random((1, 4))) > 127).sum() / 256)
    assert min(areas) >= 0.95 and 1.7 < max(areas) < 2.2


def test_color_changes_brightness_contrast_and_saturation_independently():
    gray = np.full((1, 8, 8, 3), 100, np.uint8)
    assert color(gray, np.array([[1.0, 0.5, 0.5]])).mean() == pytest.approx(130, abs=1)
    assert color(gray, np.array([[0.5, 1.0, 0.0]])).mean() == pytest.approx(100, abs=1)
    edge = gray.copy()
    edge[:, :4] = 50
    changed = color(edge, np.array([[0.5, 1.0, 0.5]]))[0, :, 0, 0].astype(float)
    assert changed[7] - changed[0] == pytest.approx(1.3 * 50, abs=2)
    red = np.zeros((1, 8, 8, 3), np.uint8)
    red[..., 0] = 120
    pale = color(red, np.array([[0.5, 0.5, 0.0]]))[0, 0, 0].astype(int)
    assert pale[0] - pale[1] == pytest.approx(60, abs=2)
    one_channel = color(IMAGES, np.full((50, 3), 0.5))
    assert np.abs(one_channel.astype(int) - IMAGES).max() <= 1


def random_noise(change, strength):
    """Random numbers of `random` for one change of a strength (-1..1), and another of none."""
    noise = np.full((1, noise_columns(["random"])), 0.5, np.float32)
    noise[:, 0] = (CHANGES.index(change) + 0.5) / len(CHANGES)
    noise[:, 2] = 0.5 + strength / 2
    return noise


@pytest.mark.parametrize("change", CHANGES)
def test_random_augment_changes_nothing_at_strength_zero(change):
    np.testing.assert_array_equal(random_augment(IMAGES[:1], random_noise(change, 0)), IMAGES[:1])


def test_random_augment_shifts_and_fills_with_black():
    shifted = random_augment(IMAGES[:1], random_noise("shift", 1))[0]
    np.testing.assert_array_equal(shifted[:, 3:], IMAGES[0, :, :-3])
    assert (shifted[:, :3] == 0).all()


def test_random_augment_rotates_and_shears_about_the_center():
    bar = np.zeros((1, 29, 29, 1), np.uint8)
    bar[0, :, 14] = 200
    for change, slope in (("rotate", np.tan(MAX_ANGLE)), ("shear", MAX_SHEAR)):
        result = random_augment(bar, random_noise(change, 1))[0, ..., 0].astype(float)
        centers = (result * np.arange(29)).sum(1) / np.maximum(result.sum(1), 1)
        assert centers[14] == pytest.approx(14, abs=0.01)
        assert abs(centers[22] - centers[6]) == pytest.approx(16 * slope, rel=0.05)


def test_random_augment_changes_contrast_and_erases():
    gray = np.full((1, 28, 28, 1), 60, np.uint8)
    bright = random_augment(gray, random_noise("contrast", 1))
    assert (bright == round(60 * np.exp(MAX_CONTRAST))).all()
    erased = random_augment(gray, random_noise("erase", 1))[0, ..., 0] == 128
    rows, columns = np.flatnonzero(erased.any(1)), np.flatnonzero(erased.any(0))
    assert erased.sum() == len(rows) * len(columns)
    assert len(rows) == len(columns) == pytest.approx(0.4 * 28, abs=1.5)
    assert (rows.min(), rows.max()) == (27 - rows.max(), 27 - rows.min())


def test_random_augment_makes_two_different_changes_to_each_image_by_itself():
    images = np.full((150, 28, 28, 1), 60, np.uint8)
    noise = np.random.default_rng(5).random((150, noise_columns(["random"])), np.float32)
    changed = random_augment(images, noise)
    for k in (0, 63, 64, 149):  # at the ends of blocks
        np.testing.assert_array_equal(
            random_augment(images[k : k + 1], noise[k : k + 1])[0], changed[k]
        )
    erased = (changed[..., 0] == 128).sum((1, 2))
    assert erased.max() <= 12**2 and 0.2 < (erased > 0).mean() < 0.5
