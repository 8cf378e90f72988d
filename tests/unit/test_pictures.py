import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from display_p3 import display_p3
from PIL import Image

from fashion_cnn.data import picture_limits, pictures
from fashion_cnn.data.pictures import (
    find_pictures,
    fit_picture,
    measure_picture,
    picture_cost,
    read_on_white,
    read_picture,
    read_rgba,
)


def test_an_image_file_is_read_as_gray(tmp_path):
    Image.new("RGB", (28, 28), (255, 0, 0)).save(tmp_path / "red.png")
    image = read_picture(tmp_path / "red.png", (28, 28))
    assert (image.shape, image.dtype, image[0, 0, 0]) == ((28, 28, 1), np.uint8, 76)


def test_transparent_pixels_are_black_and_16_bits_are_scaled(tmp_path):
    Image.new("RGBA", (28, 28), (255, 255, 255, 0)).save(tmp_path / "clear.png")
    Image.fromarray(np.full((28, 28), 0x8000, np.uint16)).save(tmp_path / "deep.png")
    assert read_picture(tmp_path / "clear.png", (28, 28)).max() == 0
    assert read_picture(tmp_path / "deep.png", (28, 28), 3)[3, 5].tolist() == [128] * 3


def test_invalid_and_wrongly_sized_files_are_refused(tmp_path):
    Image.new("L", (30, 20)).save(tmp_path / "wide.png")
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(ValueError, match=r"wide\.png: 30x20 pixels; expected 28x28"):
        read_picture(tmp_path / "wide.png", (28, 28))
    with pytest.raises(ValueError, match=r"text\.png: not a picture"):
        read_picture(tmp_path / "text.png", (28, 28))
    noise = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "half.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "half.png").read_bytes()[:300])
    with pytest.raises(ValueError, match=r"half\.png: "):
        read_picture(tmp_path / "half.png", (28, 28))
    with pytest.raises(FileNotFoundError, match=r"none\.png: no such file"):
        read_picture(tmp_path / "none.png", (28, 28))


def test_heic_is_read_if_its_extra_is_installed(tmp_path, monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    image = Image.new("RGB", (64, 48), (200, 30, 30))
    heif.from_pillow(image).save(tmp_path / "photo.heic")
    (tmp_path / "renamed.jpg").write_bytes((tmp_path / "photo.heic").read_bytes())
    for picture in (tmp_path / "photo.heic", tmp_path / "renamed.jpg", open_bytes(tmp_path)):
        pixels = fit_picture(picture, (32, 32))
        assert (pixels.shape, pixels.dtype) == ((32, 32, 3), np.uint8)
        np.testing.assert_allclose(pixels[16, 16], (200, 30, 30), atol=8)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ValueError, match=r"photo\.heic: HEIC is read with .*fashion-cnn\[heic\]"):
        read_rgba(tmp_path / "photo.heic")


def open_bytes(folder):
    return io.BytesIO((folder / "photo.heic").read_bytes())


def test_fit_picture_resizes_without_cropping_on_white(tmp_path):
    wide = Image.new("RGBA", (200, 50), (0, 0, 0, 0))
    wide.paste((10, 20, 30, 255), (0, 0, 100, 50))
    pixels = fit_picture(wide, (20, 40))
    assert pixels[10, 5].tolist() == [10, 20, 30]
    assert pixels[10, 35].tolist() == [255] * 3
    assert fit_picture(wide, (20, 40), 1).shape == (20, 40, 1)
    with pytest.raises(ValueError, match="got int; expected a path"):
        fit_picture(5, (20, 40))


def test_arrays_files_and_pillow_images_give_the_same_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "a.png")
    file = io.BytesIO((tmp_path / "a.png").read_bytes())
    pictures_of_all_kinds = (
        pixels,
        pixels[..., None],
        image,
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        file,
    )
    for picture in pictures_of_all_kinds:
        np.testing.assert_array_equal(read_picture(picture, (28, 28))[..., 0], pixels)


