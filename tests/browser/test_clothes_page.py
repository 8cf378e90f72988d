"""The preset `clothes`: Python, the service and the static page make the same of a picture."""

import base64
import io
import json
import shutil
import urllib.request

import pytest
from drawn import COLORS, GARMENTS, NO_CLOTHES, garment

from fashion_cnn.export.web import export_web
from fashion_cnn.inference.classifier import Classifier

pytestmark = pytest.mark.slow

ASK = """async (text) => {
  const { ask } = await import("./static/ask.js");
  const file = new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]);
  const { verdict, top } = await ask(file, false);
  return { verdict, top };
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if not shutil.which("npm"):
        pytest.skip("npm, which downloads ONNX Runtime for browsers, is not installed")
    return export_web("clothes", tmp_path_factory.mktemp("web") / "page")


def jpegs():
    """Twenty drawings: garments and others, of several sizes."""
    pictures = [garment(name, color) for name in GARMENTS for color in COLORS[:2]]
    pictures += [draw(seed) for draw in NO_CLOTHES.values() for seed in range(2)]
    for i, picture in enumerate(pictures):
        width = 200 + 70 * i
        file = io.BytesIO()
        picture.resize((width, 600)).save(file, "JPEG", quality=90)
        yield file.getvalue()


def test_python_service_and_browser_agree_on_twenty_pictures(page, serving):
    classifier, contents = Classifier.load("clothes"), list(jpegs())
    assert len(contents) == 20
    with serving("clothes") as (_, port, _):
        for content in contents:
            expected = classifier.predict(io.BytesIO(content))
            url = f"http://127.0.0.1:{port}/predict?top=10"
            with urllib.request.urlopen(urllib.request.Request(url, content)) as response:
                by_service = json.load(response)
            in_browser = page.evaluate(ASK, base64.b64encode(content).decode())
            for actual, tolerance in ((by_service, 1e-4), (in_browser, 0.02)):
                best = actual["top"][0]["label"]
                assert (best, actual["verdict"]) == (expected.label, expected.verdict)
                for row in actual["top"]:
                    expected_probability = expected.probabilities[row["label"]]
                    assert row["probability"] == pytest.approx(expected_probability, abs=tolerance)


def test_the_page_is_about_garments(page):
    heading = page.get_by_role("heading", name="What garment is this?")
    heading.wait_for()
    assert "long-sleeve top" in page.locator("#about").inner_text()
    assert page.locator("#samples").is_hidden()
