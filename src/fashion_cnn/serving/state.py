"""What all requests share: the model, the queue, and the metrics for Prometheus."""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.serving.queue import MIN_TIMED_BATCH, InferenceQueue

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)  # seconds
MAX_BRIGHTNESS_SAMPLES = 64  # images of one request whose brightness is recorded


class Metrics(Collector):
    """The metrics of one process, or of all worker processes if they are `shared`."""

    def __init__(self, shared: bool = False, replica: str = "") -> None:
        registry = CollectorRegistry()
        self._source: Any = MultiProcessCollector(None) if shared else registry
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
        text = "Classified photos by verdict: sure, unsure, unknown, or none without thresholds."
        self._verdicts = counter("verdicts", text, ["verdict"])
        text = (
            "Mean pixel value (0 to 255) of the network's input; a shift means that the data "
            "has changed."
        )
        self._brightness = histogram("input_brightness", text, buckets=range(0, 256, 16))

    def count_response(self, path: str, status: int, seconds: float) -> None:
        self._requests.labels(path, status).inc()
        self._latency.labels(path).observe(seconds)

    def count_images(
        self, images: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
    ) -> None:
        """Count images, uint8 (n, height, width, channels), and their predicted classes."""
        counts = np.bincount(probabilities.argmax(1), minlength=len(class_names))
        for name, count in zip(class_names, counts, strict=True):
            if count:
                self._predictions.labels(name).inc(int(count))
        for mean in images[:MAX_BRIGHTNESS_SAMPLES].mean((1, 2, 3)):
            self._brightness.observe(mean)

    def count_verdict(self, verdict: str) -> None:
        self._verdicts.labels(verdict or "none").inc()

    def collect(self) -> Iterator[Metric]:
        """All metrics, for `generate_latest`."""
        for metric in self._source.collect():
            metric.samples = [x._replace(labels=x.labels | self._labels) for x in metric.samples]
            yield metric


class ServerState:
    """The loaded model, the inference queue and the metrics."""

    def __init__(self, name: str, classifier: Classifier, metrics: Metrics) -> None:
        self.name, self.classifier, self.metrics = name, classifier, metrics
        self.queue = InferenceQueue(_seconds_per_image(classifier))
        self.draining = False  # while it shuts down, it still responds, but is not ready


def _seconds_per_image(classifier: Classifier) -> float:
    """Measured on one batch, after a first one that warms the network up."""
    images = np.zeros((MIN_TIMED_BATCH, *classifier.shape), np.uint8)
    classifier.probabilities(images)
    started = time.perf_counter()
    classifier.probabilities(images)
    return (time.perf_counter() - started) / MIN_TIMED_BATCH
