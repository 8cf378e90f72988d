import dataclasses

import numpy as np
import pytest

from fashion_cnn import RECIPES
from fashion_cnn.data.cutmix import CUTMIX_COLUMNS, cutmix_images, cutmix_targets
from fashion_cnn.training.batches import epoch_plan

N, SHAPE = 60, (28, 28, 1)
# every image has a gray of its own, and a class of its own
IMAGES = np.broadcast_to(np.arange(N, dtype=np.uint8)[:, None, None, None], (N, *SHAPE))
TARGETS = np.eye(N, dtype=np.float32)
INDEX, ORDER = np.arange(0, N, 2), np.random.default_rng(1).permutation(np.arange(5, N))
NOISE = np.random.default_rng(0).random((len(INDEX), CUTMIX_COLUMNS), np.float32)


def test_targets_are_the_shares_of_the_pixels():
    images = cutmix_images(IMAGES, INDEX, ORDER, NOISE, 0.7)
    targets = cutmix_targets(TARGETS, INDEX, ORDER, NOISE, 0.7, SHAPE)
    shares = [np.bincount(image.ravel(), minlength=N) / image.size for image in images]
    np.testing.assert_allclose(targets, shares, atol=1e-6)
    is_mixed = targets.max(1) < 1
    assert 0.4 < is_mixed.mean() < 0.9 and not is_mixed[NOISE[:, 0] >= 0.7].any()
    assert targets[:, [x for x in range(5) if x not in INDEX]].sum() == 0  # not in the order
    assert (images.dtype, targets.dtype) == (np.uint8, np.float32)


def test_the_other_image_fills_a_rectangle():
    (image,) = cutmix_images(IMAGES, INDEX[:1], ORDER, np.full((1, 5), 0.25, np.float32), 1.0)
    rows, columns = np.nonzero(image[..., 0] != INDEX[0])
    assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1) == 14 * 14
    assert (rows.min(), columns.min()) == (3, 3)  # a quarter of the 15 places


def test_nothing_is_mixed_with_probability_zero():
    images = cutmix_images(IMAGES, INDEX, ORDER, NOISE, 0.0)
    np.testing.assert_array_equal(images, IMAGES[INDEX])


@pytest.mark.slow
def test_jax_mixes_the_same():
    jnp = pytest.importorskip("jax.numpy")
    arrays = [jnp.asarray(x) for x in (IMAGES, INDEX, ORDER, NOISE)]
    expected = cutmix_images(IMAGES, INDEX, ORDER, NOISE, 0.7)
    np.testing.assert_array_equal(cutmix_images(*arrays, 0.7, jnp), expected)
    targets = cutmix_targets(jnp.asarray(TARGETS), *arrays[1:], 0.7, SHAPE, jnp)
    expected = cutmix_targets(TARGETS, INDEX, ORDER, NOISE, 0.7, SHAPE)
    np.testing.assert_allclose(targets, expected, atol=1e-6)


def test_alternate_flip_mirrors_each_image_in_every_other_epoch():
    recipe = dataclasses.replace(RECIPES["sprint"], augment=("shift", "alternate_flip"))
    columns = [epoch_plan(recipe, epoch, np.arange(N), np.zeros(N))[1][:, 2] for epoch in range(4)]
    mirrored = np.array(columns) < 0.5
    np.testing.assert_array_equal(mirrored[0], ~mirrored[1])
    np.testing.assert_array_equal(mirrored[:2], mirrored[2:])
    assert 0.3 < mirrored[0].mean() < 0.7
    other = dataclasses.replace(recipe, seed=1)
    assert (epoch_plan(other, 0, np.arange(N), np.zeros(N))[1][:, 2] != columns[0]).any()
