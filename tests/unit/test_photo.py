"""Drawings of garments, converted to the format of Fashion-MNIST."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fashion_cnn.data import photo
from fashion_cnn.data.photo import prepare_photo, shrink
from fashion_cnn.data.pictures import read_rgba

SHIRT = [(60, 40), (90, 40), (105, 52), (120, 40), (150, 40), (190, 80), (170, 105), (150, 88)]
SHIRT += [(150, 220), (60, 220), (60, 88), (40, 105), (20, 80)]


def draw(foreground, background, mode="RGB", noise=6):
    """A plain shirt on a plain background with a little camera noise, and its mask."""
    image, mask = Image.new("RGB", (210, 260), background), Image.new("1", (210, 260))
    ImageDraw.Draw(image).polygon(SHIRT, foreground)
    ImageDraw.Draw(mask).polygon(SHIRT, 1)
    grain = np.random.default_rng(0).normal(0, noise, (260, 210, 3))
    pixels = np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode), np.asarray(mask)


def intersection_over_union(prepared, mask):
    small = shrink(mask.astype(float), prepared.mask.shape) > 0.5
    return (prepared.mask & small).sum() / (prepared.mask | small).sum()


def save_and_read(image, format="PNG", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return read_rgba(io.BytesIO(file.getvalue()))


COLORS = {
    "dark on light": ("#202028", "#e8e4dc"),
    "light on dark": ("#f0f0e8", "#303030"),
    "colored background": ("#dddddd", "#b01030"),
    "red on green": ("#c02020", "#207030"),
    "equal brightness": ("#806060", "#507080"),
}


@pytest.mark.parametrize("colors", COLORS.values(), ids=COLORS)
def test_a_garment_is_segmented(colors):
    image, mask = draw(*colors)
    prepared = prepare_photo(read_rgba(image))
    assert intersection_over_union(prepared, mask) > 0.9
    assert prepared.note == ""
    pixels = prepared.pixels
    assert (pixels.shape, pixels.dtype) == ((28, 28, 1), np.uint8)
    assert (pixels[:, 0] == 0).all() and (pixels[:, -1] == 0).all()  # taller than wide
    assert pixels[0].any() and pixels[-1].any()  # the longest edge fills the image
    assert pixels[14, 14, 0] >= 255 * photo.MIN_BRIGHTNESS * 0.9


def test_dark_garments_become_brighter_than_light_ones():
    dark, _ = draw("#101010", "#b01030")
    light, _ = draw("#f4f4f4", "#b01030")
    center = [prepare_photo(read_rgba(image)).pixels[14, 14, 0] for image in (dark, light)]
    assert center[0] > 220 and 70 < center[1] < 100


def test_transparency_is_used_as_segmentation():
    image, mask = draw("#808080", "#808080", noise=0)
    image.putalpha(Image.fromarray(mask).convert("L"))
    prepared = prepare_photo(save_and_read(image))
    assert intersection_over_union(prepared, mask) > 0.97 and prepared.note == ""
    assert prepared.pixels[0, 0, 0] == 0 and prepared.pixels[14, 14, 0] > 100


def test_exif_orientation_of_a_photo_is_applied():
    image, mask = draw("#202028", "#e8e4dc")
    exif = Image.Exif()
    exif[0x0112] = 6
    prepared = prepare_photo(
        save_and_read(image.rotate(90, expand=True), "JPEG", exif=exif, quality=95)
    )
    assert intersection_over_union(prepared, mask) > 0.9


@pytest.mark.parametrize("format, mode", [("JPEG", "CMYK"), ("GIF", "P"), ("WEBP", "RGB")])
def test_other_file_formats_and_modes(format, mode):
    image, mask = draw("#202028", "#e8e4dc", mode)
    assert intersection_over_union(prepare_photo(save_and_read(image, format)), mask) > 0.9


def test_sixteen_bits_and_the_first_frame_of_an_animation():
    image, mask = draw("#202020", "#e0e0e0", "L")
    sixteen_bits = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    assert intersection_over_union(prepare_photo(save_and_read(sixteen_bits)), mask) > 0.9
    blank = Image.new("L", image.size)
    animation = save_and_read(image, "GIF", save_all=True, append_images=[blank, blank])
    assert intersection_over_union(prepare_photo(animation), mask) > 0.9


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 5000), (5000, 1), (3, 3), (28, 1), (200, 200), (28, 28)]
)
@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (200, 30, 90)])
def test_pictures_without_a_garment_get_a_note(size, color):
    prepared = prepare_photo(read_rgba(Image.new("RGB", size, color)))
    assert (prepared.pixels.shape, prepared.pixels.dtype) == ((28, 28, 1), np.uint8)
    assert "try a " in prepared.note


def test_a_garment_like_its_background_gets_a_note():
    image, _ = draw("#e4e2de", "#e8e4dc")
    assert "try a " in prepare_photo(read_rgba(image)).note


@pytest.mark.parametrize("count", [2, 5, 6, 9])
def test_a_garment_in_many_pieces_gets_a_note(count):
    image = Image.new("RGB", (270, 270), "#e8e4dc")
    for k in range(count):
        y, x = divmod(k, 3)
        box = (20 + 80 * x, 20 + 80 * y, 80 + 80 * x, 80 + 80 * y)
        ImageDraw.Draw(image).rectangle(box, "#202028")
    note = f"the cut-out is in {count} pieces; try a plain background of another color"
    assert prepare_photo(read_rgba(image)).note == (note if count > 5 else "")


def test_pictures_like_fashion_mnist_are_only_shrunk():
    small = np.zeros((28, 28), np.uint8)
    small[3:25, 6:20] = np.random.default_rng(0).integers(60, 255, (22, 14))
    for large in (small, np.kron(small, np.ones((10, 10), np.uint8))):
        prepared = prepare_photo(read_rgba(Image.fromarray(large)))
        assert prepared.mask is None and prepared.note == ""
        np.testing.assert_array_equal(prepared.pixels[..., 0], small)


def test_a_photo_of_28x28_on_a_light_ground_is_segmented():
    image, mask = draw("#202028", "#e8e4dc")
    prepared = prepare_photo(read_rgba(image.resize((28, 28))))
    assert intersection_over_union(prepared, mask) > 0.7
    assert prepared.pixels[0, 0, 0] == 0 and prepared.pixels[14, 14, 0] > 200


def test_a_black_garment_of_28x28_on_a_transparent_ground_is_seen():
    image, mask = draw("black", "black", noise=0)
    image.putalpha(Image.fromarray(mask).convert("L"))
    assert prepare_photo(read_rgba(image.resize((28, 28)))).pixels[14, 14, 0] > 200


@pytest.mark.slow
def test_a_large_photo_is_reduced_while_reading():
    image, mask = draw("#202028", "#e8e4dc")
    large = image.resize((2100, 2600))
    for format in ("JPEG", "PNG"):
        file = io.BytesIO()
        large.save(file, format)
        pixels = read_rgba(io.BytesIO(file.getvalue()), 448)
        assert 448 <= max(pixels.shape) < 900
        assert intersection_over_union(prepare_photo(pixels), mask) > 0.9


def test_shrink_averages_areas():
    values = np.random.default_rng(0).random((37, 53, 3))
    small = shrink(values, (7, 11))
    np.testing.assert_allclose(small.mean((0, 1)), values.mean((0, 1)))
    np.testing.assert_allclose(shrink(values, (37, 53)), values)
    np.testing.assert_allclose(shrink(np.arange(6.0)[:, None], (3, 1))[:, 0], [0.5, 2.5, 4.5])
