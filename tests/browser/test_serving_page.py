"""The page of `fashion-cnn serve` in headless Chromium: pictures in, predictions out."""

import io
import re

import pytest
from browser_page import watch
from PIL import Image, ImageDraw
from playwright.sync_api import expect

from fashion_cnn.inference.classifier import Classifier

pytestmark = pytest.mark.slow

SCREENS = {"wide": (1200, False), "phone": (390, True)}


def picture(form="PNG"):
    image = Image.new("RGB", (400, 533), "#e4e0d8")
    legs = [(140, 60), (260, 60), (280, 480), (215, 480), (200, 180), (185, 480), (120, 480)]
    ImageDraw.Draw(image).polygon(legs, "#203060")
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


FILE = {"name": "trousers.png", "mimeType": "image/png", "buffer": picture()}
PREDICTION = Classifier.load("photo").predict(io.BytesIO(picture()))


@pytest.fixture(scope="module")
def server(serving):
    with serving("photo") as (_, port, _):
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def opened(chromium, server):
    """A function that opens the page; fails on console errors and on requests to other hosts."""
    contexts, problems = [], []

    def open_page(screen="wide", scheme="light", url=server):
        width, touch = SCREENS[screen]
        context = chromium.new_context(
            viewport={"width": width, "height": 800},
            color_scheme=scheme,
            has_touch=touch,
            is_mobile=touch,
            permissions=["clipboard-read", "clipboard-write"],
        )
        contexts.append(context)
        page = context.new_page()
        watch(page, server, problems)
        page.goto(url)
        return page

    open_page.problems = problems
    yield open_page
    for context in contexts:
        context.close()
    assert not problems


def expect_prediction(page):
    expect(page.locator("#verdict")).to_contain_text(PREDICTION.label)
    expect(page.locator("#bars li")).to_have_count(10)
    expect(page.locator("#bars li").first).to_contain_text(f"{100 * PREDICTION.probability:.0f}")
    expect(page.locator("#steps figure")).to_have_count(5, timeout=30_000)
    expect(page.locator("#status")).to_be_empty()


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_chosen_file_is_classified(opened, screen, scheme):
    page = opened(screen, scheme)
    expect(page.locator("#result")).to_be_hidden()
    page.set_input_files("#file", FILE)
    expect_prediction(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("[...document.images].every((x) => x.naturalWidth > 0)")


def test_an_unsure_prediction_says_so(opened):
    page = opened()
    page.locator("#samples button").nth(6).click()  # a shirt
    verdict = re.compile(r"^(Not sure: perhaps |Sure: )[A-Z].* \(\d")
    expect(page.locator("#verdict")).to_have_text(verdict)


def test_samples_work_by_keyboard(opened):
    page = opened()
    expect(page.locator("#samples button")).to_have_count(10)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    for _ in range(9):
        page.keyboard.press("Tab")
        if "Trouser" in page.evaluate("document.activeElement.querySelector('img')?.alt ?? ''"):
            break
    page.keyboard.press("Enter")
    expect(page.locator("#verdict")).to_contain_text("Trouser")
    expect(page.locator("#steps figure")).to_have_count(
        3, timeout=30_000
    )  # no steps that find the garment: the image is prepared already


PUT = """async ([kind, bytes]) => {
  const file = new File([new Uint8Array(bytes)], "x.png", { type: "image/png" });
  const transfer = new DataTransfer();
  transfer.items.add(file);
  const event = kind === "paste"
    ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true })
    : new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
  document.body.dispatchEvent(event);
}"""


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_pasted_and_dropped_pictures_are_classified(opened, kind):
    page = opened()
    page.evaluate(PUT, [kind, list(picture())])
    expect_prediction(page)


def test_invalid_files_get_an_error_message(opened):
    page = opened()
    page.set_input_files("#file", {"name": "x.txt", "mimeType": "text/plain", "buffer": b"x"})
    expect(page.locator("#status")).to_have_text(
        "This file is not a picture. JPEG, PNG and WebP are supported."
    )
    page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": b"x"})
    expect(page.locator("#status")).to_contain_text("expected JPEG, PNG or WebP")
    expect(page.locator("#result")).to_be_hidden()
    assert all("415" in text for text in opened.problems)  # Chromium logs error responses
    opened.problems.clear()


def test_only_the_latest_prediction_is_shown(opened):
    page = opened()
    for k in (8, 1, 9, 1):
        page.locator("#samples button").nth(k).click()
    expect(page.locator("#verdict")).to_contain_text("Trouser")
    expect(page.locator("#steps figure")).to_have_count(3, timeout=30_000)
    expect(page.locator("#verdict")).to_contain_text("Trouser")
    assert all("503" in text for text in opened.problems)  # on a slow machine; the page tries again
    opened.problems.clear()


def test_accessible_names(opened):
    page = opened()
    expect(page.get_by_role("heading", name="What garment is this?")).to_be_visible()
    expect(page.get_by_label("Choose a picture")).to_be_attached()
    expect(page.get_by_role("button", name="Sample: Ankle boot")).to_be_visible()
    page.set_input_files("#file", FILE)
    expect_prediction(page)
    expect(page.get_by_role("region", name=re.compile(PREDICTION.label))).to_be_visible()
    expect(page.get_by_role("list", name="Probability of each class")).to_be_visible()
    expect(page.get_by_role("img", name="occlusion map")).to_be_visible()
    assert page.locator("#status").get_attribute("role") == "status"


def test_a_token_is_requested(chromium, serving, tmp_path):
    (tmp_path / "token").write_text("secret")
    with serving("photo", "--token-file", tmp_path / "token") as (_, port, _):
        page = chromium.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        page.get_by_label("This server requires an access token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#status")).to_contain_text("missing or wrong token")
        page.get_by_label("This server requires an access token").fill("secret")
        page.keyboard.press("Enter")
        expect(page.locator("#samples button")).to_have_count(10)
        page.set_input_files("#file", FILE)
        expect_prediction(page)
        expect(page.locator("#token")).to_be_hidden()
        page.close()


def test_the_documentation_opens(opened, server):
    page = opened(url=f"{server}docs")
    expect(page.locator("#operations-photos-predict_predict_post")).to_be_visible(timeout=30_000)
