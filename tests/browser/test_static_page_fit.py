"""The static page of a run on one's own folders: its pixels and predictions are those of Python."""

import base64
import io
import shutil

import numpy as np
import pytest
from command import fashion_cnn
from display_p3 import display_p3
from PIL import Image, ImageDraw, ImageFilter
from playwright.sync_api import expect

from fashion_cnn.data.pictures import fit_picture, read_picture
from fashion_cnn.export.web import export_web
from fashion_cnn.inference.classifier import Classifier

pytestmark = pytest.mark.slow

CLASSES = ("bar", "cross", "ring")
SIDE = 48
INPUT = {"height": SIDE, "width": SIDE}


def draw_picture(kind, seed, scale=1.0):
    """A bar, cross or ring in random colors, blurred and noisy, of 90x120 pixels times `scale`."""
    rng = np.random.default_rng(seed)
    background, foreground = rng.integers(0, 110, 3), rng.integers(150, 256, 3)
    image = Image.new("RGB", (90, 120), tuple(map(int, background)))
    draw, (x, y) = ImageDraw.Draw(image), rng.integers(8, 28, 2)
    color = tuple(map(int, foreground))
    if kind == "bar":
        draw.rectangle((x, y + 30, x + 50, y + 44), fill=color)
    elif kind == "ring":
        draw.ellipse((x, y + 10, x + 50, y + 60), outline=color, width=9)
    else:
        draw.line((x, y + 10, x + 50, y + 60), fill=color, width=12)
        draw.line((x + 50, y + 10, x, y + 60), fill=color, width=12)
    image = image.resize((round(90 * scale), round(120 * scale)), Image.Resampling.BICUBIC)
    image = image.filter(ImageFilter.GaussianBlur(scale))
    noise = rng.integers(-12, 13, (256, 256, 3))
    rows, columns = -(-image.height // 256), -(-image.width // 256)
    noise = np.tile(noise, (rows, columns, 1))[: image.height, : image.width]
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def to_bytes(image, form="JPEG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small network, trained in float32 on drawn pictures."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        for k, kind in enumerate(CLASSES):
            (folder / "mine" / kind).mkdir(parents=True)
            for i in range(40):
                draw_picture(kind, 100 * k + i).save(folder / "mine" / kind / f"{i}.png")
        options = ("--set", f"image_size={SIDE}", "--set", "precision=float32", "--epochs", "12")
        train = ("train", "quick", "--data", "mine", "--run", "run", "--no-report")
        fashion_cnn(*train, *options, cwd=folder)
    return folder / "run"


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    if not shutil.which("npm"):
        pytest.skip("npm, which downloads ONNX Runtime for browsers, is not installed")
    return export_web(str(run), tmp_path_factory.mktemp("web") / "page")


FIT = """async ([width, height, text, input, name]) => {
  const { reduce, reductionFactors, ...pictures } = await import("./static/pictures.js");
  const data = Uint8ClampedArray.from(atob(text), (c) => c.charCodeAt(0));
  const edge = 2 * Math.max(input.height, input.width);
  const [, factor] = reductionFactors(width, height, edge, false);
  return [...pictures[name](reduce({ width, height, data }, factor), input).pixels];
}"""


def pixels_in_browser(page, rgba, channels, name="fit", size=INPUT):
    height, width = rgba.shape[:2]
    text = base64.b64encode(rgba.tobytes()).decode()
    flat = page.evaluate(FIT, [width, height, text, size | {"channels": channels}, name])
    return np.array(flat, int).reshape(size["height"], size["width"], channels)


SIZES = [(1, 1), (1, 300), (700, 1), (48, 48), (47, 50), (95, 97), (96, 192), (193, 200)]
SIZES += [(20, 3000), (480, 641), (1000, 777)]


def opaque(rgb):
    return np.concatenate([rgb, np.full_like(rgb[..., :1], 255)], axis=-1)


def transparent(rgb):
    """Opacity from 0 to 255, in steps and with noise."""
    rng = np.random.default_rng(1)
    alpha = rng.choice(np.array([0, 0, 1, 3, 128, 254, 255, 255], np.uint8), rgb.shape[:2])
    return np.concatenate([rgb, alpha[..., np.newaxis]], axis=-1)


def vanishing(rgb):
    """White on transparent, which Python shows on black."""
    return transparent(np.full_like(rgb, 255))


@pytest.mark.parametrize("form", [opaque, transparent, vanishing])
@pytest.mark.parametrize("channels", [1, 3])
def test_equal_pixels_give_the_same_input(page, form, channels):
    rng = np.random.default_rng(0)
    for height, width in SIZES:
        rgba = form(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        expected = fit_picture(rgba, (SIDE, SIDE), channels)
        actual = pixels_in_browser(page, rgba, channels)
        assert np.abs(actual - expected).max() <= 1, (height, width)


def test_an_input_that_is_not_square(page):
    rgba = transparent(np.random.default_rng(0).integers(0, 256, (300, 500, 3), dtype=np.uint8))
    size = {"height": 30, "width": 70}
    actual = pixels_in_browser(page, rgba, 3, size=size)
    assert np.abs(actual - fit_picture(rgba, (30, 70))).max() <= 1


def test_models_without_a_preparation_take_their_size_only(page):
    rgba = transparent(np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8))
    for channels in (1, 3):
        expected = read_picture(
            io.BytesIO(to_bytes(Image.fromarray(rgba), "PNG")), (48, 48), channels
        )
        actual = pixels_in_browser(page, rgba, channels, "keepSize")
        assert np.abs(actual - expected).max() <= 1
    with pytest.raises(Exception, match="takes only pictures of 48x48 pixels"):
        pixels_in_browser(page, rgba[:40], 3, "keepSize")


PREPARE = """async ([text, input]) => {
  const { fit, readRgba } = await import("./static/pictures.js");
  const file = new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]);
  return [...fit(await readRgba(file, 2 * Math.max(input.height, input.width)), input).pixels];
}"""


def largest_difference(page, content):
    """Of the pixels of a file, between the browser and Python."""
    arguments = [base64.b64encode(content).decode(), INPUT | {"channels": 3}]
    actual = np.array(page.evaluate(PREPARE, arguments), int).reshape(SIDE, SIDE, 3)
    return np.abs(actual - fit_picture(io.BytesIO(content), (SIDE, SIDE))).max()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_a_png_gives_the_same_input(page, mode):
    rng = np.random.default_rng(0)
    for height, width in SIZES:
        rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        image = Image.fromarray(transparent(rgb) if mode == "RGBA" else rgb).convert(mode)
        assert largest_difference(page, to_bytes(image, "PNG")) <= 1, (height, width)


ASK = """async (text) => {
  const { ask } = await import("./static/ask.js");
  const file = new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]);
  const { verdict, note, top } = await ask(file, false);
  return [verdict, top.map(({ label, probability }) => [label, probability]), note];
}"""


def check_prediction(page, run, content):
    """The same label and verdict, and probabilities within 0.02; returns Python's prediction."""
    expected = Classifier.load(run).predict(io.BytesIO(content))
    verdict, top, note = page.evaluate(ASK, base64.b64encode(content).decode())
    assert (top[0][0], verdict, note) == (expected.label, expected.verdict, expected.note)
    for label, probability in top:
        assert probability == pytest.approx(expected.probabilities[label], abs=0.02)
    return expected


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("scale", [0.5, 1, 3.7, 12])
def test_a_jpeg_gets_the_same_prediction(page, run, kind, scale):
    for seed in range(1000, 1004):
        image = draw_picture(kind, seed, scale)
        for options in ({}, {"quality": 95, "subsampling": 0}, {"progressive": True}):
            check_prediction(page, run, to_bytes(image, **options))


STORED = dict(enumerate(("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE"), 2))
STORED |= dict(enumerate(("ROTATE_90", "TRANSVERSE", "ROTATE_270"), 6))  # EXIF orientation: how


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_phone_photo_is_rotated_and_its_colors_converted(page, run, orientation):
    photo, exif = draw_picture("bar", 1010, 9.3), Image.Exif()  # 837x1116, not multiples of 8
    if orientation > 1:
        photo = photo.transpose(Image.Transpose[STORED[orientation]])
    exif[0x0112] = orientation
    content = to_bytes(photo, exif=exif, icc_profile=display_p3(), quality=95)
    assert check_prediction(page, run, content).label == "bar"
    assert largest_difference(page, content) <= 6


def test_colors_of_a_profile_are_converted_as_in_python(page):
    colors = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    image, profile = Image.fromarray(colors), display_p3()
    content = to_bytes(image, "PNG", icc_profile=profile)
    difference = np.abs(fit_picture(io.BytesIO(content), (SIDE, SIDE)).astype(int) - colors)
    assert difference.max() > 20
    assert largest_difference(page, content) <= 2
    assert largest_difference(page, to_bytes(image, "PNG", icc_profile=profile[:300])) == 0


def test_a_photo_of_48_megapixels_is_predicted(page, run):
    small = draw_picture("ring", 1020, 16.8)
    content = to_bytes(small.resize((6048, 8064), Image.Resampling.NEAREST))
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (6048, 8064)
    check_prediction(page, run, content)


def test_the_page_shows_the_classes_and_a_prediction(page, run):
    expect(page.get_by_role("heading", name="What is in this picture?")).to_be_visible()
    expect(page.locator("#about")).to_contain_text("3 classes a picture shows: bar, cross, ring.")
    expect(page.locator("#samples")).to_be_hidden()
    content = to_bytes(draw_picture("cross", 1030, 4))
    expected = Classifier.load(run).predict(io.BytesIO(content))
    upload = {"name": "x.jpg", "mimeType": "image/jpeg", "buffer": content}
    page.set_input_files("#file", upload)
    expect(page.locator("#verdict")).to_contain_text(expected.label)
    expect(page.locator("#bars li")).to_have_count(3)
    expect(page.locator("#steps figure")).to_have_count(3, timeout=60_000)
    expect(page.get_by_role("img", name="occlusion map")).to_be_visible()


def test_the_preset_of_clothes_notes_pictures_like_fashion_mnists(page, run):
    classifier = Classifier.load(run)
    classifier.card |= {"preset": "clothes", "threshold": 0.0}
    card = {"name": "clothes", "sha256": classifier.sha256, **classifier.card}
    page.route("**/model.json", lambda route: route.fulfill(json=card))
    page.reload()
    expect(page.locator("#foot")).to_contain_text("do not leave this browser", timeout=30_000)
    color = draw_picture("ring", 1040).resize((28, 28))
    notes = []
    for image in (color.convert("L"), color, color.convert("L").resize((29, 28))):
        content = to_bytes(image, "PNG")
        expected = classifier.predict(io.BytesIO(content))
        verdict, _, note = page.evaluate(ASK, base64.b64encode(content).decode())
        assert (verdict, note) == (expected.verdict, expected.note)
        notes.append(note)
    assert "the preset standard" in notes[0] and notes[1:] == ["", ""]


@pytest.mark.parametrize("media_type", ["image/heic", "application/octet-stream"])
def test_heic_gets_a_message_of_its_own(page, media_type):
    content = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    page.set_input_files("#file", {"name": "x.heic", "mimeType": media_type, "buffer": content})
    expect(page.locator("#status")).to_contain_text("cannot read HEIC")
