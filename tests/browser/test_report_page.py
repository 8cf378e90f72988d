"""`report.html` of a small run, open_report from disk in headless Chromium."""

import dataclasses
import re

import numpy as np
import pytest

from fashion_cnn import train
from fashion_cnn.data import Data
from fashion_cnn.evaluation import explain_run, measure_run
from fashion_cnn.recipes import RECIPES
from fashion_cnn.report import PLOTS, draw_report
from fashion_cnn.run import Run

pytestmark = pytest.mark.slow

NAMES = ("<b>x</b>", "$5 & more", "Schürze", "Платье")
WIDTHS = {"wide": 1280, "phone": 390}


@pytest.fixture(scope="module")
def report_path(tmp_path_factory):
    """A run of two epochs on noisy quarters, with class names that need escaping.

    Six test labels are wrong, so that there are mistakes to show however well the network learns.
    """
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(4), 60)
    images = rng.integers(0, 100, (240, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[14 * row : 14 * row + 14, 14 * column : 14 * column + 14] += 20
    labels[180:186] = (labels[180:186] + 1) % 4
    files = tuple(f"{i}.png" for i in range(180))  # as those of folders: similarity is measured
    data = Data(images[:180], labels[:180], images[180:], labels[180:], NAMES, train_files=files)
    run = Run(tmp_path_factory.mktemp("runs") / "small<i>")
    recipe = dataclasses.replace(RECIPES["textbook"], epochs=2, batch_size=30, seed=3)
    train(recipe, data, run.folder)
    measure_run(run, data)
    steps = []
    explain_run(run, data, steps.append)
    assert len(steps) == 10
    *charts, page = draw_report(run, data, steps.append)
    assert len(steps) == 10 + PLOTS
    assert len(charts) == 2 * (PLOTS - 1)
    return page


@pytest.fixture
def open_report(chromium, report_path):
    """Opens the page with a given width; at the end, it has logged and requested nothing."""
    contexts, messages, requests = [], [], []

    def open_with(width, scheme="light"):
        viewport = {"width": width, "height": 800}
        context = chromium.new_context(viewport=viewport, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(report_path.as_uri())
        return page

    yield open_with
    for context in contexts:
        context.close()
    assert messages == []
    assert all(url.startswith(("file:", "data:")) for url in requests)


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_the_window_and_all_images_load(open_report, width, scheme):
    page = open_report(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    sizes = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
    assert len(sizes) > 12 and min(sizes) > 0
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (min(map(int, re.findall(r"\d+", background))) > 128) == (scheme == "light")


def test_headline_is_the_measured_accuracy(open_report, report_path):
    metrics = Run(report_path.parent).metrics()
    shown = open_report(1280).locator(".score").inner_text().replace("\u202f", "")
    assert shown.startswith(f"{metrics['test_accuracy']:.2%}")
    low, high = metrics["test_accuracy_interval"]
    assert f"95% confidence interval {low:.2%} to {high:.2%}" in shown.replace("95 %", "95%")


def test_gallery_is_filtered_by_true_and_predicted_class(open_report, report_path):
    arrays = Run(report_path.parent).predictions()
    labels, predicted = arrays["test_labels"], arrays["test_probabilities"].argmax(1)
    page = open_report(1280)
    visible = page.locator(".gallery figure:visible")
    assert visible.count() == (predicted != labels).sum() > 0
    pair = Run(report_path.parent).metrics()["test_most_confused"][0]
    k = NAMES.index(pair["true"])
    page.select_option("#true", str(k))
    assert visible.count() == ((labels == k) & (predicted != k)).sum()
    page.select_option("#predicted", str(NAMES.index(pair["predicted"])))
    assert visible.count() == pair["count"]
    assert page.locator("#count").inner_text() == f"{pair['count']} shown"
    page.click("#all")
    assert visible.count() == (predicted != labels).sum()
    page.locator(".pairs button").first.click()
    assert visible.count() == pair["count"]
    assert page.evaluate("document.activeElement.id") == "mistakes"


def test_class_table_is_sorted_by_its_headings(open_report, report_path):
    page, rows = open_report(1280), Run(report_path.parent).metrics()["test_per_class"]
    heading = page.locator("#per-class th button", has_text="Recall")
    for expected in ("descending", "ascending"):
        heading.click()
        assert page.locator("#per-class th").nth(1).get_attribute("aria-sort") == expected
        shown = page.locator("#per-class tbody td:first-child").all_inner_texts()
        recalls = [rows[name]["recall"] for name in shown]
        assert recalls == sorted(recalls, reverse=expected == "descending")
    page.locator("#per-class th button").first.focus()
    for expected in ("descending", "ascending"):
        page.keyboard.press("Enter")  # works without a mouse, too
        assert page.locator("#per-class th").first.get_attribute("aria-sort") == expected
        shown = page.locator("#per-class tbody td:first-child").all_inner_texts()
        compare = "names => [...names].sort((a, b) => a.localeCompare(b))"
        order = page.evaluate(compare, shown)
        assert shown == (order[::-1] if expected == "descending" else order)


def test_names_are_escaped(open_report, report_path):
    page = open_report(1280)
    assert page.locator("#per-class tbody b").count() == 0
    assert "<b>x</b>" in page.locator("#per-class").inner_text()
    assert page.locator("h1").inner_text() == "small<i>"
    assert "<b>x</b>" not in report_path.read_text(encoding="utf-8")


def test_page_prints_light_and_without_buttons(open_report):
    page = open_report(1280, "dark")
    color_filter = "getComputedStyle(document.querySelector('#accuracy img')).filter"
    assert page.evaluate(color_filter) != "none"
    page.emulate_media(media="print")
    assert page.evaluate(color_filter) == "none"
    assert page.locator(".filters").is_hidden()
    assert page.pdf().startswith(b"%PDF")


def test_page_is_small_and_tells_how_to_reproduce_the_run(open_report, report_path):
    assert report_path.stat().st_size < 5_000_000
    page = open_report(1280)
    assert page.locator("pre").first.inner_text().startswith("# made from Python")
    page.click("summary")
    assert '"batch_size": 30' in page.locator("pre").nth(1).inner_text()
