import dataclasses

import numpy as np
import pytest

from fashion_cnn.evaluation.prediction_sets import (
    COVERAGES,
    fit_prediction_sets,
    measure_prediction_sets,
)
from fashion_cnn.inference.classifier import Classifier


def draw(rng, count, classes=6):
    """Probabilities of a network that is right on about two thirds of its images, and labels."""
    labels = rng.integers(0, classes, count)
    logits = rng.normal(size=(count, classes)) + 2 * np.eye(classes)[labels]
    powers = np.exp(2 * logits)
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32), labels


def test_sets_cover_what_they_promise_and_hardly_more():
    """On average over calibrations: their coverage for one is itself random (beta-distributed)."""
    rng, calibration_size, rounds = np.random.default_rng(0), 119, 300
    shares = {str(coverage): [] for coverage in COVERAGES}
    for _ in range(rounds):
        least = fit_prediction_sets(*draw(rng, calibration_size))
        for coverage, row in measure_prediction_sets(*draw(rng, 500), least).items():
            shares[coverage].append(row["coverage"])
    for coverage, measured in shares.items():
        error = np.std(measured) / rounds**0.5
        assert np.mean(measured) >= float(coverage) - 4 * error
        assert np.mean(measured) <= float(coverage) + 1 / (calibration_size + 1) + 4 * error


@pytest.mark.parametrize(
    ("images", "largest"), [(3, None), (4, "0.8"), (18, "0.9"), (19, "0.95"), (98, "0.95")]
)
def test_few_images_suffice_for_low_coverages_only(images, largest):
    least = fit_prediction_sets(*draw(np.random.default_rng(0), images))
    assert list(least)[-1:] == ([largest] if largest else [])
    assert list(fit_prediction_sets(*draw(np.random.default_rng(0), 99))) == [*map(str, COVERAGES)]


def test_sets_by_hand():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.4, 0.35, 0.25]], np.float32)
    measured = measure_prediction_sets(probabilities, np.array([1, 2]), {"0.8": 0.3, "0.9": 0.9})
    assert measured["0.8"] == {"coverage": 0.5, "mean_size": 2}
    assert measured["0.9"] == {"coverage": 0, "mean_size": 1}  # at least the most probable class
    least = fit_prediction_sets(np.repeat(probabilities, 2, 0), np.array([0, 0, 0, 1]))
    assert least == {"0.8": pytest.approx(0.35)}


def test_the_set_of_a_prediction(exported_run, random_data):
    classifier = Classifier.load(exported_run.folder)
    assert list(classifier.card["prediction_sets"]) == ["0.8", "0.9"]  # of 15 validation images
    prediction = classifier.predict(random_data.test_images[0])
    chosen = {"a": 0.5, "b": 0.3, "Ü": 0.15, "<c>": 0.05}
    prediction = dataclasses.replace(prediction, label="a", probability=0.5, probabilities=chosen)
    classifier.card["prediction_sets"] = {"0.8": 0.15, "0.9": 0.6}
    assert classifier.prediction_set(prediction, 0.8) == {"a": 0.5, "b": 0.3, "Ü": 0.15}
    assert classifier.prediction_set(prediction, 0.9) == {"a": 0.5}
    with pytest.raises(
        ValueError, match=r"got 0\.95; available: 0\.8, 0\.9 \(the model has 15 val"
    ):
        classifier.prediction_set(prediction, 0.95)
    with pytest.raises(ValueError, match="available: none"):
        Classifier.load("photo").prediction_set(prediction, 0.9)
