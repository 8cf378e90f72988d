"""Data in; the images out that are probably labeled wrong, and those that are in it twice.

Each training image is classified by a network that was not trained on it. Where that network is
confident of another label, the image is a suspect (confident learning, arXiv:1911.00068, by
cleanlab).
"""

import dataclasses
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.data.dataset import Data, channels_last
from fashion_cnn.data.duplicates import near_duplicates
from fashion_cnn.data.split import group_folds, stratified
from fashion_cnn.files import read_csv, read_npz, write_csv, write_json, write_npz
from fashion_cnn.recipe import Recipe
from fashion_cnn.run import Run

SUSPECT_COLUMNS = ("split", "index", "label", "suggested", "probability", "label_probability")
PROBABILITIES = "probabilities.npz"
NEIGHBORS = 6  # training images that are shown beside an image
MAX_POOL = 10_000  # training images among which they are looked for
BLOCK = 1000  # images compared at a time
DUPLICATE_COLUMNS = ("test_index", "train_index", "distance", "test_label", "train_label")


def audit(
    data: Data,
    recipe: Recipe,
    folder: Path,
    folds: int = 5,
    advance: Callable[[str], Any] = lambda name: None,
) -> dict[str, Any]:
    """Find probable label errors, and images that are both in train and test.

    Writes `suspects.csv`, `duplicates.csv`, `audit.json`, what `fashion-cnn label` shows
    (`probabilities.npz`), and a `fold-<k>-of-<folds>.npz` a fold, which a second audit with the
    same settings reads instead of training again.

    Args:
        data: the images and labels.
        recipe: a fast one; it is trained `folds` times on all training images but one fold.
        folder: where the files go.
        folds: at least 2.
        advance: called with a label as each epoch begins, `folds` times the recipe's epochs, and
            once more before the comparison.

    Returns:
        What `audit.json` holds: the `data` (as `Data.origin`, with its checksums, and the
            `image_size`), `recipe`, `seed`, `folds`, `accuracy` (of the networks on images
        that they were not trained on: `train`, `test`), `suspects` (counts, `train` and `test`) and
        `duplicates` (a count).

    Raises:
        ValueError: a class has fewer images than there are folds, or all of them in one fold.
    """
    import cleanlab  # noqa: F401 (if it is not installed, fail before hours of training)

    smallest_class = np.bincount(data.train_labels, minlength=len(data.class_names)).min()
    if not 2 <= folds <= smallest_class:
        raise ValueError(
            f"folds: got {folds}; expected 2..{smallest_class}, the size of the smallest class"
        )
    fold_index(data, folds)  # refuses groups that do not fit
    folder.mkdir(parents=True, exist_ok=True)
    # without a teacher, which may have been trained on the images of the fold
    recipe = dataclasses.replace(recipe, validation="none", teacher="")
    probabilities = out_of_fold(data, recipe, folder, folds, advance)
    write_npz(folder / PROBABILITIES, probabilities)
    advance("comparing")
    suspects, accuracy = [], {}
    for split, labels in (("train", data.train_labels), ("test", data.test_labels)):
        accuracy[split] = float((probabilities[split].argmax(1) == labels).mean())
        suspects += _suspects(data, split, labels, probabilities[split])
    duplicates = _duplicates(data)
    has_files = bool(data.train_files)  # each image is a file
    columns = (*SUSPECT_COLUMNS, *["file"] * has_files)
    write_csv(folder / "suspects.csv", columns, suspects)
    columns = (*DUPLICATE_COLUMNS, *["test_file", "train_file"] * has_files)
    write_csv(folder / "duplicates.csv", columns, duplicates)
    origin: dict[str, Any] = {**data.origin, "image_size": recipe.image_size}
    summary = {
        "data": origin | {"sha256": data.sha256, "class_names": list(data.class_names)},
        "recipe": recipe.name,
        "seed": recipe.seed,
        "folds": folds,
        "accuracy": accuracy,
        "suspects": {split: sum(x["split"] == split for x in suspects) for split in accuracy},
        "duplicates": len(duplicates),
    }
    write_json(folder / "audit.json", summary)
    return summary


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
    from fashion_cnn.evaluation import predict
    from fashion_cnn.keras_setup import keras
    from fashion_cnn.training.loop import train

    rest = np.delete(np.arange(len(data.train_labels)), fold)
    other_folds = dataclasses.replace(
        data,
        train_images=data.train_images[rest],
        train_labels=data.train_labels[rest],
        held_out=None,
        train_files=(),
        train_groups=None,
    )
    callback = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: advance())
    model = train(recipe, other_folds, callbacks=[callback]).model
    images = {"train": data.train_images[fold], "test": data.test_images}
    arrays = {split: predict(model, channels_last(x)) for split, x in images.items()}
    return arrays | _neighbors(model, other_folds.train_images, rest, images)


