import numpy as np
import pytest

from fashion_cnn.evaluation.metrics import classification_metrics

PROBABILITIES = np.array([[0.7, 0.3], [0.4, 0.6], [0.2, 0.8], [0.9, 0.1]], np.float32)
LABELS = np.array([0, 0, 1, 0])


def test_metrics_by_hand():
    found = classification_metrics(PROBABILITIES, LABELS, ("cat", "dog"))
    assert found["accuracy"] == 0.75
    assert found["loss"] == pytest.approx(-np.log([0.7, 0.4, 0.8, 0.9]).mean(), rel=1e-6)
    assert found["examples"] == 4
    assert found["confusion_matrix"] == [[2, 1], [0, 1]]
    assert found["per_class"]["cat"] == {
        "precision": 1.0,
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(0.8),
        "support": 3,
    }
    assert found["per_class"]["dog"]["precision"] == 0.5


def test_a_class_that_never_comes_has_zeros():
    found = classification_metrics(PROBABILITIES[:1], LABELS[:1])
    assert found["per_class"]["1"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}


@pytest.mark.parametrize("labels", [LABELS[:3], LABELS[:0]])
def test_shapes_that_do_not_fit_are_refused(labels):
    with pytest.raises(ValueError, match="expected"):
        classification_metrics(PROBABILITIES[: len(labels) and 4], labels)
