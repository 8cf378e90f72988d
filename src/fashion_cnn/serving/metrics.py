"""What has been asked and answered, counted for Prometheus."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
SAMPLED = 64  # images of a request whose brightness is counted
BRIGHTNESS = tuple(range(0, 256, 16))


class Metrics:
    """Counters and histograms of one process; of all its workers if `shared`.

    Those of one `replica` of many have its name as a label, so that whoever asks now this one and
    now that one can tell them apart, and add them up.
    """

    def __init__(self, shared: bool = False, replica: str = "") -> None:
        registry = CollectorRegistry()
        self._registry: Any = registry
        if shared:  # each worker writes to files; any of them adds all up
            self._registry = CollectorRegistry()
            MultiProcessCollector(self._registry)
        if replica:
            self._registry = CollectorRegistry()
            self._registry.register(_Named(registry, replica))
        self._requests = Counter(
            "fashion_cnn_requests",
            "Answers, refusals among them.",
            ["path", "status"],
            registry=registry,
        )
        self._latency = Histogram(
            "fashion_cnn_request_seconds",
            "From the request's head to the end of its answer.",
            ["path"],
            buckets=SECONDS,
            registry=registry,
        )
        self._classes = Counter(
            "fashion_cnn_predictions",
            "Pictures by what they were said to be.",
            ["label"],
            registry=registry,
        )
        self._verdicts = Counter(
            "fashion_cnn_verdicts", "Photos by verdict.", ["verdict"], registry=registry
        )
        self._brightness = Histogram(
            "fashion_cnn_input_brightness",
            "Mean of the pixels that the network saw, 0..255: when it moves, so has the data.",
            buckets=BRIGHTNESS,
            registry=registry,
        )

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(path, status).inc()
        self._latency.labels(path).observe(seconds)

    def seen(
        self, images: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
    ) -> None:
        """Count pictures, uint8 (n, height, width, channels), and what they were said to be."""
        counts = np.bincount(probabilities.argmax(1), minlength=len(class_names))
        for name, count in zip(class_names, counts, strict=True):
            if count:
                self._classes.labels(name).inc(int(count))
        for mean in images[:SAMPLED].mean((1, 2, 3)):
            self._brightness.observe(mean)

    def said(self, verdict: str) -> None:
        """Count a photo's verdict."""
        self._verdicts.labels(verdict or "none").inc()

    def text(self) -> tuple[bytes, str]:
        """All of it, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class _Named(Collector):
    """What a registry has, with one label more."""

    def __init__(self, registry: CollectorRegistry, replica: str) -> None:
        self._registry, self._label = registry, {"replica": replica}

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            samples = [x._replace(labels=x.labels | self._label) for x in metric.samples]
            metric.samples = samples
            yield metric
