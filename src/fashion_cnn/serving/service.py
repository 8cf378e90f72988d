"""What all requests share: the model of the moment, the line before it, and the counters."""

from dataclasses import dataclass
from typing import Any

from fashion_cnn.inference import Classifier, name_of
from fashion_cnn.serving.line import Line
from fashion_cnn.serving.metrics import Metrics
from fashion_cnn.serving.protocol import Tensors


@dataclass(frozen=True)
class Served:
    """A model that is served; `version` is the SHA-256 of its file."""

    name: str
    version: str
    classifier: Classifier
    tensors: Tensors


def load(model: str) -> Served:
    """What `Classifier.load` takes, ready to be served.

    Raises:
        FileNotFoundError, ValueError: no model, or none that is valid.
    """
    classifier = Classifier.load(model)
    tensors = Tensors(classifier.shape, len(classifier.card["class_names"]))
    return Served(name_of(model), classifier.sha256, classifier, tensors)


class Service:
    """The model of the moment, the line before it, and the counters."""

    def __init__(self, model: str, shared: bool = False) -> None:
        self.model = model
        self.served = load(model)
        self.line, self.metrics = Line(), Metrics(shared)
        self.draining = False  # not ready any more; what comes is still answered
        self.tasks: set[Any] = set()  # asyncio itself forgets them

    def reload(self) -> None:
        """Load the model anew; requests under way end with the one they began with."""
        self.served = load(self.model)
