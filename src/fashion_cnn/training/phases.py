"""What is trained when: all epochs on the whole network, or first on the head of a pretrained one.

A recipe, data and a network in; `Phase`s out, each with a compiled model and what it trains on.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from fashion_cnn.data.dataset import Data
from fashion_cnn.keras_setup import bfloat16_is_fast, keras
from fashion_cnn.recipe import Recipe
from fashion_cnn.training.averaging import add_averages
from fashion_cnn.training.batches import InputTransform, count_steps
from fashion_cnn.training.features import (
    extract_features,
    feature_transform,
    has_frozen_layers,
    head_model,
)
from fashion_cnn.training.normalization import training_copy
from fashion_cnn.training.optimizers import make_optimizer


@dataclass(frozen=True)
class Phase:
    """Epochs that train the same layers in the same way."""

    start: int  # how many epochs come before it
    end: int  # how many epochs are completed at its end
    trains_head: bool  # only the head, on features; else the network, on pixels
    compile_model: Callable[[], Any]
    make_transform: Callable[[], InputTransform] | None  # None: augmented pixels
    make_validation: Callable[[], tuple[np.ndarray, np.ndarray]] | None  # inputs and labels


def make_phases(
    recipe: Recipe, data: Data, network: Any, index: np.ndarray, own_model: bool
) -> list[Phase]:
    """The phases of a training: of the head if the recipe asks for it, and of the network."""
    head_epochs = count_head_epochs(recipe, network, own_model)

    def compile_head() -> Any:
        steps = count_steps(recipe, len(index), range(head_epochs))
        return compile_model(head_model(network), recipe, recipe.learning_rate, steps)

    def compile_network() -> Any:
        model = network if own_model else training_copy(network, available_precision(recipe))
        rate = recipe.fine_tune_rate if head_epochs else recipe.learning_rate
        steps = count_steps(recipe, len(index), range(head_epochs, recipe.epochs))
        return compile_model(model, recipe, rate, steps)

    def validation_features() -> tuple[np.ndarray, np.ndarray]:
        if recipe.validation == "test":
            return extract_features(network, data, "test"), data.test_labels
        held_out = data.validation_index
        return extract_features(network, data, "train")[held_out], data.train_labels[held_out]

    validates = recipe.validation != "none"
    phases = []
    if head_epochs:
        transform = partial(feature_transform, network, data, recipe.augment)
        validation = validation_features if validates else None
        phases.append(Phase(0, head_epochs, True, compile_head, transform, validation))
    if head_epochs < recipe.epochs:
        split = partial(data.split, recipe.validation) if validates else None
        phases.append(Phase(head_epochs, recipe.epochs, False, compile_network, None, split))
    return phases


def count_head_epochs(recipe: Recipe, network: Any, own_model: bool) -> int:
    """How many epochs train the head alone: none if all layers of the network are trainable."""
    has_head_phase = not own_model and has_frozen_layers(network)
    return min(recipe.head_epochs, recipe.epochs) if has_head_phase else 0


def compile_model(model: Any, recipe: Recipe, learning_rate: float, steps: int) -> Any:
    """Compile a model with the recipe's optimizer, for `steps` steps, its loss and averages."""
    model.compile(
        optimizer=make_optimizer(replace(recipe, learning_rate=learning_rate), steps),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=loss_smoothing(recipe)),
        metrics=["accuracy"],
    )
    if recipe.ema:
        add_averages(model, recipe.ema)
    return model


def loss_smoothing(recipe: Recipe) -> float:
    """The label smoothing of the loss: none with a teacher, whose targets contain it already."""
    return 0.0 if recipe.teacher else recipe.label_smoothing


def available_precision(recipe: Recipe) -> str:
    """The recipe's precision, or float32 where bfloat16 is not faster."""
    return recipe.precision if bfloat16_is_fast() else "float32"
