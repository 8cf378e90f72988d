"""Drawn garments on their way to 28x28."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fashion_cnn.data import photo
from fashion_cnn.data.photo import main_part, prepare_photo, shrink, to_lab
from fashion_cnn.data.pictures import read_rgba

SHIRT = [(60, 40), (90, 40), (105, 52), (120, 40), (150, 40), (190, 80), (170, 105), (150, 88)]
SHIRT += [(150, 220), (60, 220), (60, 88), (40, 105), (20, 80)]


def draw(cloth, ground, mode="RGB", noise=6):
    """A shirt of one colour on another, with a little noise as of a camera; and where it is."""
    image, mask = Image.new("RGB", (210, 260), ground), Image.new("1", (210, 260))
    ImageDraw.Draw(image).polygon(SHIRT, cloth)
    ImageDraw.Draw(mask).polygon(SHIRT, 1)
    grain = np.random.default_rng(0).normal(0, noise, (260, 210, 3))
    pixels = np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode), np.asarray(mask)


def agreement(prepared, mask):
    small = shrink(mask.astype(float), prepared.mask.shape) > 0.5
    return (prepared.mask & small).sum() / (prepared.mask | small).sum()


def through(image, form="PNG", **how):
    file = io.BytesIO()
    image.save(file, form, **how)
    return read_rgba(io.BytesIO(file.getvalue()))


COLOURS = {
    "dark on light": ("#202028", "#e8e4dc"),
    "light on dark": ("#f0f0e8", "#303030"),
    "coloured background": ("#dddddd", "#b01030"),
    "red on green": ("#c02020", "#207030"),
    "of one brightness": ("#806060", "#507080"),
}


@pytest.mark.parametrize("colours", COLOURS.values(), ids=COLOURS)
def test_a_garment_is_found(colours):
    image, mask = draw(*colours)
    prepared = prepare_photo(read_rgba(image))
    assert agreement(prepared, mask) > 0.9
    assert prepared.note == ""
    pixels = prepared.pixels
    assert (pixels.shape, pixels.dtype) == ((28, 28, 1), np.uint8)
    assert (pixels[:, 0] == 0).all() and (pixels[:, -1] == 0).all()  # taller than wide
    assert pixels[0].any() and pixels[-1].any()  # the longest edge fills the picture
    assert pixels[14, 14, 0] >= 255 * photo.DARKEST * 0.9


def test_darker_cloth_is_lighter_to_the_network():
    dark, _ = draw("#101010", "#b01030")
    light, _ = draw("#f4f4f4", "#b01030")
    middle = [prepare_photo(read_rgba(image)).pixels[14, 14, 0] for image in (dark, light)]
    assert middle[0] > 220 and 70 < middle[1] < 100


def test_transparency_tells_where_the_garment_is():
    image, mask = draw("#808080", "#808080", noise=0)
    image.putalpha(Image.fromarray(mask).convert("L"))
    prepared = prepare_photo(through(image))
    assert agreement(prepared, mask) > 0.97 and prepared.note == ""
    assert prepared.pixels[0, 0, 0] == 0 and prepared.pixels[14, 14, 0] > 100


def test_a_photo_is_turned_as_the_camera_was():
    image, mask = draw("#202028", "#e8e4dc")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = prepare_photo(through(image.rotate(90, expand=True), "JPEG", exif=exif, quality=95))
    assert agreement(turned, mask) > 0.9


@pytest.mark.parametrize("form, mode", [("JPEG", "CMYK"), ("GIF", "P"), ("WEBP", "RGB")])
def test_other_kinds_of_files(form, mode):
    image, mask = draw("#202028", "#e8e4dc", mode)
    assert agreement(prepare_photo(through(image, form)), mask) > 0.9


def test_sixteen_bits_and_the_first_of_many_frames():
    image, mask = draw("#202020", "#e0e0e0", "L")
    deep = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    assert agreement(prepare_photo(through(deep)), mask) > 0.9
    blank = Image.new("L", image.size)
    moving = through(image, "GIF", save_all=True, append_images=[blank, blank])
    assert agreement(prepare_photo(moving), mask) > 0.9


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 3), (28, 1), (200, 200)])
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 30, 90)])
def test_pictures_without_a_garment_are_answered_with_a_note(size, colour):
    prepared = prepare_photo(read_rgba(Image.new("RGB", size, colour)))
    assert (prepared.pixels.shape, prepared.pixels.dtype) == ((28, 28, 1), np.uint8)
    assert "try a " in prepared.note


def test_a_pale_garment_is_pointed_out():
    image, _ = draw("#e4e2de", "#e8e4dc")
    assert "try a " in prepare_photo(read_rgba(image)).note


def test_pictures_like_fashion_mnist_are_left_alone():
    small = np.zeros((28, 28), np.uint8)
    small[3:25, 6:20] = np.random.default_rng(0).integers(60, 255, (22, 14))
    for large in (small, np.kron(small, np.ones((10, 10), np.uint8))):
        prepared = prepare_photo(read_rgba(Image.fromarray(large)))
        assert prepared.mask is None and prepared.note == ""
        np.testing.assert_array_equal(prepared.pixels[..., 0], small)


@pytest.mark.slow
def test_a_large_photo_is_made_smaller_in_the_reading():
    image, mask = draw("#202028", "#e8e4dc")
    large = image.resize((2100, 2600))
    for form in ("JPEG", "PNG"):
        file = io.BytesIO()
        large.save(file, form)
        pixels = read_rgba(io.BytesIO(file.getvalue()), 448)
        assert 448 <= max(pixels.shape) < 900
        assert agreement(prepare_photo(pixels), mask) > 0.9


def test_shrinking_keeps_means():
    values = np.random.default_rng(0).random((37, 53, 3))
    small = shrink(values, (7, 11))
    np.testing.assert_allclose(small.mean((0, 1)), values.mean((0, 1)))
    np.testing.assert_allclose(shrink(values, (37, 53)), values)
    np.testing.assert_allclose(shrink(np.arange(6.0)[:, None], (3, 1))[:, 0], [0.5, 2.5, 4.5])


def test_lab_of_known_colours():
    """Red and mid grey, from the CIE's own formulas (rounded, as published for sRGB)."""
    found = to_lab(np.array([[255, 0, 0], [119, 119, 119], [255, 255, 255]]))
    expected = [[53.24, 80.09, 67.2], [50.03, 0, 0], [100, 0, 0]]
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_the_main_part_has_no_specks_and_no_small_holes():
    likely = np.zeros((60, 60))
    likely[15:45, 15:45] = 1
    likely[30, 30] = 0
    likely[2, 2] = 1
    expected = np.zeros((60, 60), bool)
    expected[15:45, 15:45] = True
    np.testing.assert_array_equal(main_part(likely), expected)
    pair = np.zeros((60, 60))
    pair[10:50, 10:25] = pair[10:50, 35:50] = 1  # a pair of shoes
    assert main_part(pair).sum() == pair.sum()


def test_parts_hang_together_however_they_wind():
    rows = ("#####", "....#", "###.#", "#...#", "#####")
    spiral = np.array([[place == "#" for place in row] for row in rows])
    assert len(np.unique(photo._parts(spiral)[spiral])) == 1
    checks = np.indices((6, 6)).sum(0) % 2 == 0
    assert len(np.unique(photo._parts(checks)[checks])) == checks.sum()
