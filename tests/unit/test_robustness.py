import numpy as np
import pytest

from fashion_cnn.evaluation.robustness import CORRUPTIONS, corrupt, robustness

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 28, 28, 1), dtype=np.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_corruptions_keep_shape_and_seed_and_grow(name, channels):
    images = np.zeros((6, 28, 28, channels), np.uint8)
    images[:, 6:22, 9:19] = 180
    images[:, 10:14, 9:13] = 220
    before, changes = images.copy(), []
    for level in CORRUPTIONS[name][1]:
        changed = corrupt(images, name, level)
        assert (changed.shape, changed.dtype) == (images.shape, np.uint8)
        np.testing.assert_array_equal(changed, corrupt(images, name, level))
        changes.append(np.abs(changed.astype(int) - images).mean())
    assert 0 < changes[0] <= changes[1] <= changes[2]
    np.testing.assert_array_equal(images, before)


def test_known_pixels():
    np.testing.assert_array_equal(corrupt(IMAGES, "inverted tones", 0), 255 - IMAGES)
    np.testing.assert_array_equal(corrupt(IMAGES, "contrast", 1), IMAGES)
    lighter = np.minimum(IMAGES.astype(int) + 51, 255)
    np.testing.assert_array_equal(corrupt(IMAGES, "brightness", 0.2), lighter)
    assert (corrupt(IMAGES, "occlusion", 0.5) == 128).sum() >= 6 * 14 * 14
    turned = corrupt(IMAGES, "rotation", 90)
    np.testing.assert_array_equal(turned[0], np.rot90(IMAGES[0]))
    np.testing.assert_array_equal(turned[1], np.rot90(IMAGES[1], -1))


def test_accuracy_is_of_the_corrupted_images():
    labels = np.array([0, 0, 0, 1, 1, 1])
    images = np.zeros((6, 28, 28), np.uint8)
    images[labels == 1] = 250

    def predict(images):  # dark is 0, light is 1
        light = images.reshape(len(images), -1).mean(1) > 128
        return np.eye(2)[light.astype(int)]

    said = []
    found = robustness(predict, images, labels, said.append)
    assert said == list(CORRUPTIONS) == list(found["corruptions"])
    assert (found["examples"], found["accuracy"]) == (6, 1.0)
    assert found["corruptions"]["occlusion"]["accuracy"] == [1, 1, 1]
    assert found["corruptions"]["inverted tones"]["accuracy"][-1] == 0
