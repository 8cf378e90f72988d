import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from fashion_cnn.evaluation.calibration import apply_temperature
from fashion_cnn.evaluation.metrics import (
    METRICS,
    accuracy_interval,
    classification_metrics,
    coverage,
)

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 5, 400)
LOGITS = RNG.normal(0, 1.5, (400, 5)) + 2.5 * np.eye(5)[LABELS]
PROBABILITIES = (np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)).astype(np.float32)
FOUR_PROBABILITIES = np.array([[0.7, 0.3], [0.4, 0.6], [0.2, 0.8], [0.9, 0.1]], np.float32)
FOUR_LABELS = np.array([0, 0, 1, 0])


def test_metrics_by_hand():
    metrics = classification_metrics(FOUR_PROBABILITIES, FOUR_LABELS, ("cat", "dog"))
    assert metrics["accuracy"] == 0.75
    assert metrics["loss"] == pytest.approx(-np.log([0.7, 0.4, 0.8, 0.9]).mean(), rel=1e-6)
    assert metrics["examples"] == 4
    assert metrics["confusion_matrix"] == [[2, 1], [0, 1]]
    assert metrics["per_class"]["cat"] == {
        "precision": 1.0,
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(0.8),
        "support": 3,
    }
    assert metrics["per_class"]["dog"]["precision"] == 0.5


def test_a_class_without_images_has_no_metrics_and_is_not_in_the_macro_averages():
    undefined = {"precision": None, "recall": None, "f1": None, "support": 0}
    metrics = classification_metrics(FOUR_PROBABILITIES[:1], FOUR_LABELS[:1])
    assert metrics["per_class"]["1"] == undefined
    assert metrics["macro_accuracy"] == metrics["macro_f1"] == 1
    wrong = classification_metrics(FOUR_PROBABILITIES[1:2], FOUR_LABELS[1:2])  # predicted as it
    assert wrong["per_class"]["1"] == undefined
    assert wrong["per_class"]["0"] == {"precision": None, "recall": 0, "f1": 0, "support": 1}
    assert "NaN" not in json.dumps(wrong)


@pytest.mark.parametrize("labels", [[1, 2], [-1, 0]])
def test_a_label_without_a_class_is_refused(labels):
    with pytest.raises(ValueError, match=rf"got {labels[0]} to {labels[1]}; expected 0 to 1"):
        classification_metrics(FOUR_PROBABILITIES[:2], np.array(labels))


@pytest.mark.parametrize("labels", [FOUR_LABELS[:3], FOUR_LABELS[:0]])
def test_shapes_that_do_not_match_are_refused(labels):
    with pytest.raises(ValueError, match="expected"):
        classification_metrics(FOUR_PROBABILITIES[: len(labels) and 4], labels)


def test_metrics_equal_those_of_scikit_learn():
    metrics = classification_metrics(PROBABILITIES, LABELS)
    predicted = PROBABILITIES.argmax(1)
    exact = PROBABILITIES.astype(float) / PROBABILITIES.sum(1, keepdims=True, dtype=float)
    assert metrics["accuracy"] == sklearn_metrics.accuracy_score(LABELS, predicted)
    assert metrics["loss"] == pytest.approx(sklearn_metrics.log_loss(LABELS, exact), rel=1e-6)
    expected = sklearn_metrics.top_k_accuracy_score(LABELS, PROBABILITIES, k=2)
    assert metrics["top2_accuracy"] == expected
    f1 = [row["f1"] for row in metrics["per_class"].values()]
    assert f1 == pytest.approx(sklearn_metrics.f1_score(LABELS, predicted, average=None))
    per_class = [sklearn_metrics.brier_score_loss(k == LABELS, exact[:, k]) for k in range(5)]
    assert metrics["brier"] == pytest.approx(sum(per_class), rel=1e-5)


def test_every_metric_of_the_table_comes_first_and_in_order():
    metrics = classification_metrics(PROBABILITIES, LABELS)
    assert list(metrics)[: len(METRICS)] == list(METRICS)
    for name, function in METRICS.items():
        assert metrics[name] == function(PROBABILITIES, LABELS)


def test_a_temperature_adds_calibrated_metrics():
    plain = classification_metrics(PROBABILITIES, LABELS)
    metrics = classification_metrics(PROBABILITIES, LABELS, temperature=2.0)
    calibrated = classification_metrics(apply_temperature(PROBABILITIES, 2.0), LABELS)
    assert {key: metrics[key] for key in plain} == plain
    assert metrics["calibrated_loss"] == calibrated["loss"]
    assert metrics["calibrated_ece"] == calibrated["ece"]
    assert metrics["calibrated_brier"] == calibrated["brier"]


def test_the_accuracy_interval_by_hand():
    # Wilson's, 8 of 10: Agresti and Coull (1998) give 0.490 to 0.943
    labels, all_correct = np.arange(10) % 2, np.eye(2)[np.arange(10) % 2]
    eight_correct = np.concatenate([1 - all_correct[:2], all_correct[2:]])
    assert accuracy_interval(eight_correct, labels) == pytest.approx((0.490, 0.943), abs=5e-4)
    assert accuracy_interval(all_correct, labels)[1] == 1


def test_coverage_accepts_the_most_confident_predictions_first():
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    share, accuracy = coverage(probabilities, np.array([1, 0, 0, 0]))
    assert share.tolist() == [0.25, 0.5, 0.75, 1]
    assert accuracy == pytest.approx([1, 1, 2 / 3, 0.5])
    rows = classification_metrics(PROBABILITIES, LABELS)["coverage"]
    assert [row["share"] for row in rows] == [1, 0.95, 0.9, 0.8, 0.7, 0.5]
    assert rows[0]["accuracy"] == (PROBABILITIES.argmax(1) == LABELS).mean()


def test_most_confused_excludes_the_diagonal():
    labels = np.array([0, 0, 0, 1, 2])
    probabilities = np.eye(3)[[1, 1, 0, 2, 2]]
    metrics = classification_metrics(probabilities, labels, ("a", "b", "c"))
    assert metrics["most_confused"] == [
        {"true": "a", "predicted": "b", "count": 2},
        {"true": "b", "predicted": "c", "count": 1},
    ]
