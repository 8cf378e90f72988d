"""Batches whose content is a function of (seed, epoch, image index): data in, `fit` food out."""

import numpy as np

from fashion_cnn.data.augment import augment, noise_columns
from fashion_cnn.data.dataset import Data, channels_last
from fashion_cnn.framework import keras
from fashion_cnn.recipes import Recipe


class Batches(keras.utils.PyDataset):
    """The training images of a recipe, epoch after epoch.

    A batch is uint8 (b, height, width, channels) and one-hot float32 (b, classes). Nothing
    carries over from one epoch to the next but its number, `epoch`, which may be set.

    Raises:
        ValueError: a batch is larger than the data.
    """

    def __init__(self, recipe: Recipe, data: Data) -> None:
        super().__init__()
        self.recipe, self.epoch = recipe, 0
        self.images, self.labels = channels_last(data.train_images), data.train_labels
        self.one_hot = np.eye(len(data.class_names), dtype=np.float32)
        everything = recipe.validation == "test"
        self.index = np.arange(len(self.images)) if everything else data.train_index
        if recipe.batch_size > len(self.index):
            raise ValueError(
                f"batch_size: got {recipe.batch_size}; there are {len(self.index)} training images"
            )
        self.on_epoch_begin()  # Keras looks at a batch before the first epoch

    def __len__(self) -> int:
        return -(-len(self.index) // self.recipe.batch_size)

    def on_epoch_begin(self) -> None:
        """Draw the order and the random numbers of the epoch."""
        self.order, self.noise = epoch_plan(self.recipe, self.epoch, self.index, len(self.images))

    def on_epoch_end(self) -> None:
        """Count the epoch."""
        self.epoch += 1

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        size = self.recipe.batch_size
        chosen = self.order[step * size : (step + 1) * size]
        images = augment(self.images[chosen], self.noise[chosen], self.recipe.augment)
        return images, self.one_hot[self.labels[chosen]]


def validation_arrays(recipe: Recipe, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """What a recipe validates on: uint8 images (n, h, w, c) and one-hot float32 (n, classes)."""
    images, labels = data.split(recipe.validation)
    return channels_last(images), np.eye(len(data.class_names), dtype=np.float32)[labels]


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
