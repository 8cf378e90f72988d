"""Unusual runs: all of them are measured, explained and drawn without a warning."""

import dataclasses

import numpy as np
import pytest

from fashion_cnn import train
from fashion_cnn.data import Data
from fashion_cnn.evaluation import explain_run, measure_run
from fashion_cnn.files import write_text
from fashion_cnn.recipes import RECIPES
from fashion_cnn.report import draw_report
from fashion_cnn.report.page import _verdict_text
from fashion_cnn.run import Run

QUICK = dataclasses.replace(RECIPES["textbook"], epochs=1, batch_size=30)


def quarters(shape=(28, 28), classes=4, tests=60, contrast=120):
    """Noise with one bright quarter per class; of more than four classes, some look the same."""
    rng = np.random.default_rng(0)
    labels = np.arange(180 + tests) % classes
    images = rng.integers(0, 100, (len(labels), *shape), dtype=np.uint8)
    height, width = shape[0] // 2, shape[1] // 2
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label) % 4, 2)
        image[height * row : height * (row + 1), width * column : width * (column + 1)] += contrast
    names = tuple(f"class {k}" for k in range(classes))
    return Data(images[:180], labels[:180], images[180:], labels[180:], names)


def with_test_images(data, *index):
    """The same data with a few of its test images."""
    images, labels = data.test_images[[*index]], data.test_labels[[*index]]
    return dataclasses.replace(data, test_images=images, test_labels=labels)


def train_and_report(data, recipe, folder):
    train(recipe, data, folder)
    metrics = measure_run(Run(folder), data)
    explain_run(Run(folder), data)
    page = draw_report(Run(folder), data)[-1]
    return metrics, page.read_text(encoding="utf-8")


CASES = {
    "color, curves of the test set": (
        quarters((40, 30, 3), contrast=20),
        dataclasses.replace(QUICK, validation="test"),
    ),
    "no validation": (quarters(), dataclasses.replace(QUICK, validation="none")),
    "three test images, none of class 2": (with_test_images(quarters(), 0, 1, 3), QUICK),
    "twelve classes": (quarters(classes=12), QUICK),
    "diverged": (quarters(), dataclasses.replace(QUICK, optimizer="sgd", learning_rate=3.0)),
}


SLOW = [pytest.param(case, marks=pytest.mark.slow) for case in CASES if case != "twelve classes"]


@pytest.mark.parametrize("case", ["twelve classes", *SLOW])
def test_every_run_has_a_report(tmp_path, case):
    metrics, page = train_and_report(*CASES[case], tmp_path)
    assert f"{metrics['test_accuracy']:.2%}".replace("%", "\u202f%") in page
    color = case.startswith("color")
    assert (metrics["temperature"] is None) == (color or case == "no validation")
    assert ("at temperature" in page) == (metrics["temperature"] is not None)
    assert "nan" not in page.split("<script>")[0].split("<h2>Charts")[0]
    flawless = metrics["test_accuracy"] == 1
    missing = [name for name, row in metrics["test_per_class"].items() if not row["support"]]
    assert missing == ["class 2"] * case.startswith("three")
    for name in missing:  # no images, so recall is undefined
        assert 'data-value="-1"' in page.split(f"<td>{name}</td>")[1].split("</tr>")[0]
    assert ('class="thumb gray"' in page) == (not color and not flawless)
    assert ('class="thumb"' in page) == (color and not flawless)


def test_a_verdict_that_is_never_right_says_so():
    row = {"examples": 3, "accuracy": 0.0}
    text = _verdict_text("unknown", row, 10).replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert text == "unknown 30.0 % (0.0 % of them correct)"
    assert "correct" not in _verdict_text("unknown", {"examples": 0, "accuracy": None}, 10)


@pytest.mark.slow
def test_a_flawless_run_has_no_mistakes_to_show(tmp_path):
    metrics, page = train_and_report(quarters(), dataclasses.replace(QUICK, epochs=5), tmp_path)
    assert metrics["test_accuracy"] == 1
    assert "Most confident mistakes" not in page and "Most frequent confusions" not in page
    assert not (tmp_path / "confident_mistakes.png").exists()


def test_results_of_an_interrupted_run_are_not_taken_for_final(tmp_path):
    data = quarters()
    train(QUICK, data, tmp_path)
    measure_run(Run(tmp_path), data)
    write_text(tmp_path / "robustness.json", "{}")
    write_text(tmp_path / "report.html", "<title>")
    Run(tmp_path).write_checksums()
    assert {"metrics.json", "robustness.json", "report.html"} <= set(Run(tmp_path).read_checksums())
    train(QUICK, data, tmp_path, resume=True)
    assert not {"metrics.json", "robustness.json", "report.html"} & set(
        Run(tmp_path).read_checksums()
    )
    assert {"recipe.json", "model.keras", "history.csv"} <= set(Run(tmp_path).read_checksums())
    measure_run(Run(tmp_path), data)
    assert Run(tmp_path).metrics()["test_examples"] == 60
    assert not (tmp_path / "robustness.json").exists()
