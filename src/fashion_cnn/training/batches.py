"""What an epoch trains on, as a function of (seed, epoch, image index) and of nothing else."""

from collections.abc import Callable, Iterator

import numpy as np

from fashion_cnn.data.augment import augment, noise_columns
from fashion_cnn.data.dataset import Data, channels_last
from fashion_cnn.parallel.collectives import device_count, local_shard
from fashion_cnn.recipe import Recipe

InputTransform = Callable[[np.ndarray, np.ndarray], np.ndarray]


def training_index(recipe: Recipe, data: Data) -> np.ndarray:
    """The training images of a recipe, int64 (n,).

    Raises:
        ValueError: a batch is larger than the data, or cannot be cut into equal shares.
    """
    held_out = recipe.validation == "validation"
    index = data.train_index if held_out else np.arange(len(data.train_labels))
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
    """What an epoch does: the order of the images, and each image's random numbers.

    Args:
        recipe: its seed and augmentations count.
        epoch: from 0.
        index: the training images.
        images: how many there are, held-out ones counted.

    Returns:
        The order, int64 (len(index),), and the noise, float32 in [0, 1),
        (images, noise_columns(recipe.augment)), a row an image.
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
    look: InputTransform | None = None,
    targets: np.ndarray | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The images `index` in the order of an epoch, `size` at a time.

    Args:
        recipe: its seed and augmentations count.
        data: what it is trained on.
        epoch: from 0.
        index: the training images.
        size: of a chunk.
        look: what the network gets of some images, by their indices and their rows of noise; their
            augmented pixels without.
        targets: what is to be answered to each image; its label without.

    Yields:
        What `look` gives, or uint8 (n, height, width, channels), of this process's share of each
        batch; and int32 labels or the targets, of all of it.
    """
    images = channels_last(data.train_images)
    labels = data.train_labels if targets is None else targets
    labels = labels.astype(np.int32) if labels.ndim == 1 else labels
    order, noise = epoch_plan(recipe, epoch, index, len(images))
    for start in range(0, len(order), size):
        all_chosen = order[start : start + size]
        chosen = local_shard(all_chosen, recipe.batch_size)
        if look:
            yield look(chosen, noise[chosen]), labels[all_chosen]
        else:
            yield augment(images[chosen], noise[chosen], recipe.augment), labels[all_chosen]
