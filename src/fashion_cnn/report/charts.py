"""`CHARTS`: every chart of a run's report, in the order of the page.

To add one, write a function that takes `RunResults` and returns a figure, and add an entry here.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from fashion_cnn.report import plots, sheets
from fashion_cnn.report.results import RunResults


@dataclass(frozen=True)
class Chart:
    """One chart of the report."""

    name: str  # of its files, without suffix
    title: str  # the heading on the page
    caption: str  # how to read it, for somebody who has never trained a network
    draw: Callable[[RunResults], Figure]
    in_every_run: bool = False  # drawn by `train` even without a report; needs no explanations
    is_sheet: bool = False  # made of images: the page embeds the PNG, not the SVG
    is_wide: bool = False  # takes the full width of the page
    is_inverted: bool = True  # an SVG whose colors the page inverts in dark mode
    applies: Callable[[RunResults], bool] = lambda results: True  # whether there is data for it


CHARTS = (
    Chart(
        "accuracy",
        "Accuracy",
        "The share of images classified correctly after each epoch, one pass over the training "
        "images. If only the training curve keeps rising, the network overfits: it memorizes.",
        lambda results: plots.curves(results.history, "accuracy", results.held_out),
        in_every_run=True,
    ),
    Chart(
        "loss",
        "Loss",
        "The error that training minimizes (cross-entropy). Augmentation, dropout, label "
        "smoothing, distillation and leaving out easy images raise it: compare it only between "
        "runs of the same recipe.",
        lambda results: plots.curves(results.history, "loss", results.held_out),
        in_every_run=True,
    ),
    Chart(
        "learning_rate",
        "Learning rate",
        "How large the steps are in which the optimizer changes the weights.",
        plots.learning_rate,
    ),
    Chart(
        "coverage",
        "Accuracy against coverage (selective prediction)",
        "The accuracy if the network may abstain on the images it is least confident about.",
        plots.coverage_curve,
    ),
    Chart(
        "per_class",
        "Recall and precision",
        "Recall: of the images of a class, the share that is recognized. Precision: of the "
        "predictions of a class, the share that is correct.",
        plots.per_class,
    ),
    Chart(
        "confusion_matrix",
        "Confusion matrix",
        "Rows are true classes, columns predicted ones; counts off the diagonal are mistakes.",
        lambda results: plots.confusion(
            np.array(results.metrics["test_confusion_matrix"]), results.class_names
        ),
        in_every_run=True,
    ),
    Chart(
        "reliability",
        "Calibration (reliability diagram)",
        "Of the predictions with 80 % confidence, 80 % should be correct: each bar should end at "
        "its marker. Temperature scaling, if fitted on validation images, corrects the "
        "confidence and changes no prediction.",
        plots.reliability_diagram,
        is_wide=True,
    ),
    Chart(
        "robustness",
        "Accuracy under corruptions",
        "How much accuracy is lost on test images that are degraded as photos often are.",
        plots.corruption_accuracy,
        is_wide=True,
        is_inverted=False,
    ),
    Chart(
        "predictions",
        "Predictions for the first test images",
        "The predicted class and its probability, for the first images of the test set, not "
        "hand-picked.",
        lambda results: sheets.predictions_at(results, np.arange(len(results.labels))),
        in_every_run=True,
        is_sheet=True,
    ),
    Chart(
        "confident_mistakes",
        "Most confident mistakes",
        "The wrong predictions with the highest probability; sometimes it is the label that is "
        "wrong.",
        lambda results: sheets.predictions_at(results, results.mistakes, "Most confident mistakes"),
        is_sheet=True,
        applies=lambda results: len(results.mistakes) > 0,
    ),
    Chart(
        "uncertain",
        "Least confident predictions",
        "The predictions with the lowest probability, correct or not.",
        lambda results: sheets.predictions_at(
            results, results.by_confidence[::-1], "Least confident predictions"
        ),
        is_sheet=True,
    ),
    Chart(
        "nearest_training",
        "Least similar to the training images",
        "The test images with the lowest similarity to training images of their predicted class. "
        "Beside each are the three training images of that class that the network finds most "
        "similar, with the cosine of their features: 1 is the same. If even these look different, "
        "the image may show something else, or training lacks images like it.",
        sheets.nearest_images,
        is_sheet=True,
        applies=lambda results: len(results.nearest) > 0,
    ),
    Chart(
        "gradcam",
        "Grad-CAM",
        "Which regions of an image the prediction rests on: the more orange, the more "
        "evidence for the predicted class.",
        sheets.gradcam,
        is_sheet=True,
        applies=lambda results: len(results.explanations.get("gradcam_index", ())) > 0,
    ),
    Chart(
        "embedding_map",
        "t-SNE of the embeddings",
        "Each test image is a vector, its embedding, before the last layer classifies it; t-SNE "
        "draws images with similar vectors close together.",
        sheets.embedding_map,
        is_sheet=True,
        is_wide=True,
    ),
)
