"""What all requests share: the loaded model, the inference queue and the metrics."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from fashion_cnn.inference.classifier import Classifier, model_name
from fashion_cnn.serving.metrics import Metrics
from fashion_cnn.serving.queue import MIN_TIMED_BATCH, InferenceQueue


@dataclass(frozen=True)
class LoadedModel:
    """A model that is served; `version` is the SHA-256 of its file."""

    name: str
    version: str
    classifier: Classifier


def load_model(model: str) -> LoadedModel:
    """Load what `Classifier.load` takes.

    Raises:
        FileNotFoundError, ValueError: there is no such model, or it is invalid.
    """
    classifier = Classifier.load(model, threads=1)  # several batches run in parallel
    return LoadedModel(model_name(model), classifier.sha256, classifier)


def _seconds_per_image(model: LoadedModel) -> float:
    """Measured on one batch, after a first one that warms the network up."""
    images = np.zeros((MIN_TIMED_BATCH, *model.classifier.shape), np.uint8)
    model.classifier.probabilities(images)
    started = time.perf_counter()
    model.classifier.probabilities(images)
    return (time.perf_counter() - started) / MIN_TIMED_BATCH


class ServerState:
    """The loaded model, the inference queue and the metrics.

    Attributes:
        draining: whether the server is shutting down: it still answers, but is not ready.
        tasks: background tasks; asyncio itself keeps only weak references.
    """

    def __init__(self, model: str, shared_metrics: bool = False, replica: str = "") -> None:
        self._name_or_path = model
        self.model = load_model(model)
        self.queue = InferenceQueue(_seconds_per_image(self.model))
        self.metrics = Metrics(shared_metrics, replica)
        self.draining = False
        self.tasks: set[Any] = set()

    def reload(self) -> None:
        """Load the model again; running requests end with the one they began with."""
        self.model = load_model(self._name_or_path)
