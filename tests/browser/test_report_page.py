"""`report.html` of a small run, opened from disk in headless Chromium."""

import dataclasses
import re

import numpy as np
import pytest

from fashion_cnn import train
from fashion_cnn.data import Data
from fashion_cnn.evaluation import explain_run, measure_run
from fashion_cnn.recipes import RECIPES
from fashion_cnn.report import PICTURES, draw_report
from fashion_cnn.run import Run

pytestmark = pytest.mark.slow

NAMES = ("<b>x</b>", "$5 & more", "Schürze", "Платье")
WIDTHS = {"wide": 1280, "phone": 390}


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A run of two epochs on quarters of noise, with class names that a page could choke on."""
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(4), 60)
    images = rng.integers(0, 100, (240, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[14 * row : 14 * row + 14, 14 * column : 14 * column + 14] += 20
    data = Data(images[:180], labels[:180], images[180:], labels[180:], NAMES)
    run = tmp_path_factory.mktemp("runs") / "small<i>"
    recipe = dataclasses.replace(RECIPES["textbook"], epochs=2, batch_size=30, seed=3)
    train(recipe, data, run)
    measure_run(Run(run), data)
    said = []
    explain_run(Run(run), data, said.append)
    assert len(said) == 10
    *pictures, page = draw_report(Run(run), data, said.append)
    assert len(said) == 10 + PICTURES
    assert len(pictures) == 2 * (PICTURES - 1)
    return page


@pytest.fixture
def opened(chromium, reported):
    """Opens the page so wide; in the end nothing was said, and nothing asked for."""
    contexts, said, asked = [], [], []

    def of(width, scheme="light"):
        contexts.append(
            chromium.new_context(
                viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True
            )
        )
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(reported.as_uri())
        return page

    yield of
    for context in contexts:
        context.close()
    assert said == []
    assert all(url.startswith(("file:", "data:")) for url in asked)


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_window_and_all_pictures_show(opened, width, scheme):
    page = opened(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    sizes = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
    assert len(sizes) > 12 and min(sizes) > 0
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (min(map(int, re.findall(r"\d+", paper))) > 128) == (scheme == "light")


def test_the_headline_is_the_measured_accuracy(opened, reported):
    metrics = Run(reported.parent).metrics()
    shown = opened(1280).locator(".score").inner_text().replace("\u202f", "")
    assert shown.startswith(f"{metrics['test_accuracy']:.2%}")
    low, high = metrics["test_accuracy_interval"]
    assert f"95% interval {low:.2%} to {high:.2%}" in shown.replace("95 %", "95%")


def test_the_gallery_is_filtered_by_truth_and_answer(opened, reported):
    arrays = Run(reported.parent).predictions()
    truth, answers = arrays["test_labels"], arrays["test_probabilities"].argmax(1)
    page = opened(1280)
    visible = page.locator(".gallery figure:visible")
    assert visible.count() == (answers != truth).sum() > 0
    pair = Run(reported.parent).metrics()["test_most_confused"][0]
    k = NAMES.index(pair["true"])
    page.select_option("#true", str(k))
    assert visible.count() == ((truth == k) & (answers != k)).sum()
    page.select_option("#guess", str(NAMES.index(pair["predicted"])))
    assert visible.count() == pair["count"]
    assert page.locator("#count").inner_text() == f"{pair['count']} shown"
    page.click("#all")
    assert visible.count() == (answers != truth).sum()
    page.locator(".pairs button").first.click()
    assert visible.count() == pair["count"]
    assert page.evaluate("document.activeElement.id") == "mistakes"


def test_classes_are_sorted_by_a_press(opened, reported):
    page, rows = opened(1280), Run(reported.parent).metrics()["test_per_class"]
    heading = page.locator("#per-class th button", has_text="Recall")
    for expected in ("descending", "ascending"):
        heading.click()
        assert page.locator("#per-class th").nth(1).get_attribute("aria-sort") == expected
        shown = page.locator("#per-class tbody td:first-child").all_inner_texts()
        recalls = [rows[name]["recall"] for name in shown]
        assert recalls == sorted(recalls, reverse=expected == "descending")
    page.locator("#per-class th button").first.focus()
    for expected in ("descending", "ascending"):
        page.keyboard.press("Enter")  # without a mouse too
        assert page.locator("#per-class th").first.get_attribute("aria-sort") == expected
        shown = page.locator("#per-class tbody td:first-child").all_inner_texts()
        compare = "names => [...names].sort((a, b) => a.localeCompare(b))"
        order = page.evaluate(compare, shown)
        assert shown == (order[::-1] if expected == "descending" else order)


def test_names_are_text_and_never_markup(opened, reported):
    page = opened(1280)
    assert page.locator("#per-class tbody b").count() == 0
    assert "<b>x</b>" in page.locator("#per-class").inner_text()
    assert page.locator("h1").inner_text() == "small<i>"
    assert "<b>x</b>" not in reported.read_text(encoding="utf-8")


def test_it_prints_light_and_without_buttons(opened):
    page = opened(1280, "dark")
    shown = "getComputedStyle(document.querySelector('#accuracy img')).filter"
    assert page.evaluate(shown) != "none"
    page.emulate_media(media="print")
    assert page.evaluate(shown) == "none"
    assert page.locator(".filters").is_hidden()
    assert page.pdf().startswith(b"%PDF")


def test_it_is_small_and_says_how_it_was_made(opened, reported):
    assert reported.stat().st_size < 5_000_000
    page = opened(1280)
    assert page.locator("pre").first.inner_text().startswith("# made from Python")
    page.click("summary")
    assert '"batch_size": 30' in page.locator("pre").nth(1).inner_text()
