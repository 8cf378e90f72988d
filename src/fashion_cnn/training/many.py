"""One recipe and many seeds in, a network each out: all trained at once by one program on a GPU."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fashion_cnn.data.dataset import Data, channels_last
from fashion_cnn.framework import keras
from fashion_cnn.models import build_model
from fashion_cnn.models.forms import for_training
from fashion_cnn.recipes import Recipe
from fashion_cnn.training import (
    NOT_VALIDATED,
    Trained,
    compiled,
    precision_here,
    to_keep,
    weights_of,
)
from fashion_cnn.training.batches import epoch_plan, training_index
from fashion_cnn.training.resident import make_epochs
from fashion_cnn.training.teacher import targets_of


def train_side_by_side(recipe: Recipe, data: Data, seeds: Sequence[int]) -> list[Trained]:
    """Train with each seed what `train` would, without validation and without run folders.

    A small network does not fill a GPU; many do. On processors it is slow.

    Args:
        recipe: what they have in common.
        data: what `load_data` returns.
        seeds: of weights, order, augmentation and dropout.

    Returns:
        `Trained` for each seed; `seconds` in a history are those of all.

    Raises:
        ValueError: a batch is larger than the data, the head is to learn by itself, or the backend
            is not JAX.
        FloatingPointError: a loss is no number any more.
    """
    if keras.backend.backend() != "jax":
        raise ValueError(f"KERAS_BACKEND: got {keras.backend.backend()}; side by side takes jax")
    if recipe.head_epochs:
        raise ValueError(f"head_epochs: got {recipe.head_epochs}; side by side takes 0")
    index, images = training_index(recipe, data), channels_last(data.train_images)
    targets = targets_of(recipe, data)
    steps = recipe.epochs * -(-len(index) // recipe.batch_size)
    networks, models = [], list[Any]()
    for seed in seeds:
        keras.utils.set_random_seed(seed)
        classes = len(data.class_names)
        networks.append(build_model(recipe.model, data.image_shape, classes, recipe.options))
        model = for_training(networks[-1], precision_here(recipe))
        models.append(compiled(model, recipe, recipe.learning_rate, steps))
    weights = weights_of(recipe, data, index)
    epochs = make_epochs(models, images, targets, recipe, len(index), weights)
    histories: list[list[dict[str, float]]] = [[] for _ in seeds]
    recipes = [replace(recipe, seed=seed) for seed in seeds]
    for epoch in range(recipe.epochs):
        began = time.perf_counter()
        plans = [epoch_plan(one, epoch, index, len(images)) for one in recipes]
        losses, rights = (np.asarray(x) / len(index) for x in epochs(*zip(*plans, strict=True)))
        if not np.isfinite(losses).all():
            raise FloatingPointError(f"epoch {epoch + 1}: the losses are {losses.tolist()}")
        seconds = round(time.perf_counter() - began, 3)
        for history, loss, accuracy in zip(histories, losses, rights, strict=True):
            row = {"epoch": epoch + 1, "loss": float(loss), "accuracy": float(accuracy)}
            rate = float(models[0].optimizer.learning_rate)
            history.append({**row, **NOT_VALIDATED, "learning_rate": rate, "seconds": seconds})
    for network, model in zip(networks, models, strict=True):
        network.set_weights(model.get_weights())
    kept = [to_keep(network, False, recipe.mirror) for network in networks]
    return [Trained(*pair, None) for pair in zip(kept, histories, strict=True)]
