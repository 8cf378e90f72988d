"""What the server has answered, for Prometheus: counters, and gauges of recent predictions."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.inference.prediction import verdict_name

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)  # seconds
MAX_BRIGHTNESS_SAMPLES = 64  # images of one request whose brightness is recorded
RECENT = 1000  # predictions that the gauges of recent predictions are about

Outputs = tuple[np.ndarray, np.ndarray]  # of `Classifier.outputs`


class Recent:
    """Gauges of the last predictions: counts by class and verdict, the sum of probabilities."""

    def __init__(self, registry: CollectorRegistry, size: int) -> None:
        mode: Any = "livesum"  # over the processes that are alive
        gauge = partial(Gauge, namespace="fashion_cnn", registry=registry, multiprocess_mode=mode)
        size_text = f"of the last {RECENT:,} predictions"
        self.label = gauge("recent_label_count", f"Predicted classes {size_text}.", ["label"])
        self.verdict = gauge("recent_verdict_count", f"Verdicts {size_text}.", ["verdict"])
        self.probability = gauge("recent_probability_sum", f"Sum of probabilities {size_text}.")
        self._window: deque[tuple[str, str, float]] = deque()
        self._size = size

    def add(self, predictions: Sequence[tuple[str, str, float]]) -> None:
        """Count label, verdict and probability of new predictions, and forget as many old ones."""
        window = self._window
        window.extend(predictions)
        forgotten = [window.popleft() for _ in range(len(window) - self._size)]
        for number, changed in ((1, predictions), (-1, forgotten)):
            if changed:
                labels, verdicts, probabilities = zip(*changed, strict=True)
                count_all(self.label, labels, number)
                count_all(self.verdict, verdicts, number)
                self.probability.inc(number * sum(probabilities))


def count_all(metric: Any, names: Sequence[str], number: int = 1) -> None:
    """Add `number` for each of these values of a metric's only label."""
    for name in set(names):
        metric.labels(name).inc(number * names.count(name))


class Metrics(Collector):
    """The metrics of one process, or of all worker processes."""

    def __init__(self, workers: int = 1, replica: str = "") -> None:
        registry = CollectorRegistry()
        self._source: Any = MultiProcessCollector(None) if workers > 1 else registry
        # each scrape reaches any one of a cluster's replicas; the label tells them apart
        self._labels = {"replica": replica} if replica else {}
        counter = partial(Counter, namespace="fashion_cnn", registry=registry)
        histogram = partial(Histogram, namespace="fashion_cnn", registry=registry)
        text = "HTTP responses by path and status, including refused requests."
        self._requests = counter("requests", text, ["path", "status"])
        text = "Time from the headers of a request to the end of its response, in seconds."
        self._latency = histogram("request_seconds", text, ["path"], buckets=LATENCY_BUCKETS)
        text = "Classified images by predicted class."
        self._predictions = counter("predictions", text, ["label"])
        text = "Classified images by verdict: sure, unsure, unknown, or none without thresholds."
        self._verdicts = counter("verdicts", text, ["verdict"])
        text = (
            "Mean pixel value (0 to 255) of the network's input; a shift means that the data "
            "has changed."
        )
        self._brightness = histogram("input_brightness", text, buckets=range(0, 256, 16))
        self._recent = Recent(registry, max(1, RECENT // workers))
        self.expected_shares: Mapping[str, float] = {}  # of the classes, by the model's card

    def count_response(self, path: str, status: int, seconds: float) -> None:
        self._requests.labels(path, status).inc()
        self._latency.labels(path).observe(seconds)

    def count_images(
        self, classifier: Classifier, images: np.ndarray, outputs: Outputs, note: str = ""
    ) -> None:
        """Count images and their predictions.

        Args:
            classifier: that made them.
            images: uint8 (n, height, width, channels).
            outputs: what `classifier.outputs(images)` returned.
            note: a warning about the images.
        """
        names, (rows, similarities) = classifier.card["class_names"], outputs
        best, probabilities = rows.argmax(1).tolist(), rows.max(1).tolist()
        labels = [names[k] for k in best]
        judged = map(classifier.judge, probabilities, similarities.tolist(), repeat(note))
        verdicts = [verdict_name(*x) or "none" for x in judged]
        count_all(self._predictions, labels)
        count_all(self._verdicts, verdicts)
        self._recent.add(list(zip(labels, verdicts, probabilities, strict=True))[-RECENT:])
        pixels = images[:MAX_BRIGHTNESS_SAMPLES].reshape(-1, images[0].size)
        for total in pixels.sum(1, dtype=np.uint32).tolist():
            self._brightness.observe(total / images[0].size)

    def collect(self) -> Iterator[Metric]:
        """All metrics, for `generate_latest`."""
        counts: dict[str, dict[str, float]] = {}
        for metric in self._source.collect():
            if metric.name.startswith("fashion_cnn_recent_"):
                samples = {next(iter(x.labels.values()), ""): x.value for x in metric.samples}
                counts[metric.name.removeprefix("fashion_cnn_recent_")] = samples
            else:
                yield self._with_replica(metric)
        yield from map(self._with_replica, recent_metrics(counts, self.expected_shares))

    def _with_replica(self, metric: Metric) -> Metric:
        metric.samples = [x._replace(labels=x.labels | self._labels) for x in metric.samples]
        return metric


def recent_metrics(
    counts: Mapping[str, Mapping[str, float]], expected_shares: Mapping[str, float]
) -> Iterator[Metric]:
    """Shares, the mean probability and the drift of the recent predictions.

    Args:
        counts: `label_count` and `verdict_count` by name, and `probability_sum`, of all processes.
        expected_shares: of each class; nothing if they are not known.
    """
    labels, verdicts = counts.get("label_count", {}), counts.get("verdict_count", {})
    number = sum(labels.values())
    of_recent = f"of the last {RECENT:,} predictions"
    yield _gauge("recent_predictions", "How many predictions the gauges are about.", {"": number})
    if not number:
        return
    text = f"Share {of_recent}, by class."
    yield _gauge("recent_share", text, {k: v / number for k, v in labels.items()}, "label")
    text = f"Share {of_recent}, by verdict."
    shares = {name: count / number for name, count in verdicts.items() if count}
    yield _gauge("recent_verdict_share", text, shares, "verdict")
    text = f"Mean probability of the predicted class {of_recent}."
    yield _gauge("recent_probability", text, {"": counts["probability_sum"][""] / number})
    if expected_shares:
        names = {*labels, *expected_shares}
        differences = (abs(labels.get(k, 0) / number - expected_shares.get(k, 0)) for k in names)
        text = (
            f"Total variation distance between the classes {of_recent} and those that the model "
            "predicted on its test images: 0 if the shares are equal, 1 at most."
        )
        yield _gauge("drift", text, {"": sum(differences) / 2})


def _gauge(name: str, text: str, values: Mapping[str, float], label: str = "") -> Metric:
    metric = GaugeMetricFamily(f"fashion_cnn_{name}", text, labels=[label] if label else None)
    for key, value in values.items():
        metric.add_metric([key] if label else [], value)
    return metric


def expected_shares(card: Mapping[str, Any]) -> dict[str, float]:
    """How often a model predicted each class on its test images; empty if its card lacks it."""
    classes = card["test"].get("per_class") or {}
    counts = {
        name: row["support"] * row["recall"] / row["precision"] if row["precision"] else 0.0
        for name, row in classes.items()
        if row["support"]
    }
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()} if total else {}
