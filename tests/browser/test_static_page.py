"""The folder of `export --format web` on a plain web host, in headless Chromium."""

import io
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import expect

from fashion_cnn.data.photo import prepare_photo
from fashion_cnn.export.web import export_web
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.serving import web

pytestmark = pytest.mark.slow

NETWORK = "standard"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if not shutil.which("npm"):
        pytest.skip("no npm on this machine, which fetches ONNX Runtime for browsers")
    return export_web(NETWORK, tmp_path_factory.mktemp("web") / "page")


@pytest.fixture(scope="module")
def site(folder):
    class Quiet(SimpleHTTPRequestHandler):
        extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript"}

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@pytest.fixture
def page(chromium, site):
    page, wrong = chromium.new_page(), []
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda asked: (
            None if asked.url.startswith((site, "data:", "blob:")) else wrong.append(asked.url)
        ),
    )
    page.goto(site)
    expect(page.locator("#foot")).to_contain_text("do not leave this browser", timeout=30_000)
    yield page
    page.close()
    assert not wrong


def drawn(seed, form):
    """A garment of some shape and colour, on some ground, now and then on none."""
    rng = np.random.default_rng(seed)
    size = [int(x) for x in rng.integers(60, 900, 2)]
    ground = tuple(int(x) for x in rng.integers(0, 256, 3))
    mode = "RGBA" if form == "transparent" else "RGB"
    image = Image.new(mode, size, (0, 0, 0, 0) if form == "transparent" else ground)
    if form == "ready":
        image = Image.new(mode, size)
    cloth = tuple(int(x) for x in rng.integers(0, 256, 3))
    if form == "ready":
        cloth = (220, 220, 220)
    outline = np.array(
        [(0.3, 0.15), (0.7, 0.15), (0.95, 0.4), (0.8, 0.5), (0.72, 0.4), (0.72, 0.9)]
    )
    outline = np.concatenate([outline, [(0.28, 0.9), (0.28, 0.4), (0.2, 0.5), (0.05, 0.4)]])
    points = (outline + rng.normal(0, 0.03, outline.shape)) * size
    ImageDraw.Draw(image).polygon([tuple(map(float, point)) for point in points], cloth)
    if form == "noisy":
        grain = rng.normal(0, 12, (size[1], size[0], 3))
        image = Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))
    return np.asarray(image.convert("RGBA"))


PREPARE = """async ([width, height, text]) => {
  const { prepare } = await import("./static/photo.js");
  const data = Uint8ClampedArray.from(atob(text), (c) => c.charCodeAt(0));
  const { pixels, note } = prepare({ width, height, data });
  return [[...pixels], note];
}"""


@pytest.mark.parametrize("form", ["plain", "noisy", "transparent", "ready"])
def test_photos_become_the_same_pixels(page, form):
    import base64

    for seed in range(8):
        rgba = drawn(seed, form)
        text = base64.b64encode(rgba.tobytes()).decode()
        pixels, note = page.evaluate(PREPARE, [rgba.shape[1], rgba.shape[0], text])
        expected = prepare_photo(rgba)
        found = np.array(pixels, int).reshape(28, 28)
        assert np.abs(found - expected.pixels[..., 0]).max() <= 1
        assert note == expected.note


ANSWERS = """async (images) => {
  const { probabilities } = await import("./static/ask.js");
  const rows = await probabilities(images.map((image) => Uint8Array.from(image)));
  return rows.map((row) => [...row]);
}"""


def test_five_hundred_test_images_get_the_same_answers(page, real_data):
    images = real_data.test_images[:500, ..., np.newaxis]
    expected = Classifier.load(NETWORK).probabilities(images)
    flat = images.reshape(len(images), -1).tolist()
    found = np.concatenate([page.evaluate(ANSWERS, flat[k : k + 50]) for k in range(0, 500, 50)])
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_picture_is_answered_without_a_server(page):
    rgba = drawn(3, "plain")
    file = io.BytesIO()
    Image.fromarray(rgba).convert("RGB").save(file, "PNG")
    expected = Classifier.load(NETWORK).predict(io.BytesIO(file.getvalue()))
    given = {"name": "x.png", "mimeType": "image/png", "buffer": file.getvalue()}
    page.set_input_files("#file", given)
    expect(page.locator("#verdict")).to_contain_text(expected.label)
    expect(page.locator("#bars li").first).to_contain_text(f"{100 * expected.probability:.0f}")
    expect(page.locator("#steps figure")).to_have_count(5, timeout=60_000)
    expect(page.locator("#disk")).to_have_count(0)


def test_a_file_that_is_no_picture_is_said(page):
    page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": b"x"})
    expect(page.locator("#status")).to_contain_text("cannot be read; JPEG, PNG and WebP are")


def test_from_disk_it_says_what_it_needs(chromium, folder):
    page = chromium.new_page()
    page.goto(f"file://{folder}/index.html")
    expect(page.locator("#disk")).to_contain_text("has to come from a web server")
    expect(page.locator("#disk")).to_be_visible()
    page.close()


def test_what_cannot_be_is_refused(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="there already"):
        export_web("textbook", tmp_path / "there")
    with pytest.raises(ValueError, match="there is no folder"):
        export_web("textbook", tmp_path / "no" / "folder")
    with pytest.raises(FileNotFoundError, match="nowhere: no model"):
        export_web("nowhere", tmp_path / "x")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(OSError, match="npm is not installed"):
        export_web("textbook", tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_another_runtime_than_the_one_expected_is_refused(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(web, "RUNTIME_SHA512", "x" * 88)
    with pytest.raises(OSError, match="got SHA-512 q0y"):
        export_web("textbook", tmp_path / "x")
    assert not (tmp_path / "x").exists()
