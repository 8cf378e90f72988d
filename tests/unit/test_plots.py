import matplotlib
import numpy as np
import pytest
from PIL import Image

from fashion_cnn.report import draw_samples, plots, sheets

HISTORY = {
    "epoch": [1.0, 2.0],
    "loss": [0.5, 0.3],
    "val_loss": [0.4, 0.35],
    "accuracy": [0.8, 0.9],
    "val_accuracy": [0.85, 0.88],
}


@pytest.mark.parametrize("what", ["accuracy", "loss"])
@pytest.mark.parametrize("held_out", ["Validation", "Test"])
def test_curves_are_titled_and_labelled_as_in_the_textbook(what, held_out):
    axis = plots.curves(HISTORY, what, held_out).axes[0]
    shown = what.capitalize()
    assert axis.get_title(loc="left") == f"Training and {held_out} {shown}"
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("Epochs", shown)
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels == [f"Training {shown}", f"{held_out} {shown}"]
    np.testing.assert_array_equal(axis.lines[1].get_ydata(), HISTORY[f"val_{what}"])


def test_wrong_predictions_are_marked_with_the_truth():
    images = np.zeros((2, 28, 28), np.uint8)
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2]])
    figure = sheets.predictions(images, np.array([0, 1]), probabilities, ("cat", "dog"))
    right, wrong = figure.axes[:2]
    assert (right.get_title(), right.get_xlabel()) == ("cat 90%", "")
    assert (wrong.get_title(), wrong.get_xlabel()) == ("✗ cat 80%", "is dog")
    assert "1 right, 1 wrong" in figure.get_suptitle()


def test_confusion_shows_every_count_that_is_not_zero():
    figure = plots.confusion(np.array([[5, 1], [0, 4]]), ("cat", "dog"))
    assert [text.get_text() for text in figure.axes[0].texts] == ["5", "1", "4"]


def test_sheet_is_written_and_the_readers_style_is_left_alone(tiny_data, tmp_path):
    before = dict(matplotlib.rcParams)
    path = draw_samples(tiny_data, tmp_path / "sheet.png")
    assert dict(matplotlib.rcParams) == before
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000
