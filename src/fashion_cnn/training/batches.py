"""What an epoch trains on, as a function of (seed, epoch, image index).

With `skip_easy` also of the probabilities that the network gave to the images' labels.
"""

from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from fashion_cnn.data.augment import augment, noise_columns
from fashion_cnn.data.cutmix import CUTMIX_COLUMNS, cutmix_images, cutmix_targets
from fashion_cnn.data.dataset import Data, channels_last
from fashion_cnn.parallel.collectives import device_count, local_shard
from fashion_cnn.recipe import Recipe

# (inputs, targets) of some batches -> sum of the losses, number of correct predictions, and the
# predicted probability of each image's label (if targets are soft, of their largest), float32 (n,)
Steps = Callable[[np.ndarray, np.ndarray], tuple[float, int, np.ndarray]]
# indices of images, and their rows of noise -> the model's input
InputTransform = Callable[[np.ndarray, np.ndarray], np.ndarray]


def training_index(recipe: Recipe, data: Data) -> np.ndarray:
    """The training images of a recipe, int64 (n,); refuses a batch size that does not fit."""
    hold_out = recipe.validation == "validation"
    index = data.train_index if hold_out else np.arange(len(data.train_labels))
    if recipe.batch_size > len(index):
        raise ValueError(
            f"batch_size: got {recipe.batch_size}; there are {len(index)} training images"
        )
    if recipe.batch_size % device_count():
        raise ValueError(
            f"batch_size: got {recipe.batch_size}; {device_count()} processes need a multiple of "
            f"{device_count()}"
        )
    return index


def step_targets(targets: np.ndarray, classes: int, one_hot: bool) -> np.ndarray:
    """Targets as steps take them: labels int32 (n,), or probabilities float32 (n, classes)."""
    if targets.ndim == 2:
        return targets
    return np.eye(classes, dtype=np.float32)[targets] if one_hot else targets.astype(np.int32)


def epoch_images(recipe: Recipe, epoch: int, count: int) -> int:
    """How many of `count` training images an epoch trains on: if not all, some whole batches."""
    if not (epoch and recipe.skip_easy) or recipe.class_weights:
        return count
    batches = max(1, round(count * (1 - recipe.skip_easy) / recipe.batch_size))
    return min(batches * recipe.batch_size, count)


def count_steps(recipe: Recipe, count: int, epochs: Iterable[int]) -> int:
    """How many steps some epochs have together, of `count` training images."""
    return sum(-(-epoch_images(recipe, epoch, count) // recipe.batch_size) for epoch in epochs)


def epoch_plan(
    recipe: Recipe, epoch: int, index: np.ndarray, confidences: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The order of an epoch's images, and each image's random numbers.

    Args:
        recipe: what is trained.
        epoch: counted from 0.
        index: the training images.
        confidences: the predicted probability of each image's label when it was last trained on,
            float32 (images,), held-out ones included. It decides what `skip_easy` leaves out.

    Returns:
        The order, int64 (epoch_images(...),), and the noise, float32 in [0, 1),
        (images, plan_columns(recipe)), a row an image, held-out ones included.
    """
    order = np.random.default_rng((recipe.seed, epoch, 0)).permutation(index)
    if skipped := len(index) - epoch_images(recipe, epoch, len(index)):
        # sorted, so that rounding of confidences changes the choice at its margin only
        easiest = np.sort(np.argsort(-confidences[order], kind="stable")[: 2 * skipped])
        chosen = np.random.default_rng((recipe.seed, epoch, 3)).permutation(easiest)[:skipped]
        order = np.delete(order, chosen)
    images = len(confidences)
    shape = images, plan_columns(recipe)
    noise = np.random.default_rng((recipe.seed, epoch, 1)).random(shape, np.float32)
    if "alternate_flip" in recipe.augment:
        column = noise_columns(recipe.augment[: recipe.augment.index("alternate_flip")])
        first = np.random.default_rng((recipe.seed, 0, 2)).random(images, np.float32)
        noise[:, column] = (first + epoch / 2) % 1  # one half of the images, then the other
    return order, noise


def plan_columns(recipe: Recipe) -> int:
    """How many random numbers an image has in an epoch."""
    return noise_columns(recipe.augment) + (CUTMIX_COLUMNS if recipe.cutmix else 0)


def batch_inputs(
    recipe: Recipe, images: Any, index: Any, order: Any, noise: Any, xp: ModuleType = np
) -> Any:
    """The augmented images `index`, of all `images`; `order` and `noise` are the epoch's plan."""
    noise, columns = noise[index], noise_columns(recipe.augment)
    if recipe.cutmix:
        inputs = cutmix_images(images, index, order, noise[:, columns:], recipe.cutmix, xp)
    else:
        inputs = images[index]
    return augment(inputs, noise[:, :columns], recipe.augment, xp)


def batch_targets(
    recipe: Recipe,
    targets: Any,
    index: Any,
    order: Any,
    noise: Any,
    shape: tuple[int, int, int],
    xp: ModuleType = np,
) -> Any:
    """The targets of the images `index`; `shape` is that of an image."""
    if not recipe.cutmix:
        return targets[index]
    noise = noise[index][:, noise_columns(recipe.augment) :]
    return cutmix_targets(targets, index, order, noise, recipe.cutmix, shape, xp)


def chunks(
    recipe: Recipe,
    data: Data,
    plan: tuple[np.ndarray, np.ndarray],
    size: int,
    transform: InputTransform | None = None,
    targets: np.ndarray | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The images of an epoch's plan, `size` at a time.

    `targets` are those of all images, as `step_targets` returns them. Default: integer labels.

    Yields:
        Which images; the output of `transform`, or augmented uint8 (n, height, width, channels),
        for this process's shard of each batch; and int32 labels, or probabilities with a teacher or
        CutMix, for all of it.
    """
    images = channels_last(data.train_images)
    targets = data.train_labels.astype(np.int32) if targets is None else targets
    order, noise = plan
    for start in range(0, len(order), size):
        chunk = order[start : start + size]
        shard = local_shard(chunk, recipe.batch_size)
        if transform:
            yield chunk, transform(shard, noise[shard]), targets[chunk]
        else:
            labels = batch_targets(recipe, targets, chunk, order, noise, images.shape[1:])
            yield chunk, batch_inputs(recipe, images, shard, order, noise), labels
