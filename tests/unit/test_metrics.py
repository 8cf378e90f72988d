import numpy as np
import pytest
from sklearn import metrics as theirs

from fashion_cnn.evaluation.calibration import (
    apply_temperature,
    brier_score,
    calibration_error,
    fit_temperature,
    fit_threshold,
    log_loss,
    reliability,
)
from fashion_cnn.evaluation.metrics import accuracy_interval, classification_metrics, coverage

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 5, 400)
SCORES = RNG.normal(0, 1.5, (400, 5)) + 2.5 * np.eye(5)[LABELS]
PROBABILITIES = (np.exp(SCORES) / np.exp(SCORES).sum(1, keepdims=True)).astype(np.float32)


def test_figures_are_scikit_learns():
    found = classification_metrics(PROBABILITIES, LABELS)
    predicted = PROBABILITIES.argmax(1)
    exact = PROBABILITIES.astype(float) / PROBABILITIES.sum(1, keepdims=True, dtype=float)
    assert found["accuracy"] == theirs.accuracy_score(LABELS, predicted)
    assert found["loss"] == pytest.approx(theirs.log_loss(LABELS, exact), rel=1e-6)
    assert found["top2_accuracy"] == theirs.top_k_accuracy_score(LABELS, PROBABILITIES, k=2)
    ours = [row["f1"] for row in found["per_class"].values()]
    assert ours == pytest.approx(theirs.f1_score(LABELS, predicted, average=None))
    each = [theirs.brier_score_loss(k == LABELS, exact[:, k]) for k in range(5)]
    assert found["brier"] == pytest.approx(sum(each), rel=1e-5)


def test_brier_and_loss_by_hand():
    probabilities, labels = np.array([[0.7, 0.3], [0.4, 0.6]]), np.array([0, 0])
    assert brier_score(probabilities, labels) == pytest.approx((2 * 0.09 + 2 * 0.36) / 2)
    assert log_loss(probabilities, labels) == pytest.approx(-np.log([0.7, 0.4]).mean())


def test_calibration_error_by_hand():
    # two answers at 0.9, one right: off by 0.4; two at 0.6, both right: off by 0.4
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    labels = np.array([0, 1, 0, 0])
    assert calibration_error(probabilities, labels) == pytest.approx(0.4)
    found = reliability(probabilities, labels, bins=10)
    assert found["count"].tolist() == [0, 0, 0, 0, 0, 0, 2, 0, 0, 2]
    assert found["accuracy"][[6, 9]].tolist() == [1, 0.5]
    assert np.isnan(found["accuracy"][0])
    assert calibration_error(np.eye(2), np.array([0, 1])) == 0  # a probability of 1 has a bin


def test_a_temperature_is_a_softmax_of_scores_over_it():
    warm = np.exp(SCORES / 2.5)
    expected = warm / warm.sum(1, keepdims=True)
    np.testing.assert_allclose(apply_temperature(PROBABILITIES, 2.5), expected, atol=1e-6)
    np.testing.assert_allclose(apply_temperature(PROBABILITIES, 1), PROBABILITIES, atol=1e-6)
    certain = apply_temperature(np.array([[1.0, 0.0]], np.float32), 20)
    assert np.isfinite(certain).all() and 0.9 < certain[0, 0] < 1


@pytest.mark.parametrize("true_temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(true_temperature):
    spoilt = apply_temperature(PROBABILITIES, 1 / true_temperature)
    own = fit_temperature(PROBABILITIES, LABELS)
    assert fit_temperature(spoilt, LABELS) == pytest.approx(own * true_temperature, rel=0.01)


def test_images_that_cannot_tell_leave_the_temperature_at_one():
    right = PROBABILITIES.argmax(1) == LABELS
    assert fit_temperature(PROBABILITIES[right], LABELS[right]) == 1
    assert fit_temperature(PROBABILITIES[~right], LABELS[~right]) == 1


def test_calibrating_never_raises_the_loss_it_is_fitted_on():
    for sharpness in (0.2, 0.7, 1.0, 4.0):
        spoilt = apply_temperature(PROBABILITIES, sharpness)
        with_temperature = apply_temperature(spoilt, fit_temperature(spoilt, LABELS))
        assert log_loss(with_temperature, LABELS) <= log_loss(spoilt, LABELS) + 1e-9
        assert (with_temperature.argmax(1) == spoilt.argmax(1)).all()


def test_the_threshold_is_the_lowest_that_is_sure_enough():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.55, 0.45]])
    labels = np.array([0, 0, 1, 0, 0])
    assert fit_threshold(probabilities, labels, 0.99) == 0.8
    assert fit_threshold(probabilities, labels, 0.8) == 0.55
    assert fit_threshold(probabilities, 1 - labels, 0.99) == 1
    found = fit_threshold(PROBABILITIES, LABELS, 0.95)
    sure = PROBABILITIES.max(1) >= found
    assert (PROBABILITIES.argmax(1) == LABELS)[sure].mean() >= 0.95


def test_calibrated_figures_come_with_a_temperature():
    plain = classification_metrics(PROBABILITIES, LABELS)
    found = classification_metrics(PROBABILITIES, LABELS, temperature=2.0)
    with_temperature = classification_metrics(apply_temperature(PROBABILITIES, 2.0), LABELS)
    assert {key: found[key] for key in plain} == plain
    assert found["calibrated_loss"] == with_temperature["loss"]
    assert found["calibrated_ece"] == with_temperature["ece"]
    assert found["calibrated_brier"] == with_temperature["brier"]


def test_the_interval_by_hand():
    # Wilson's, 8 of 10: Agresti and Coull (1998) give 0.490 to 0.943
    assert accuracy_interval(8, 10) == pytest.approx((0.490, 0.943), abs=5e-4)
    assert accuracy_interval(10, 10)[1] == 1


def test_coverage_answers_the_surest_first():
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    share, accuracy = coverage(probabilities, np.array([1, 0, 0, 0]))
    assert share.tolist() == [0.25, 0.5, 0.75, 1]
    assert accuracy == pytest.approx([1, 1, 2 / 3, 0.5])
    rows = classification_metrics(PROBABILITIES, LABELS)["coverage"]
    assert [row["share"] for row in rows] == [1, 0.95, 0.9, 0.8, 0.7, 0.5]
    assert rows[0]["accuracy"] == (PROBABILITIES.argmax(1) == LABELS).mean()


def test_most_confused_are_counted_without_the_diagonal():
    labels = np.array([0, 0, 0, 1, 2])
    probabilities = np.eye(3)[[1, 1, 0, 2, 2]]
    found = classification_metrics(probabilities, labels, ("a", "b", "c"))["most_confused"]
    assert found == [
        {"true": "a", "predicted": "b", "count": 2},
        {"true": "b", "predicted": "c", "count": 1},
    ]
