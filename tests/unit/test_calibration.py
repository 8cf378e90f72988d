import numpy as np
import pytest
from scipy.stats import binomtest

from fashion_cnn.evaluation.calibration import (
    apply_temperature,
    brier_score,
    calibration_error,
    fit_temperature,
    fit_threshold,
    log_loss,
    reliability,
    why_no_threshold,
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


def two_classes(confidence):
    confidence = np.asarray(confidence, np.float32)
    return np.stack([confidence, 1 - confidence], 1)


def test_the_threshold_is_the_lowest_whose_accuracy_is_shown_with_95_percent_confidence():
    # by the rule of three: 0.99**299 <= 0.05 < 0.99**298
    confidence = np.linspace(1, 0.6, 700, dtype=np.float32)
    probabilities, labels = two_classes(confidence), np.zeros(700, int)
    assert fit_threshold(probabilities[:298], labels[:298], 0.99) is None
    assert fit_threshold(probabilities[:299], labels[:299], 0.99) == confidence[298]
    assert fit_threshold(probabilities, labels, 0.99) == confidence[-1]
    labels[500:] = 1
    threshold = fit_threshold(probabilities, labels, 0.99)
    accepted = int((confidence >= threshold).sum())
    wrong = accepted - 500
    assert wrong > 0  # one error among the most confident predictions does not end the search
    for errors, total, is_shown in ((wrong, accepted, True), (wrong + 1, accepted + 1, False)):
        p_value = binomtest(total - errors, total, 0.99, alternative="greater").pvalue
        assert (p_value <= 0.05) == is_shown
    assert fit_threshold(probabilities, 1 + labels, 0.99) is None


def test_a_threshold_never_divides_predictions_of_equal_confidence():
    labels = np.repeat([0, 1], [400, 300])  # the wrong ones come last
    assert fit_threshold(two_classes(np.ones(700)), labels, 0.99) is None
    assert fit_threshold(two_classes(np.repeat([1, 0.9], [400, 300])), labels, 0.99) == 1


def test_the_note_says_why_there_is_no_threshold():
    claim = "that 99 % of the sure predictions are correct, with 95 % confidence"
    assert why_no_threshold(4) == f"4 validation images; at least 299 are needed to show {claim}"
    assert why_no_threshold(5000) == f"the 5,000 validation images do not show {claim}"
    assert "at least 14 are needed to show that 80 %" in why_no_threshold(13, 0.8)
    probabilities = two_classes(np.linspace(1, 0.6, 14))
    assert fit_threshold(probabilities[:13], np.zeros(13, int), 0.8) is None
    assert fit_threshold(probabilities, np.zeros(14, int), 0.8) == np.float32(0.6)
