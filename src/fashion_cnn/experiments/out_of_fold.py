"""Data and a recipe in; class probabilities of every image by networks not trained on it out."""

import dataclasses
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.data.dataset import Data
from fashion_cnn.data.split import group_folds, stratified
from fashion_cnn.files import read_npz, write_npz
from fashion_cnn.inference.features import normalized
from fashion_cnn.recipe import Recipe

NEIGHBORS = 6  # training images that are shown beside an image
MAX_POOL = 10_000  # training images among which they are looked for
BLOCK = 1000  # images compared at a time


def out_of_fold(
    data: Data, recipe: Recipe, folder: Path, folds: int, advance: Callable[[str], Any]
) -> dict[str, np.ndarray]:
    """Class probabilities of all images, by networks that were not trained on them.

    Returns:
        `train`: float32 (n, classes), each row by the network of its fold; `test`: float32
        (m, classes), the mean of all networks; `train_neighbors` and `test_neighbors`: int32
        (n, NEIGHBORS) and (m, NEIGHBORS), the training images with the most similar features,
        -1 where the network has none.
    """
    classes = len(data.class_names)
    train = np.empty((len(data.train_labels), classes), np.float32)
    test = np.zeros((len(data.test_labels), classes), np.float32)
    neighbors = np.full((len(train), NEIGHBORS), -1, np.int32)
    test_neighbors = np.full((len(test), NEIGHBORS), -1, np.int32)
    digest = hashlib.sha256(f"{recipe.to_json()} {NEIGHBORS}".encode())
    for array in (data.train_images, data.train_labels, data.test_images):
        digest.update(array.tobytes())
    if data.train_groups is not None:
        digest.update(np.unique(data.train_groups, return_inverse=True)[1].tobytes())
    key = digest.hexdigest()
    fold_of = fold_index(data, folds)
    for k in range(folds):
        fold = np.flatnonzero(fold_of == k)
        path, label = folder / f"fold-{k + 1}-of-{folds}.npz", f"fold {k + 1} of {folds}"
        arrays = _read_fold(path, key)
        if arrays:
            for _ in range(recipe.epochs):
                advance(label)
        else:
            arrays = _train_without_fold(data, fold, recipe, partial(advance, label))
            write_npz(path, {"key": np.array(key), **arrays})
        train[fold] = arrays["train"]
        test += arrays["test"] / folds
        neighbors[fold] = arrays["train_neighbors"]
        test_neighbors = arrays["test_neighbors"]
    return {
        "train": train,
        "test": test,
        "train_neighbors": neighbors,
        "test_neighbors": test_neighbors,
    }


def fold_index(data: Data, folds: int) -> np.ndarray:
    """The fold of each training image, 0..folds-1, int64 (n,); each of `train_groups` is in one.

    Raises:
        ValueError: there are fewer groups than folds, or all images of a class are in one fold.
    """
    labels = data.train_labels
    if data.train_groups is None:
        fold_of, remaining = np.zeros(len(labels), int), np.arange(len(labels))
        for k in range(folds):
            chosen = stratified(labels[remaining], round(len(remaining) / (folds - k)))
            fold_of[remaining[chosen]] = k
            remaining = np.delete(remaining, chosen)
        return fold_of
    groups = len(np.unique(data.train_groups))
    if folds > groups:
        raise ValueError(f"folds: got {folds}; expected 2..{groups}, the number of groups")
    fold_of = group_folds(labels, data.train_groups, folds)
    for label, name in enumerate(data.class_names):
        if len(set(fold_of[labels == label])) == 1:
            raise ValueError(f"groups: all of {name} is in one fold; expected more groups with it")
    return fold_of


def _read_fold(path: Path, key: str) -> dict[str, np.ndarray]:
    """The probabilities of a fold that was trained with the same settings; else nothing."""
    try:
        arrays = read_npz(path)
    except (FileNotFoundError, ValueError):  # not there, or damaged
        return {}
    return arrays if str(arrays["key"]) == key else {}