def test_exif_orientation_is_applied(tmp_path):
    pixels = np.zeros((28, 28), np.uint8)
    pixels[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    turned = read_picture(tmp_path / "a.png", (28, 28))[..., 0]
    np.testing.assert_array_equal(turned, np.rot90(pixels, -1))


def test_colors_of_a_profile_become_srgb(tmp_path):
    from PIL import ImageCms

    color, profile = (200, 100, 50), display_p3()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for mode, alpha in (("RGB", 255), ("RGBA", 204)):
        image = Image.new(mode, (300, 200), (*color, alpha)[: len(mode)])
        image.save(tmp_path / "p3.png", icc_profile=profile)
        for options in ({}, {"min_edge": 50}):
            converted = read_rgba(tmp_path / "p3.png", **options)[0, 0]
            np.testing.assert_allclose(converted, (215, 93, 31, alpha), atol=2)
        with Image.open(tmp_path / "p3.png") as opened:
            np.testing.assert_array_equal(read_rgba(opened)[0, 0], converted)
            assert opened.getpixel((0, 0))[:3] == color
        for other in (profile[:300], b"damaged", srgb, profile.replace(b"RGB ", b"CMYK")):
            image.save(tmp_path / "other.png", icc_profile=other)
            assert tuple(read_rgba(tmp_path / "other.png")[0, 0]) == (*color, alpha)


def test_arrays_of_other_dtypes_and_shapes_are_refused():
    for wrong in (
        np.zeros((28, 28)),
        np.zeros((28, 27), np.uint8),
        np.zeros((28, 28, 3), np.uint8),
    ):
        with pytest.raises(ValueError, match="expected raw pixels, uint8"):
            read_picture(wrong, (28, 28))


def test_too_many_pixels_are_refused_before_decoding(tmp_path, monkeypatch):
    Image.new("L", (100, 100)).save(tmp_path / "large.png")
    content = (tmp_path / "large.png").read_bytes()
    (tmp_path / "large.png").write_bytes(content[:60])  # without pixel data
    monkeypatch.setattr(picture_limits, "MAX_DECODED_PIXELS", 9999)
    with pytest.raises(ValueError, match="100x100 pixels; at most 9,999"):
        read_picture(tmp_path / "large.png", (100, 100))


def jpeg(width, height, **options):
    """A black JPEG that claims this size."""
    file = io.BytesIO()
    Image.new("L", (16, 16)).save(file, "JPEG", **options)
    marker = b"\xff\xc2" if options else b"\xff\xc0"  # start of frame: length, depth, size
    before, frame = file.getvalue().split(marker, 1)
    return before + marker + frame[:3] + struct.pack(">HH", height, width) + frame[7:]


def test_baseline_jpegs_may_have_more_pixels_than_are_decoded(tmp_path, monkeypatch):
    (tmp_path / "phone.jpg").write_bytes(jpeg(14_000, 14_000))
    assert measure_picture(tmp_path / "phone.jpg") == {"size": [14_000, 14_000], "gray": True}
    with pytest.raises(ValueError, match=r"15000x14000 pixels; at most 200,000,000"):
        read_rgba(io.BytesIO(jpeg(15_000, 14_000)), 448)
    with pytest.raises(ValueError, match=r"14000x14000 pixels; at most 64,000,000$"):
        read_rgba(tmp_path / "phone.jpg")  # in full
    with pytest.raises(ValueError, match=r"14000x14000 pixels; at most 64,000,000$"):
        read_rgba(tmp_path / "phone.jpg", 448, max_pixels=64_000_000)
    with pytest.raises(ValueError, match=r"64,000,000 in a progressive JPEG, .* save it as"):
        read_rgba(io.BytesIO(jpeg(9_248, 6_936, progressive=True)), 448)
    monkeypatch.setattr(picture_limits, "MAX_DECODED_PIXELS", 9_999)
    Image.new("RGB", (200, 160), "red").save(tmp_path / "red.jpg")
    assert read_rgba(tmp_path / "red.jpg", 40)[30, 40].tolist() == [254, 0, 0, 255]


@pytest.mark.parametrize(
    "dtype, values, expected",
    [
        ("uint16", [0, 100, 255], [0, 100, 255]),
        ("uint16", [0, 2048, 4095], [0, 128, 255]),  # 12 bits
        ("uint16", [0, 2048, 2100], [0, 128, 131]),
        ("uint16", [0, 32768, 65535], [0, 128, 255]),
        ("int32", [0, 100, 255], [0, 100, 255]),
        ("int32", [-1000, 0, 1000], [0, 128, 255]),
        ("int32", [0, 1 << 20, 1 << 21], [0, 128, 255]),
        ("float32", [0, 100 / 255, 1], [0, 100, 255]),
        ("float32", [0, 100, 255], [0, 100, 255]),
        ("float32", [0, 0.01, 0.02], [0, 128, 255]),
        ("float32", [5, 5, 5], [5, 5, 5]),
        ("int32", [0, 0, 0], [0, 0, 0]),
    ],
)
def test_deep_gray_uses_the_range_that_it_has(dtype, values, expected):
    image = Image.fromarray(np.array([values], dtype))
    assert read_rgba(image)[0, :, 0].tolist() == expected
    assert read_picture(image, (1, 3))[0, :, 0].tolist() == expected


def test_infinite_pixels_are_refused():
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="picture: pixels that are not finite"):
            read_rgba(Image.fromarray(np.array([[0, value]], "float32")))


