import numpy as np

from fashion_cnn.data.duplicates import near_duplicates


def test_near_pairs_are_returned_nearest_first():
    rng = np.random.default_rng(0)
    others = rng.integers(0, 256, (900, 28, 28), dtype=np.uint8)
    images = rng.integers(0, 256, (600, 28, 28), dtype=np.uint8)
    images[7] = others[3]
    images[550] = np.clip(others[880].astype(int) + 5, 0, 255)
    first, second, distance = near_duplicates(images, others)
    assert (first.tolist(), second.tolist()) == ([7, 550], [3, 880])
    assert distance[0] == 0 and 4 < distance[1] <= 5


def test_large_color_images_are_compared_at_low_resolution():
    rng = np.random.default_rng(0)
    rough = rng.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    others = rough.repeat(12, axis=1).repeat(12, axis=2)
    images = others[::-1].copy()
    images[2, :2] ^= 1  # hardly visible
    first, second, distance = near_duplicates(images, others)
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == [
        (0, 4), (1, 3), (2, 2), (3, 1), (4, 0),
    ]  # fmt: skip
    assert distance.max() < 2
