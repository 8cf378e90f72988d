"""What all requests share: the model of the moment, the line before it, and the counters."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from fashion_cnn.inference.classifier import Classifier, model_name
from fashion_cnn.serving.metrics import Metrics
from fashion_cnn.serving.protocol import Tensors
from fashion_cnn.serving.queue import BULK, Line


@dataclass(frozen=True)
class LoadedModel:
    """A model that is served; `version` is the SHA-256 of its file."""

    name: str
    version: str
    classifier: Classifier
    tensors: Tensors


def load(model: str) -> LoadedModel:
    """What `Classifier.load` takes, ready to be served.

    Raises:
        FileNotFoundError, ValueError: no model, or none that is valid.
    """
    classifier = Classifier.load(model, threads=1)  # batches go side by side
    tensors = Tensors(classifier.shape, len(classifier.card["class_names"]))
    return LoadedModel(model_name(model), classifier.sha256, classifier, tensors)


def _seconds_an_image(served: LoadedModel) -> float:
    """What an image takes of many at a time; a network is slow when it is asked first."""
    images = np.zeros((BULK, *served.tensors.shape), np.uint8)
    served.classifier.probabilities(images)
    began = time.perf_counter()
    served.classifier.probabilities(images)
    return (time.perf_counter() - began) / BULK


class Service:
    """The model of the moment, the line before it, and the counters."""

    def __init__(self, model: str, shared: bool = False, replica: str = "") -> None:
        self.model = model
        self.served = load(model)
        self.line = Line(_seconds_an_image(self.served))
        self.metrics = Metrics(shared, replica)
        self.draining = False  # not ready any more; what comes is still answered
        self.tasks: set[Any] = set()  # asyncio itself forgets them

    def reload(self) -> None:
        """Load the model anew; requests under way end with the one they began with."""
        self.served = load(self.model)
