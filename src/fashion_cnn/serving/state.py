"""What all requests share: the model, the queue and the metrics."""

import gc
import os
import time
from pathlib import Path

import numpy as np

from fashion_cnn import machine
from fashion_cnn.console import error_line
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.serving.metrics import Metrics, expected_shares
from fashion_cnn.serving.queue import MIN_TIMED_BATCH, InferenceQueue, Overloaded
from fashion_cnn.serving.settings import Settings

TRIAL_IMAGES = 2  # in one batch, which a model must be able to predict before it is served


def served_name(model: str) -> str:
    """The name that clients use: that of the path as it was given, also if it is a link."""
    return Path(os.path.abspath(os.path.expanduser(model))).name.removesuffix(".onnx")


def load_model(model: str, settings: Settings) -> Classifier:
    """Load a model into the runtime of the settings, and predict two images with it.

    Raises:
        FileNotFoundError: there is no such model.
        ModuleNotFoundError: the runtime is not installed.
        ValueError: not a valid model, or its outputs are no probabilities.
    """
    classifier = Classifier.load(model, 1, settings.runtime, settings.precision)
    images = np.zeros((TRIAL_IMAGES, *classifier.shape), np.uint8)
    images[1:] = np.random.default_rng(0).integers(0, 256, images[1:].shape)
    try:
        rows, _ = classifier.outputs(images)
    except Exception as error:  # the runtime has its own exception types
        reason = error_line(error)
        raise ValueError(f"{model}: cannot predict {len(images)} images ({reason})") from None
    if rows.shape != (len(images), len(classifier.card["class_names"])):
        raise ValueError(f"{model}: got outputs of shape {rows.shape} for {len(images)} images")
    if not (np.isfinite(rows).all() and np.allclose(rows.sum(1), 1, atol=0.01)):
        raise ValueError(f"{model}: its outputs are no probabilities, but {rows[0, :3]} …")
    return classifier


class ServerState:
    """The loaded model, the inference queue and the metrics."""

    def __init__(
        self, name: str, classifier: Classifier, metrics: Metrics, workers: int = 1
    ) -> None:
        self.name, self.metrics = name, metrics
        self.queue = InferenceQueue(_seconds_per_image(classifier), machine.cores() / workers)
        self.draining = False  # while it shuts down, it still responds, but is not ready
        self.replace_model(classifier)

    def overload(self) -> Overloaded | None:
        """Why new work is refused now; None if it is not."""
        return Overloaded(self.queue.pending_seconds) if self.queue.is_full else None

    def count_response(self, route: str, status: int, seconds: float) -> None:
        self.metrics.count_response(route, status, seconds)

    def replace_model(self, classifier: Classifier) -> None:
        self.metrics.expected_shares = expected_shares(classifier.card)
        self.classifier = classifier


def collect_garbage_rarely() -> None:
    """Keep garbage collection from pausing a server that has loaded everything."""
    gc.collect()
    gc.freeze()  # else each full collection takes 20 ms
    gc.set_threshold(100_000, 50, 50)  # a body of JSON makes millions of lists, and no cycles


def _seconds_per_image(classifier: Classifier) -> float:
    """Measured on one batch, after a first one that warms the network up."""
    images = np.zeros((MIN_TIMED_BATCH, *classifier.shape), np.uint8)
    classifier.probabilities(images)
    started = time.perf_counter()
    classifier.probabilities(images)
    return (time.perf_counter() - started) / MIN_TIMED_BATCH
