"""Counters and histograms of requests and predictions, for Prometheus."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)  # seconds
BRIGHTNESS_BUCKETS = tuple(range(0, 256, 16))
MAX_BRIGHTNESS_SAMPLES = 64  # images of one request whose brightness is recorded


class Metrics:
    """The metrics of one process.

    Args:
        shared: whether worker processes add up their metrics, which are then in files.
        replica: on a cluster, the value of the label `replica`: each scrape reaches any one of the
            replicas, and the label tells them apart.
    """

    def __init__(self, shared: bool = False, replica: str = "") -> None:
        registry = CollectorRegistry()
        self._registry: Any = registry
        if shared:
            self._registry = CollectorRegistry()
            MultiProcessCollector(self._registry)
        if replica:
            self._registry = CollectorRegistry()
            self._registry.register(_WithReplicaLabel(registry, replica))
        self._requests = Counter(
            "fashion_cnn_requests",
            "HTTP responses by path and status, including refused requests.",
            ["path", "status"],
            registry=registry,
        )
        self._latency = Histogram(
            "fashion_cnn_request_seconds",
            "Time from the headers of a request to the end of its response, in seconds.",
            ["path"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._predictions = Counter(
            "fashion_cnn_predictions",
            "Classified images by predicted class.",
            ["label"],
            registry=registry,
        )
        self._verdicts = Counter(
            "fashion_cnn_verdicts",
            "Classified photos by verdict: sure, unsure, or none if the model has no threshold.",
            ["verdict"],
            registry=registry,
        )
        self._brightness = Histogram(
            "fashion_cnn_input_brightness",
            "Mean pixel value (0 to 255) of the network's input; a shift means that the data "
            "has changed.",
            buckets=BRIGHTNESS_BUCKETS,
            registry=registry,
        )

    def count_response(self, path: str, status: int, seconds: float) -> None:
        """Count one HTTP response."""
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
        """Count the verdict on one photo."""
        self._verdicts.labels(verdict or "none").inc()

    def export(self) -> tuple[bytes, str]:
        """All metrics in Prometheus' text format, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class _WithReplicaLabel(Collector):
    """The metrics of another registry, with a label `replica` added."""

    def __init__(self, registry: CollectorRegistry, replica: str) -> None:
        self._registry, self._label = registry, {"replica": replica}

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [x._replace(labels=x.labels | self._label) for x in metric.samples]
            yield metric
