"""What an epoch trains on, as a function of (seed, epoch, image index) and of nothing else."""

from collections.abc import Callable, Iterator

import numpy as np

from fashion_cnn.data.augment import augment, noise_columns
from fashion_cnn.data.dataset import Data, channels_last
from fashion_cnn.parallel.collectives import device_count, local_shard
from fashion_cnn.recipe import Recipe

# (inputs, targets) of some batches -> sum of the losses, number of correct predictions
Steps = Callable[[np.ndarray, np.ndarray], tuple[float, int]]
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


def epoch_plan(
    recipe: Recipe, epoch: int, index: np.ndarray, images: int
) -> tuple[np.ndarray, np.ndarray]:
    """The order of an epoch's images, and each image's random numbers.

    Returns:
        The order, int64 (len(index),), and the noise, float32 in [0, 1),
        (images, noise_columns(recipe.augment)), a row an image, held-out ones included.
    """
    order = np.random.default_rng((recipe.seed, epoch, 0)).permutation(index)
    columns = noise_columns(recipe.augment)
    noise = np.random.default_rng((recipe.seed, epoch, 1)).random((images, columns), np.float32)
    return order, noise


def chunks(
    recipe: Recipe,
    data: Data,
    epoch: int,
    index: np.ndarray,
    size: int,
    transform: InputTransform | None = None,
    targets: np.ndarray | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The images `index` in the order of an epoch, `size` at a time.

    Yields:
        The output of `transform`, or augmented uint8 (n, height, width, channels), for this
        process's shard of each batch; and int32 labels or `targets`, for all of it.
    """
    images = channels_last(data.train_images)
    targets = data.train_labels if targets is None else targets
    targets = targets.astype(np.int32) if targets.ndim == 1 else targets
    order, noise = epoch_plan(recipe, epoch, index, len(images))
    for start in range(0, len(order), size):
        chunk = order[start : start + size]
        shard = local_shard(chunk, recipe.batch_size)
        if transform:
            inputs = transform(shard, noise[shard])
        else:
            inputs = augment(images[shard], noise[shard], recipe.augment)
        yield inputs, targets[chunk]
