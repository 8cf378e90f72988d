"""The folder of `export --format web` on a static web host, in headless Chromium."""

import io
import shutil

import numpy as np
import onnx
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import expect

from fashion_cnn.data.photo import prepare_photo
from fashion_cnn.export import web
from fashion_cnn.export.w8 import quantize_weights
from fashion_cnn.export.web import export_web
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.inference.model_files import PRESET_FOLDER

pytestmark = pytest.mark.slow

NETWORK = "standard"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if not shutil.which("npm"):
        pytest.skip("npm, which downloads ONNX Runtime for browsers, is not installed")
    return export_web(NETWORK, tmp_path_factory.mktemp("web") / "page")


def draw_garment(seed, kind):
    """A garment of random shape and color, on a random or transparent background."""
    rng = np.random.default_rng(seed)
    size = [28, 28] if kind == "small" else [int(x) for x in rng.integers(60, 900, 2)]
    background = tuple(int(x) for x in rng.integers(0, 256, 3))
    mode = "RGBA" if kind == "transparent" else "RGB"
    image = Image.new(mode, size, (0, 0, 0, 0) if kind == "transparent" else background)
    if kind == "ready":
        image = Image.new(mode, size)
    color = tuple(int(x) for x in rng.integers(0, 256, 3))
    if kind == "ready":
        color = (220, 220, 220)
    outline = np.array(
        [(0.3, 0.15), (0.7, 0.15), (0.95, 0.4), (0.8, 0.5), (0.72, 0.4), (0.72, 0.9)]
    )
    outline = np.concatenate([outline, [(0.28, 0.9), (0.28, 0.4), (0.2, 0.5), (0.05, 0.4)]])
    points = (outline + rng.normal(0, 0.03, outline.shape)) * size
    ImageDraw.Draw(image).polygon([tuple(map(float, point)) for point in points], color)
    if kind == "pieces":
        for k in range(0, 10, 2):
            band = (0, size[1] * k // 10, size[0], size[1] * (k + 1) // 10)
            ImageDraw.Draw(image).rectangle(band, background)
    if kind == "noisy":
        noise = rng.normal(0, 12, (size[1], size[0], 3))
        image = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
    return np.asarray(image.convert("RGBA"))


PREPARE = """async ([width, height, text]) => {
  const { prepare } = await import("./static/photo.js");
  const data = Uint8ClampedArray.from(atob(text), (c) => c.charCodeAt(0));
  const { pixels, note } = prepare({ width, height, data });
  return [[...pixels], note];
}"""


@pytest.mark.parametrize("kind", ["plain", "noisy", "pieces", "transparent", "ready", "small"])
def test_photos_are_prepared_as_in_python(page, kind):
    import base64

    notes = []
    for seed in range(8):
        rgba = draw_garment(seed, kind)
        text = base64.b64encode(rgba.tobytes()).decode()
        pixels, note = page.evaluate(PREPARE, [rgba.shape[1], rgba.shape[0], text])
        expected = prepare_photo(rgba)
        actual = np.array(pixels, int).reshape(28, 28)
        assert np.abs(actual - expected.pixels[..., 0]).max() <= 1
        assert note == expected.note
        notes.append(note)
    assert any("pieces" in note for note in notes) == (kind == "pieces")


PROBABILITIES = """async (images) => {
  const { probabilities } = await import("./static/ask.js");
  const rows = await probabilities(images.map((image) => Uint8Array.from(image)));
  return rows.map((row) => [...row]);
}"""


def test_five_hundred_test_images_get_the_same_probabilities(page, real_data):
    images = real_data.test_images[:500, ..., np.newaxis]
    expected = Classifier.load(NETWORK).probabilities(images)
    flat = images.reshape(len(images), -1).tolist()
    batches = [page.evaluate(PROBABILITIES, flat[k : k + 50]) for k in range(0, 500, 50)]
    actual = np.concatenate(batches)
    np.testing.assert_array_equal(actual.argmax(1), expected.argmax(1))
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_weights_of_8_bits_give_the_same_probabilities(page, real_data):
    """The file of `onnx-w8` in place of the page's."""
    network = onnx.load(PRESET_FOLDER / f"{NETWORK}.onnx")
    images = real_data.test_images[:50, ..., np.newaxis]
    quantize_weights(network, images)
    content = network.SerializeToString()
    page.route("**/model.onnx", lambda route: route.fulfill(body=content))
    page.reload()
    expect(page.locator("#foot")).to_contain_text("do not leave this browser", timeout=30_000)
    actual = page.evaluate(PROBABILITIES, images.reshape(len(images), -1).tolist())
    expected = Classifier(content).probabilities(images)
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    assert np.abs(Classifier.load(NETWORK).probabilities(images) - expected).max() > 1e-3


def test_a_picture_is_predicted_without_a_server(page):
    rgba = draw_garment(3, "plain")
    file = io.BytesIO()
    Image.fromarray(rgba).convert("RGB").save(file, "PNG")
    expected = Classifier.load(NETWORK).predict(io.BytesIO(file.getvalue()))
    upload = {"name": "x.png", "mimeType": "image/png", "buffer": file.getvalue()}
    page.set_input_files("#file", upload)
    expect(page.locator("#verdict")).to_contain_text(expected.label)
    expect(page.locator("#bars li").first).to_contain_text(f"{100 * expected.probability:.0f}")
    expect(page.locator("#steps figure")).to_have_count(5, timeout=60_000)
    expect(page.locator("#disk")).to_have_count(0)


def test_a_file_that_is_not_a_picture_gives_a_message(page):
    page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": b"x"})
    expect(page.locator("#status")).to_contain_text("cannot be read; JPEG, PNG and WebP are")


def test_from_disk_the_page_says_that_it_needs_a_server(chromium, folder):
    page = chromium.new_page()
    page.goto(f"file://{folder}/index.html")
    expect(page.locator("#disk")).to_contain_text("This page needs a web server")
    expect(page.locator("#disk")).to_be_visible()
    page.close()


def test_invalid_exports_are_refused(tmp_path, monkeypatch):
    (tmp_path / "existing").mkdir()
    with pytest.raises(ValueError, match="exists already"):
        export_web("textbook", tmp_path / "existing")
    with pytest.raises(ValueError, match="there is no folder"):
        export_web("textbook", tmp_path / "no" / "folder")
    with pytest.raises(FileNotFoundError, match="nowhere: no model"):
        export_web("nowhere", tmp_path / "x")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(OSError, match="npm: not installed"):
        export_web("textbook", tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["existing"]


def test_a_runtime_with_another_checksum_is_refused(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(web, "RUNTIME_SHA512", "x" * 88)
    with pytest.raises(OSError, match="got SHA-512 q0y"):
        export_web("textbook", tmp_path / "x")
    assert not (tmp_path / "x").exists()
