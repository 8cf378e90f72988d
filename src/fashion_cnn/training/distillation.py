"""Knowledge distillation: a teacher and labels in, the targets that a student trains on out."""

from typing import Any

import numpy as np

from fashion_cnn.data.dataset import Data, channels_last
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.recipe import Recipe
from fashion_cnn.training.features import cached_outputs

BLOCK = 1000  # images between two steps of the progress bar


def training_targets(recipe: Recipe, data: Data) -> np.ndarray:
    """The target of each training image (knowledge distillation, arXiv:1503.02531).

    Returns:
        Labels, integers (n,); with a teacher probabilities, float32 (n, classes): the mean of the
        teacher's and of the smoothed label, weighted by `distill_weight` and 1 - `distill_weight`.
    """
    if not recipe.teacher:
        return data.train_labels
    teacher = Classifier.load(recipe.teacher)
    _require_same_task(recipe, data, teacher)
    classes = len(data.class_names)
    probabilities = cached_outputs(
        "teacher",
        teacher.sha256,
        channels_last(data.train_images),
        columns=classes,
        compute=teacher.probabilities,
        block=BLOCK,
        description="outputs of the teacher",
    )
    smoothing = recipe.label_smoothing
    smoothed = (1 - smoothing) * np.eye(classes)[data.train_labels] + smoothing / classes
    weight = recipe.distill_weight
    return np.asarray(weight * probabilities + (1 - weight) * smoothed, np.float32)


def teacher_sha256(recipe: Recipe) -> str | None:
    """SHA-256 of the teacher's file; None without a teacher."""
    return Classifier.load(recipe.teacher).sha256 if recipe.teacher else None


def _require_same_task(recipe: Recipe, data: Data, teacher: Classifier) -> None:
    """The teacher must not have seen held-out images, so its data must be the same."""
    class_names = [str(name) for name in teacher.card["class_names"]]
    if (teacher.shape, class_names) != (data.image_shape, list(data.class_names)):
        raise ValueError(
            f"teacher: {recipe.teacher} takes {teacher.shape} and predicts "
            f"{', '.join(class_names)}; expected {data.image_shape} and "
            f"{', '.join(data.class_names)}"
        )
    if _card_value(teacher, "data", "sha256") != data.sha256:
        raise ValueError(
            f"teacher: {recipe.teacher} was trained on other data; expected one that was trained "
            "on this data, without the held-out images"
        )
    if recipe.validation == "validation" and (
        _card_value(teacher, "recipe", "validation") != "validation"
    ):
        raise ValueError(
            f"teacher: {recipe.teacher} was also trained on the images that are held out for "
            "validation; expected one that was not, or --validation none"
        )


def _card_value(teacher: Classifier, section: str, key: str) -> Any:
    values = teacher.card.get(section)
    return values.get(key) if isinstance(values, dict) else None
