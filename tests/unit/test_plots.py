import matplotlib
import numpy as np
import pytest
from PIL import Image

from fashion_cnn.report import charts, draw_samples, plots, sheets
from fashion_cnn.report.results import RunResults

HISTORY = {
    "epoch": [1.0, 2.0],
    "loss": [0.5, 0.3],
    "val_loss": [0.4, 0.35],
    "accuracy": [0.8, 0.9],
    "val_accuracy": [0.85, 0.88],
}


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
@pytest.mark.parametrize("held_out", ["Validation", "Test"])
def test_curves_are_titled_and_labeled_as_in_the_textbook(metric, held_out):
    ax = plots.curves(HISTORY, metric, held_out).axes[0]
    name = metric.capitalize()
    assert ax.get_title(loc="left") == f"Training and {held_out} {name}"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Epochs", name)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [f"Training {name}", f"{held_out} {name}"]
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), HISTORY[f"val_{metric}"])


def test_epoch_axis_has_no_fractions():
    history = {key: values[:1] for key, values in HISTORY.items()}
    ax = plots.curves(history, "accuracy").axes[0]
    low, high = ax.get_xlim()
    assert [tick for tick in ax.get_xticks() if low <= tick <= high] == [1]


def small_results(**changes):
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.6, 0.4]] * 10, np.float32)
    labels = np.array([0, 1, 1, 0] * 10)
    images = np.zeros((40, 28, 28), np.uint8)
    values = {"history": HISTORY, "held_out": "Validation", "metrics": {"temperature": 2.0}}
    arrays = {"images": images, "labels": labels, "probabilities": probabilities}
    arrays["train_images"] = images
    return RunResults(**{**values, **arrays, "class_names": ("cat", "dog"), **changes})


def test_reliability_legend_covers_no_bar():
    figure = plots.reliability_diagram(small_results())
    figure.canvas.draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert len(figure.axes) == 2  # before and after temperature scaling
    for ax in figure.axes:
        assert not box.overlaps(ax.get_window_extent())
        assert ax.title.get_window_extent().y1 <= figure.bbox.y1


def test_mistakes_come_most_confident_first():
    results = small_results()
    assert results.by_confidence[:3].tolist() == [0, 4, 8]
    assert results.mistakes.tolist() == list(range(1, 40, 4))
    flawless = small_results(labels=results.predicted)
    by_name = {chart.name: chart for chart in charts.CHARTS}
    assert by_name["confident_mistakes"].applies(results)
    assert not by_name["confident_mistakes"].applies(flawless)
    assert not by_name["gradcam"].applies(results)


def test_every_run_gets_four_charts_and_names_are_unique():
    names = [chart.name for chart in charts.CHARTS if chart.in_every_run]
    assert names == ["accuracy", "loss", "confusion_matrix", "predictions"]
    assert len({chart.name for chart in charts.CHARTS}) == len(charts.CHARTS)


def test_wrong_predictions_are_marked_with_the_true_class():
    images = np.zeros((2, 28, 28), np.uint8)
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2]])
    figure = sheets.predictions(images, np.array([0, 1]), probabilities, ("cat", "dog"))
    right, wrong = figure.axes[:2]
    assert (right.get_title(), right.get_xlabel()) == ("cat 90%", "")
    assert (wrong.get_title(), wrong.get_xlabel()) == ("✗ cat 80%", "true: dog")
    assert "1 correct, 1 wrong" in figure.get_suptitle()


def test_nearest_training_images_are_beside_the_test_image():
    arrays = {"least_similar": np.array([2, 1]), "nearest_train": np.array([[3, 4, 5], [6, 7, -1]])}
    arrays["nearest_cosine"] = np.array([[0.91, 0.5, -0.2], [0.8, 0.7, 0.9]])
    results = small_results(nearest=arrays)
    axes = sheets.nearest_images(results).axes
    titles = [ax.get_title() for ax in axes if ax.get_visible()]
    assert titles[:4] == ["dog 80%", "training, 0.91", "training, 0.50", "training, -0.20"]
    assert titles[4:] == ["✗ cat 70%", "training, 0.80", "training, 0.70"]  # no third one
    by_name = {chart.name: chart for chart in charts.CHARTS}
    assert by_name["nearest_training"].applies(results)
    assert not by_name["nearest_training"].applies(small_results())


def test_confusion_matrix_shows_every_count_that_is_not_zero():
    figure = plots.confusion(np.array([[5, 1], [0, 4]]), ("cat", "dog"))
    assert [text.get_text() for text in figure.axes[0].texts] == ["5", "1", "4"]


def test_samples_are_written_without_changing_the_matplotlib_settings(tiny_data, tmp_path):
    before = dict(matplotlib.rcParams)
    path = draw_samples(tiny_data, tmp_path / "sheet.png")
    assert dict(matplotlib.rcParams) == before
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width > 1000


def test_a_class_without_test_images_has_no_bar():
    rows = {
        "cat": {"recall": 0.5, "precision": 1.0, "support": 2},
        "bird": {"recall": None, "precision": None, "support": 0},
        "dog": {"recall": 0.0, "precision": None, "support": 1},
    }
    (ax,) = plots.per_class(small_results(metrics={"test_per_class": rows})).axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["dog", "cat"]
    assert [text.get_text() for text in ax.texts] == ["0.0%", "50.0%"]
