import numpy as np
import pytest

from fashion_cnn.evaluation.robustness import CORRUPTIONS, corrupt, robustness

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 28, 28, 1), dtype=np.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_corruptions_are_deterministic_and_increase_with_the_level(name, channels):
    images = np.zeros((6, 28, 28, channels), np.uint8)
    images[:, 6:22, 9:19] = 180
    images[:, 10:14, 9:13] = 220
    original, changes = images.copy(), []
    for level in CORRUPTIONS[name][1]:
        corrupted = corrupt(images, name, level)
        assert (corrupted.shape, corrupted.dtype) == (images.shape, np.uint8)
        np.testing.assert_array_equal(corrupted, corrupt(images, name, level))
        changes.append(np.abs(corrupted.astype(int) - images).mean())
    assert 0 < changes[0] <= changes[1] <= changes[2]
    np.testing.assert_array_equal(images, original)


def test_corruptions_by_hand():
    np.testing.assert_array_equal(corrupt(IMAGES, "inverted tones", 0), 255 - IMAGES)
    np.testing.assert_array_equal(corrupt(IMAGES, "contrast", 1), IMAGES)
    lighter = np.minimum(IMAGES.astype(int) + 51, 255)
    np.testing.assert_array_equal(corrupt(IMAGES, "brightness", 0.2), lighter)
    assert (corrupt(IMAGES, "occlusion", 0.5) == 128).sum() >= 6 * 14 * 14
    rotated = corrupt(IMAGES, "rotation", 90)
    np.testing.assert_array_equal(rotated[0], np.rot90(IMAGES[0]))
    np.testing.assert_array_equal(rotated[1], np.rot90(IMAGES[1], -1))


def test_accuracy_is_that_of_corrupted_images():
    labels = np.array([0, 0, 0, 1, 1, 1])
    images = np.zeros((6, 28, 28), np.uint8)
    images[labels == 1] = 250

    def predict(images):  # dark is class 0, light is class 1
        light = images.reshape(len(images), -1).mean(1) > 128
        return np.eye(2)[light.astype(int)]

    steps = []
    metrics = robustness(predict, images, labels, steps.append)
    assert steps == list(CORRUPTIONS) == list(metrics["corruptions"])
    assert (metrics["examples"], metrics["accuracy"]) == (6, 1.0)
    assert metrics["corruptions"]["occlusion"]["accuracy"] == [1, 1, 1]
    assert metrics["corruptions"]["inverted tones"]["accuracy"][-1] == 0
