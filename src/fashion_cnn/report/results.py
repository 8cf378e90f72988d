"""`RunResults`: the numbers and images of one run that its charts show, read once."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fashion_cnn.data.dataset import Data
from fashion_cnn.recipe import read_recipe
from fashion_cnn.run import Run

NEAREST_ARRAYS = ("least_similar", "nearest_train", "nearest_cosine")  # of predictions.npz


@dataclass(frozen=True)
class RunResults:
    """What the charts of a run are drawn from: its files, and the images."""

    history: dict[str, list[float]]  # columns of history.csv
    held_out: str  # what `val_…` in it is measured on, `Validation` or `Test`
    metrics: dict[str, Any]  # metrics.json
    images: np.ndarray  # uint8 (n, height, width[, channels])
    labels: np.ndarray  # integers (n,)
    probabilities: np.ndarray  # float32 (n, classes)
    class_names: tuple[str, ...]
    # uint8 (m, height, width[, channels]), of which `nearest` has indices
    train_images: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))
    robustness: dict[str, Any] = field(default_factory=dict)  # robustness.json
    explanations: dict[str, np.ndarray] = field(default_factory=dict)  # explanations.npz
    nearest: dict[str, np.ndarray] = field(default_factory=dict)  # see `measure_similarity`

    @cached_property
    def predicted(self) -> np.ndarray:
        """The predicted classes, integers (n,)."""
        return self.probabilities.argmax(1)

    @cached_property
    def by_confidence(self) -> np.ndarray:
        """Indices of the test images, from the most to the least confident prediction."""
        return np.argsort(-self.probabilities.max(1), kind="stable")

    @cached_property
    def mistakes(self) -> np.ndarray:
        """Indices of the misclassified test images, most confident first."""
        order = self.by_confidence
        return order[self.predicted[order] != self.labels[order]]


def read_results(run: Run, data: Data, explained: bool = False) -> RunResults:
    """Read the results of a measured run, and its explanations if it is explained."""
    arrays = run.predictions()
    return RunResults(
        history=run.history(),
        held_out="Test" if read_recipe(run).validation == "test" else "Validation",
        metrics=run.metrics(),
        images=data.test_images,
        labels=data.test_labels,
        probabilities=arrays["test_probabilities"],
        class_names=data.class_names,
        train_images=data.train_images,
        robustness=run.robustness() if explained else {},
        explanations=run.explanations() if explained else {},
        nearest={key: arrays[key] for key in NEAREST_ARRAYS if key in arrays},
    )