def _train_without_fold(
    data: Data, fold: np.ndarray, recipe: Recipe, advance: Callable[[], Any]
) -> dict[str, np.ndarray]:
    """Train on the other folds; what `out_of_fold` returns, of the fold and the test images."""
    from fashion_cnn.keras_setup import keras
    from fashion_cnn.models.features import LAYER
    from fashion_cnn.training.loop import train

    rest = np.delete(np.arange(len(data.train_labels)), fold)
    callback = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: advance())
    # of the head alone: all images in one array, so that their features are computed once
    if recipe.model == "transfer" and recipe.epochs <= recipe.head_epochs:
        others = dataclasses.replace(data, held_out=fold)
        recipe = dataclasses.replace(recipe, validation="validation")
        model = train(recipe, others, callbacks=[callback]).model
        if any(layer.name == LAYER for layer in model.layers):
            return _predict_features(model, data, fold, rest)
        return _predict_images(model, data, fold, rest)
    others = dataclasses.replace(
        data,
        train_images=data.train_images[rest],
        train_labels=data.train_labels[rest],
        held_out=None,
        train_files=(),
        train_groups=None,
    )
    model = train(recipe, others, callbacks=[callback]).model
    return _predict_images(model, data, fold, rest)


def _predict_features(
    model: Any, data: Data, fold: np.ndarray, rest: np.ndarray
) -> dict[str, np.ndarray]:
    """Predict by the features of a pretrained network, which are computed once for all folds."""
    from fashion_cnn.training.features import extract_features, head_model

    head = head_model(model)
    train = extract_features(model, data, "train")
    features = {"train": train[fold], "test": extract_features(model, data, "test")}
    arrays = {split: head.predict(x, verbose=0) for split, x in features.items()}
    pool = _spread(len(rest))
    return arrays | _nearest(features, train[rest[pool]], rest[pool])


def _predict_images(
    model: Any, data: Data, fold: np.ndarray, rest: np.ndarray
) -> dict[str, np.ndarray]:
    from fashion_cnn.evaluation import predict
    from fashion_cnn.evaluation.unknown import image_features
    from fashion_cnn.models.features import features_model

    images = {"train": data.train_images[fold], "test": data.test_images}
    arrays = {split: predict(model, x) for split, x in images.items()}
    network = features_model(model)
    if network is None:
        shapes = {split: (len(x), NEIGHBORS) for split, x in images.items()}
        none = {f"{split}_neighbors": np.full(s, -1, np.int32) for split, s in shapes.items()}
        return arrays | none
    features = {
        split: image_features(network, x.__getitem__, np.arange(len(x)))
        for split, x in images.items()
    }
    pool = rest[_spread(len(rest))]
    return arrays | _nearest(
        features, image_features(network, data.train_images.__getitem__, pool), pool
    )


def _spread(count: int) -> np.ndarray:
    """At most `MAX_POOL` of `count` indices, at equal distances."""
    return np.linspace(0, count - 1, min(MAX_POOL, count)).astype(int)


def _nearest(
    features: dict[str, np.ndarray], pool: np.ndarray, index: np.ndarray
) -> dict[str, np.ndarray]:
    """For each image of a split the training images in the pool with the most similar features.

    `index` tells where the images of the pool are among all training images.
    """
    count, pool, arrays = min(NEIGHBORS, len(pool)), normalized(pool), {}
    for split, vectors in features.items():
        nearest = np.full((len(vectors), NEIGHBORS), -1, np.int32)
        for start in range(0, len(vectors), BLOCK):
            cosines = normalized(vectors[start : start + BLOCK]) @ pool.T
            some = np.argpartition(-cosines, count - 1, 1)[:, :count]
            order = np.argsort(-np.take_along_axis(cosines, some, 1), 1, kind="stable")
            nearest[start : start + BLOCK, :count] = index[np.take_along_axis(some, order, 1)]
        arrays[f"{split}_neighbors"] = nearest
    return arrays
