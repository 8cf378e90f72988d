"""Color conversion and connected components of the segmentation."""

import numpy as np

from fashion_cnn.data.segmentation import label_components, main_components, to_lab


def test_lab_of_known_colors():
    """Red, mid gray and white, as published for sRGB (rounded)."""
    lab = to_lab(np.array([[255, 0, 0], [119, 119, 119], [255, 255, 255]]))
    expected = [[53.24, 80.09, 67.2], [50.03, 0, 0], [100, 0, 0]]
    np.testing.assert_allclose(lab, expected, atol=0.05)


def test_specks_are_removed_and_small_holes_are_filled():
    probability = np.zeros((60, 60))
    probability[15:45, 15:45] = 1
    probability[30, 30] = 0
    probability[2, 2] = 1
    expected = np.zeros((60, 60), bool)
    expected[15:45, 15:45] = True
    mask, pieces = main_components(probability)
    np.testing.assert_array_equal(mask, expected)
    assert pieces == 1  # a speck of one pixel is none
    pair = np.zeros((60, 60))
    pair[10:50, 10:25] = pair[10:50, 35:50] = 1  # a pair of shoes
    mask, pieces = main_components(pair)
    assert (mask.sum(), pieces) == (pair.sum(), 2)


def test_winding_components_get_one_label():
    rows = ("#####", "....#", "###.#", "#...#", "#####")
    spiral = np.array([[cell == "#" for cell in row] for row in rows])
    assert len(np.unique(label_components(spiral)[spiral])) == 1
    checkerboard = np.indices((6, 6)).sum(0) % 2 == 0
    assert len(np.unique(label_components(checkerboard)[checkerboard])) == checkerboard.sum()
