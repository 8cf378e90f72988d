"""The gauges of recent predictions: shares, mean probability, and drift."""

import re
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import generate_latest

from fashion_cnn.serving import metrics as metrics_module
from fashion_cnn.serving.metrics import Metrics, expected_shares


class FakeClassifier:
    def __init__(self):
        self.card = {"class_names": ["dress", "hat"]}

    def judge(self, probability, similarity, note):
        return probability >= 0.9 and not note, similarity < 0


def count(metrics, probabilities, similarity=1.0, note=""):
    """Predictions of `dress` with these probabilities; below one half they are of `hat`."""
    rows = np.array([[p, 1 - p] for p in probabilities], np.float32)
    images = np.zeros((len(rows), 2, 2, 1), np.uint8)
    similarities = np.full(len(rows), similarity)
    metrics.count_images(FakeClassifier(), images, (rows, similarities), note)


def values(metrics):
    lines = generate_latest(metrics).decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {key.removeprefix("fashion_cnn_"): float(value) for key, value in pairs}


def test_recent_predictions_are_shares():
    metrics = Metrics()
    metrics.expected_shares = {"dress": 0.5, "hat": 0.5}
    assert values(metrics)["recent_predictions"] == 0
    count(metrics, [0.95, 0.95, 0.6])
    count(metrics, [0.02], similarity=-0.5)
    found = values(metrics)
    assert found["recent_predictions"] == 4
    assert found['recent_share{label="dress"}'] == 0.75
    assert found['recent_verdict_share{verdict="sure"}'] == 0.5
    assert found['recent_verdict_share{verdict="unsure"}'] == 0.25
    assert found['recent_verdict_share{verdict="unknown"}'] == 0.25
    assert found["recent_probability"] == pytest.approx((0.95 + 0.95 + 0.6 + 0.98) / 4)
    assert found["drift"] == 0.25


@pytest.mark.parametrize("page", ["grafana-dashboard.json", "serve.md"])
def test_dashboard_and_alerts_use_metrics_that_exist(page):
    metrics = Metrics()
    metrics.expected_shares = {"dress": 1.0}
    count(metrics, [0.9])
    metrics.count_response("/predict", 200, 0.1)
    existing = {key.partition("{")[0] for key in values(metrics)}
    text = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    named = set(re.findall(r"fashion_cnn_([a-z_]+[a-z])\b", text)) - {"token"}
    assert len(named) > 5
    assert named <= existing | {name.removesuffix("_bucket") for name in existing}


def test_a_note_makes_a_prediction_unsure():
    metrics = Metrics()
    count(metrics, [0.99], note="no garment")
    assert values(metrics)['verdicts_total{verdict="unsure"}'] == 1


def test_only_the_last_predictions_count(monkeypatch):
    monkeypatch.setattr(metrics_module, "RECENT", 10)
    metrics = Metrics()
    metrics.expected_shares = {"dress": 1.0}
    count(metrics, [0.9] * 25)
    assert (values(metrics)["recent_predictions"], values(metrics)["drift"]) == (10, 0)
    count(metrics, [0.1] * 10)
    found = values(metrics)
    assert (found["recent_predictions"], found["drift"]) == (10, 1)
    assert found['recent_share{label="dress"}'] == 0
    assert found["recent_probability"] == pytest.approx(0.9)
    assert found['predictions_total{label="dress"}'] == 25  # of all


def test_without_the_shares_of_a_card_there_is_no_drift():
    metrics = Metrics()
    count(metrics, [0.9])
    assert "drift" not in values(metrics) and "recent_probability" in values(metrics)


def test_the_expected_shares_are_those_of_predictions_on_test_images():
    card = {
        "test": {
            "per_class": {
                # 10 images, of which 5 were predicted; all 10 predictions for hat: half are wrong
                "dress": {"support": 10, "recall": 0.5, "precision": 1.0},
                "hat": {"support": 5, "recall": 1.0, "precision": 0.5},
                "cap": {"support": 2, "recall": 0.0, "precision": 0.0},
                "none": {"support": 0, "recall": None, "precision": None},
            }
        }
    }
    assert expected_shares(card) == {"dress": 5 / 15, "hat": 10 / 15, "cap": 0}
    assert expected_shares({"test": {}}) == {}