def color_png(pixels):
    """A PNG of uint16 (height, width, 3), which Pillow does not write."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + name + data
        content += struct.pack(">I", zlib.crc32(name + data))
    return io.BytesIO(content)


def test_16_bit_color_of_small_values_is_refused():
    gradient = np.arange(12, dtype=np.uint16).reshape(2, 2, 3)
    assert read_rgba(color_png(gradient * 5000))[1, 1, 2] == 55_000 >> 8
    with pytest.raises(ValueError, match=r"16-bit color below 4,096; expected 0..65,535"):
        read_rgba(color_png(gradient * 300))


def test_what_has_the_color_of_its_background_is_put_on_the_opposite_one():
    for color, background in ((255, 0), (0, 255)):
        pixels = np.full((28, 28, 4), color, np.uint8)
        pixels[..., 3] = 255 * (np.arange(28) >= 14)[:, None]
        for image in (read_on_white(pixels), read_picture(Image.fromarray(pixels), (28, 28), 3)):
            assert image[0, 0].tolist() == [background] * 3
            assert image[20, 0].tolist() == [color] * 3


def test_folders_and_patterns_expand_to_their_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("in/b.png", "in/a.JPG", "in/deep/c.webp", "in/notes.txt", "x1.png", "x2.png"):
        (tmp_path / name).touch()
    found = ("in/a.JPG", "in/b.png", "in/deep/c.webp")
    assert find_pictures(["in"]) == [str(Path(name)) for name in found]
    assert find_pictures(["x?.png", "none.png", "x1.png"]) == [
        "x1.png",
        "x2.png",
        "none.png",
        "x1.png",
    ]
    deep = tmp_path / "in" / "deep" / "c.webp"
    assert find_pictures([str(tmp_path / "in" / "**" / "*.webp")]) == [str(deep)]
    assert find_pictures(["nothing*.png", "in/deep/?"]) == []


def test_large_photos_are_reduced_while_reading(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), dtype=np.uint8)
    for name in ("a.jpg", "a.png"):
        Image.fromarray(noise).save(tmp_path / name)
        full, small = read_rgba(tmp_path / name), read_rgba(tmp_path / name, 400)
        assert full.shape == (1200, 1600, 4) and small.shape == (300, 400, 4)
        assert abs(small[..., :3].mean() - noise.mean()) < 2
    clear = np.dstack([noise[:400, :400], np.zeros((400, 400), np.uint8)])
    clear[:200] = (255, 0, 0, 255)
    half = read_rgba(clear, 100)
    assert half[10, 10].tolist() == [255, 0, 0, 255] and half[90, 10, 3] == 0


def test_reading_a_pillow_image_does_not_change_it(tmp_path):
    Image.new("RGB", (1600, 1200), "red").save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        assert read_rgba(image, 100).shape == (75, 100, 4)
        assert image.size == image.copy().size == (1600, 1200)


def jpeg_with(parts, scans=1):
    """A progressive JPEG of 64x64 pixels with more segments, and with its last scan repeated."""
    file = io.BytesIO()
    Image.new("L", (64, 64), 128).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    start, end = content.rfind(b"\xff\xda"), content.rfind(b"\xff\xd9")
    body = content[2:end] + content[start:end] * scans
    return content[:2] + parts + body + content[end:]


def test_a_file_of_very_many_parts_is_refused(tmp_path, monkeypatch):
    piece = b"\xff\xe1\x00\x0aExif\0\0\0\0"
    for parts in (piece * 3000, b"\xff" * 3000, b"\xff\xe0\0\x02\0" + piece * 3000):
        content = jpeg_with(parts)
        with pytest.raises(ValueError, match="more than 2,000 segments"):
            read_rgba(io.BytesIO(content))
    assert read_rgba(io.BytesIO(jpeg_with(piece * 100))).shape == (64, 64, 4)
    Image.new("L", (64, 64)).save(tmp_path / "x.png")
    content = (tmp_path / "x.png").read_bytes()
    text = struct.pack(">I", 2) + b"tEXta\0" + struct.pack(">I", zlib.crc32(b"tEXta\0"))
    monkeypatch.setattr(picture_limits, "MAX_CHUNKS", 50)
    (tmp_path / "x.png").write_bytes(content[:33] + text * 60 + content[33:])
    with pytest.raises(ValueError, match=r"x\.png: more than 50 chunks"):
        read_rgba(tmp_path / "x.png")
    (tmp_path / "x.png").write_bytes(content[:33] + text * 10 + content[33:])
    assert read_rgba(tmp_path / "x.png").shape == (64, 64, 4)


def test_the_scans_of_a_jpeg_are_bounded(monkeypatch):
    monkeypatch.setattr(picture_limits, "MAX_SCANNED_PIXELS", 64 * 64 * 100)
    assert read_rgba(io.BytesIO(jpeg_with(b"", scans=50))).shape == (64, 64, 4)
    with pytest.raises(ValueError, match="scans of 64x64 pixels; at most 409,600 pixels in all"):
        read_rgba(io.BytesIO(jpeg_with(b"", scans=200)))


def test_the_cost_of_a_picture_is_known_from_its_header():
    assert picture_cost(png_bytes(Image.new("L", (60, 40))), 10) == (2400, 2400)
    pixels, decoded = picture_cost(jpeg_with(b"", scans=94), 10)  # 6 of its own
    assert (pixels, decoded) == (64 * 64 * 10, 64 * 64)
    for form, size, expected in (
        ("JPEG", (160, 160), (25_600, 400)),  # reduced to an eighth while it is decoded
        ("JPEG", (1600, 16), (25_600, 25_600)),  # too narrow for that
        ("WEBP", (160, 160), (25_600, 51_200)),
    ):
        file = io.BytesIO()
        Image.new("RGB", size).save(file, form)
        assert picture_cost(file.getvalue(), 10) == expected


def test_webp_has_a_limit_of_its_own(monkeypatch):
    monkeypatch.setattr(picture_limits, "MAX_WEBP_PIXELS", 99)
    file = io.BytesIO()
    Image.new("RGB", (10, 10)).save(file, "WEBP")
    file.seek(0)
    with pytest.raises(ValueError, match="10x10 pixels; at most 99 in WebP"):
        read_rgba(file)


def test_a_picture_of_another_size_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(pictures, "read_rgba", None)  # not called
    with pytest.raises(ValueError, match="60x40 pixels; expected 28x28"):
        read_picture(io.BytesIO(png_bytes(Image.new("L", (60, 40)))), (28, 28))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_reducing_in_strips_changes_nothing(mode):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (517, 403, 4), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    converted = image if mode in ("L", "LA") else image.convert("RGBA" if mode == "RGBA" else "RGB")
    expected = np.asarray(converted.reduce(517 // 64).convert("RGBA"))
    np.testing.assert_array_equal(read_rgba(io.BytesIO(png_bytes(image)), 64), expected)


def png_bytes(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
