"""A trained model and images in; what another network learns of them in place of labels, out."""

from typing import Any

import numpy as np

from fashion_cnn.data.dataset import Data, channels_last
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.recipe import Recipe
from fashion_cnn.training.features import cached_outputs

BLOCK = 1000  # images between two movements of the bar


def training_targets(recipe: Recipe, data: Data) -> np.ndarray:
    """What is to be answered to each training image (knowledge distillation, arXiv:1503.02531).

    Args:
        recipe: its teacher, how much that one counts, and how much labels are smoothed.
        data: what the teacher learnt from, too; its answers to the images are kept in the cache.

    Returns:
        Labels, integers (n,); or with a teacher probabilities, float32 (n, classes): the mean of
        what it says and of the smoothed label, `distill_weight` being the weight of the former.

    Raises:
        FileNotFoundError: the teacher is not there.
        ValueError: it is no model, takes images of another size, or may have learnt from images
            that this recipe holds out.
    """
    if not recipe.teacher:
        return data.train_labels
    teacher = Classifier.load(recipe.teacher)
    _require_fitting(recipe, data, teacher)
    images = channels_last(data.train_images)
    classes, ask = len(data.class_names), teacher.probabilities
    answers = cached_outputs(
        "answers", teacher.sha256, images, classes, ask, BLOCK, "asking the teacher"
    )
    smoothing = recipe.label_smoothing
    truth = (1 - smoothing) * np.eye(classes)[data.train_labels] + smoothing / classes
    return np.asarray(
        recipe.distill_weight * answers + (1 - recipe.distill_weight) * truth, np.float32
    )


def teacher_sha256(recipe: Recipe) -> str | None:
    """SHA-256 of the teacher's file; None for none."""
    return Classifier.load(recipe.teacher).sha256 if recipe.teacher else None


def _require_fitting(recipe: Recipe, data: Data, teacher: Classifier) -> None:
    """What another split holds out, a teacher may have learnt; so the data must be the same."""
    takes = teacher.shape, [str(name) for name in teacher.card["class_names"]]
    if takes != (data.image_shape, list(data.class_names)):
        raise ValueError(
            f"teacher: {recipe.teacher} takes {takes[0]} and tells {', '.join(takes[1])}; "
            f"expected {data.image_shape} and {', '.join(data.class_names)}"
        )
    if _from_card(teacher, "data", "sha256") != data.sha256:
        raise ValueError(
            f"teacher: {recipe.teacher} has learnt from other data; expected one that has learnt "
            "from this data, and not from the images that are held out"
        )
    if recipe.validation == "validation" and (
        _from_card(teacher, "recipe", "validation") != "validation"
    ):
        raise ValueError(
            f"teacher: {recipe.teacher} has learnt from the images that are held out for "
            "validation; expected one that has not, or --validation none"
        )


def _from_card(teacher: Classifier, room: str, key: str) -> Any:
    found = teacher.card.get(room)
    return found.get(key) if isinstance(found, dict) else None