def _neighbors(
    model: Any, pool: np.ndarray, index: np.ndarray, images: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """For each image the most similar of at most `MAX_POOL` images that the network has learned.

    `index` tells where the images of `pool` are among all training images.
    """
    from fashion_cnn.evaluation.unknown import image_features, normalized
    from fashion_cnn.models.features import features_model

    network = features_model(model)
    if network is None or len(pool) < NEIGHBORS:
        none = {f"{split}_neighbors": (len(x), NEIGHBORS) for split, x in images.items()}
        return {name: np.full(shape, -1, np.int32) for name, shape in none.items()}
    chosen = np.linspace(0, len(pool) - 1, min(MAX_POOL, len(pool))).astype(int)
    pool_features = normalized(image_features(network, pool.__getitem__, chosen))
    arrays = {}
    for split, x in images.items():
        rows = []
        features = image_features(network, x.__getitem__, np.arange(len(x)))
        for start in range(0, len(x), BLOCK):
            cosines = normalized(features[start : start + BLOCK]) @ pool_features.T
            nearest = np.argpartition(-cosines, NEIGHBORS - 1, 1)[:, :NEIGHBORS]
            order = np.argsort(-np.take_along_axis(cosines, nearest, 1), 1, kind="stable")
            rows.append(index[chosen[np.take_along_axis(nearest, order, 1)]])
        arrays[f"{split}_neighbors"] = np.concatenate(rows).astype(np.int32)
    return arrays


def find_suspects(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Indices of the images that are probably labeled wrong, the most probable first.

    `labels` are integers (n,); `probabilities`, float (n, classes), of networks that were not
    trained on the image.
    """
    from cleanlab.filter import find_label_issues

    if len(set(labels)) < 2:  # there is no other label
        return np.zeros(0, int)
    # one process: the work takes a second, and a fork of a process with TensorFlow hangs
    ranked = find_label_issues(
        labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1
    )
    return np.asarray(ranked, int)


def _suspects(
    data: Data, split: str, labels: np.ndarray, probabilities: np.ndarray
) -> list[dict[str, Any]]:
    """A row for each image that is probably labeled wrong, the most probable first."""
    names, labels = data.class_names, labels.astype(int)
    files = data.train_files if split == "train" else data.test_files
    rows = []
    for i in find_suspects(labels, probabilities):
        row: dict[str, Any] = {"split": split, "index": int(i), "label": names[labels[i]]}
        row["suggested"] = names[probabilities[i].argmax()]
        row["probability"] = round(float(probabilities[i].max()), 4)
        row["label_probability"] = round(float(probabilities[i, labels[i]]), 6)
        rows.append(row | ({"file": files[i]} if files else {}))
    return rows


def _duplicates(data: Data) -> list[dict[str, Any]]:
    """A row for each test image that is nearly the same as a training image."""
    rows = []
    pairs = near_duplicates(data.test_images, data.train_images)
    for test, train, distance in zip(*pairs, strict=True):
        row = {"test_index": test, "train_index": train, "distance": round(float(distance), 2)}
        row["test_label"] = data.class_names[data.test_labels[test]]
        row["train_label"] = data.class_names[data.train_labels[train]]
        if data.train_files:
            row |= {"test_file": data.test_files[test], "train_file": data.train_files[train]}
        rows.append(row)
    return rows


def accuracy_without_suspects(run: Run, folder: Path) -> dict[str, Any]:
    """A run's test accuracy, with all test images and without the suspects of an audit.

    The second must not be compared with other results: it leaves out the hardest images, too.

    Args:
        run: a measured run on the same data.
        folder: of the audit.

    Returns:
        `all` and `without`, accuracies, and `left_out`, a count.
    """
    rows = read_csv(folder / "suspects.csv")
    suspects = [int(row["index"]) for row in rows if row["split"] == "test"]
    arrays = run.predictions()
    correct = arrays["test_probabilities"].argmax(1) == arrays["test_labels"]
    return {
        "all": float(correct.mean()),
        "without": float(np.delete(correct, suspects).mean()),
        "left_out": len(suspects),
    }
