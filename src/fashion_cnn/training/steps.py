"""How the chunks of an epoch are trained on this backend: a compiled model in, `Chunk`s out."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fashion_cnn.data.dataset import Data, channels_last
from fashion_cnn.keras_setup import keras
from fashion_cnn.models.forward import BATCH, inference_batch_size
from fashion_cnn.parallel.collectives import broadcast_from_first
from fashion_cnn.recipe import Recipe
from fashion_cnn.training.batches import (
    InputTransform,
    Steps,
    chunks,
    count_steps,
    epoch_plan,
    step_targets,
)

IMAGES_PER_CHUNK = 1024  # at most a second on 2 cores, so that Ctrl-C is noticed
MIN_SPLIT_BATCH = 16  # half of a smaller batch has too few images for batch normalization


@dataclass(frozen=True)
class Chunk:
    """Some batches of an epoch that are trained in one call."""

    images: int  # how many
    train: Callable[[], tuple[float, int]]  # sum of the losses, number of correct predictions


@dataclass(frozen=True)
class Epochs:
    """What trains the epochs of a phase."""

    steps: Callable[[Iterable[int]], int]  # of some epochs, counted from 0, together
    chunks: Callable[[int], Iterator[Chunk]]  # of an epoch, counted from 0
    confidences: np.ndarray  # see `epoch_plan`; the chunks update them


def compile_steps(
    model: Any,
    batch_size: int,
    split_batch: bool = True,
    class_weights: np.ndarray | None = None,
    soft_labels: bool = False,
) -> Steps:
    """Compile the training steps of a model on the current backend; see `training.tensorflow`."""
    model.optimizer.build(model.trainable_variables)
    if keras.backend.backend() == "jax":
        from fashion_cnn.training import jax

        return jax.compile_steps(model, batch_size, class_weights)
    from fashion_cnn.training import tensorflow

    return tensorflow.compile_steps(model, batch_size, split_batch, class_weights, soft_labels)


def make_epochs(
    recipe: Recipe,
    data: Data,
    index: np.ndarray,
    model: Any,
    targets: np.ndarray,
    confidences: np.ndarray,
    transform: InputTransform | None = None,
) -> Epochs:
    """Compile what trains the epochs of a phase on the images `index`.

    `transform` makes the model's input; without one it is the augmented pixels. A chunk is a whole
    epoch where a GPU holds all images, else at most about a second's work.
    """

    def plan_of(epoch: int) -> tuple[np.ndarray, np.ndarray]:
        if recipe.skip_easy:  # other processes may round differently
            first = broadcast_from_first(confidences.tobytes())
            confidences[:] = np.frombuffer(first, confidences.dtype)
        return epoch_plan(recipe, epoch, index, confidences)

    steps_of = partial(count_steps, recipe, len(index))
    weights = recipe_class_weights(recipe, data, index)
    mixes = bool(recipe.cutmix) and not transform
    targets = step_targets(targets, len(data.class_names), one_hot=mixes)
    if keras.backend.backend() == "jax" and not transform:
        from fashion_cnn.training import jax

        if jax.fits_on_device(data.train_images):
            images = channels_last(data.train_images)
            train_epoch = jax.compile_epoch(model, images, targets, recipe, len(index), weights)

            def whole_epoch(epoch: int) -> Iterator[Chunk]:
                plan = plan_of(epoch)
                yield _make_chunk(train_epoch, *plan, plan[0], confidences)

            return Epochs(steps_of, whole_epoch, confidences)
    last_batch = len(index) % recipe.batch_size or recipe.batch_size
    split_batch = last_batch >= (MIN_SPLIT_BATCH if _has_batch_norm(model) else 2)
    soft_labels = targets.ndim == 2
    steps = compile_steps(model, recipe.batch_size, split_batch, weights, soft_labels)
    size = _chunk_size(recipe, model)

    def by_chunks(epoch: int) -> Iterator[Chunk]:
        plan = plan_of(epoch)
        for chunk, inputs, labels in chunks(recipe, data, plan, size, transform, targets):
            yield _make_chunk(steps, inputs, labels, chunk, confidences)

    return Epochs(steps_of, by_chunks, confidences)


def _make_chunk(
    steps: Steps, inputs: Any, targets: Any, index: np.ndarray, confidences: np.ndarray
) -> Chunk:
    """A chunk of the images `index` that updates their confidences."""

    def train() -> tuple[float, int]:
        loss, correct, confidences[index] = steps(inputs, targets)
        return loss, correct

    return Chunk(len(index), train)


def _has_batch_norm(model: Any) -> bool:
    kind = keras.layers.BatchNormalization
    return any(isinstance(layer, kind) and layer.trainable for layer in model.layers)


def _chunk_size(recipe: Recipe, model: Any) -> int:
    """How many images a chunk has: a multiple of the batch size, fewer of large images."""
    share = inference_batch_size(tuple(model.inputs[0].shape[1:])) / BATCH
    return max(1, round(share * IMAGES_PER_CHUNK) // recipe.batch_size) * recipe.batch_size


def recipe_class_weights(recipe: Recipe, data: Data, index: np.ndarray) -> np.ndarray | None:
    """The class weights of a recipe that asks for some, for the images that it trains on."""
    if not recipe.class_weights:
        return None
    return class_weights(data.train_labels[index], len(data.class_names))


def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Weights inversely proportional to class frequency, float32 (classes,); 1 on average."""
    counts = np.bincount(labels, minlength=classes)
    present = np.count_nonzero(counts)
    return (len(labels) / (present * np.maximum(counts, 1))).astype(np.float32)
