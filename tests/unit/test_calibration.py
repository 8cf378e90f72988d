import numpy as np
import pytest

from fashion_cnn.evaluation.calibration import (
    apply_temperature,
    brier_score,
    calibration_error,
    fit_temperature,
    fit_threshold,
    log_loss,
    reliability,
)

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 5, 400)
LOGITS = RNG.normal(0, 1.5, (400, 5)) + 2.5 * np.eye(5)[LABELS]
PROBABILITIES = (np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)).astype(np.float32)


def test_brier_and_loss_by_hand():
    probabilities, labels = np.array([[0.7, 0.3], [0.4, 0.6]]), np.array([0, 0])
    assert brier_score(probabilities, labels) == pytest.approx((2 * 0.09 + 2 * 0.36) / 2)
    assert log_loss(probabilities, labels) == pytest.approx(-np.log([0.7, 0.4]).mean())


def test_calibration_error_by_hand():
    # two predictions at 0.9, one correct: gap 0.4; two at 0.6, both correct: gap 0.4
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    labels = np.array([0, 1, 0, 0])
    assert calibration_error(probabilities, labels) == pytest.approx(0.4)
    table = reliability(probabilities, labels, bins=10)
    assert table["count"].tolist() == [0, 0, 0, 0, 0, 0, 2, 0, 0, 2]
    assert table["accuracy"][[6, 9]].tolist() == [1, 0.5]
    assert np.isnan(table["accuracy"][0])
    assert calibration_error(np.eye(2), np.array([0, 1])) == 0  # a probability of 1 has a bin


def test_temperature_scaling_is_a_softmax_of_scaled_logits():
    powers = np.exp(LOGITS / 2.5)
    expected = powers / powers.sum(1, keepdims=True)
    np.testing.assert_allclose(apply_temperature(PROBABILITIES, 2.5), expected, atol=1e-6)
    np.testing.assert_allclose(apply_temperature(PROBABILITIES, 1), PROBABILITIES, atol=1e-6)
    certain = apply_temperature(np.array([[1.0, 0.0]], np.float32), 20)
    assert np.isfinite(certain).all() and 0.9 < certain[0, 0] < 1


@pytest.mark.parametrize("true_temperature", [0.4, 1.0, 3.0])
def test_fit_temperature_recovers_an_applied_temperature(true_temperature):
    distorted = apply_temperature(PROBABILITIES, 1 / true_temperature)
    baseline = fit_temperature(PROBABILITIES, LABELS)
    assert fit_temperature(distorted, LABELS) == pytest.approx(
        baseline * true_temperature, rel=0.01
    )


def test_the_temperature_is_one_if_all_are_correct_or_all_wrong():
    correct = PROBABILITIES.argmax(1) == LABELS
    assert fit_temperature(PROBABILITIES[correct], LABELS[correct]) == 1
    assert fit_temperature(PROBABILITIES[~correct], LABELS[~correct]) == 1


def test_calibration_never_increases_the_loss_it_is_fitted_on():
    for temperature in (0.2, 0.7, 1.0, 4.0):
        distorted = apply_temperature(PROBABILITIES, temperature)
        calibrated = apply_temperature(distorted, fit_temperature(distorted, LABELS))
        assert log_loss(calibrated, LABELS) <= log_loss(distorted, LABELS) + 1e-9
        assert (calibrated.argmax(1) == distorted.argmax(1)).all()


def test_the_threshold_is_the_lowest_that_reaches_the_accuracy():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.55, 0.45]])
    labels = np.array([0, 0, 1, 0, 0])
    assert fit_threshold(probabilities, labels, 0.99) == 0.8
    assert fit_threshold(probabilities, labels, 0.8) == 0.55
    assert fit_threshold(probabilities, 1 - labels, 0.99) == 1
    threshold = fit_threshold(PROBABILITIES, LABELS, 0.95)
    sure = PROBABILITIES.max(1) >= threshold
    assert (PROBABILITIES.argmax(1) == LABELS)[sure].mean() >= 0.95
