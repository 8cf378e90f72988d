"""Data in; the images out whose labels are probably wrong, and those that are in it twice.

Every training image is judged by a network that did not learn from it; what a network is sure of
against the label is a suspect (confident learning, arXiv:1911.00068, by cleanlab).
"""

import csv
import dataclasses
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.data.dataset import Data, channels_last
from fashion_cnn.data.duplicates import near_duplicates
from fashion_cnn.data.split import stratified
from fashion_cnn.files import read_npz, write_csv, write_json, write_npz
from fashion_cnn.recipe import Recipe
from fashion_cnn.run import Run

SPLITS = ("train", "test")
SUSPECT = ("split", "index", "label", "suggested", "probability", "label_probability")
PAIR = ("test_index", "train_index", "distance", "test_label", "train_label")


def audit(
    data: Data,
    recipe: Recipe,
    folder: Path,
    folds: int = 5,
    advance: Callable[[str], Any] = lambda what: None,
) -> dict[str, Any]:
    """Find probable label errors, and images that are both in train and test.

    Writes `suspects.csv`, `duplicates.csv`, `audit.json` and a `fold-<k>.npz` a fold, which a
    second audit with the same settings reads instead of training again.

    Args:
        data: what to look at.
        recipe: a fast one; it is trained `folds` times on all training images but one fold.
        folder: where the files go.
        folds: at least 2.
        advance: called with a word as each epoch begins, `folds` times the recipe's epochs, and
            once more before the comparison.

    Returns:
        What `audit.json` holds: `recipe`, `folds`, `accuracy` (of the networks on the images they
        did not learn from: `train`, `test`), `suspects` (counts, `train` and `test`) and
        `duplicates` (a count).

    Raises:
        ValueError: a class has fewer images than there are folds.
    """
    import cleanlab  # noqa: F401 (if it is not there, say so before hours of training)

    fewest = np.bincount(data.train_labels, minlength=len(data.class_names)).min()
    if not 2 <= folds <= fewest:
        raise ValueError(
            f"folds: got {folds}; expected 2..{fewest}, the size of the smallest class"
        )
    folder.mkdir(parents=True, exist_ok=True)
    # a teacher, which may have learnt from every image, would tell the labels
    recipe = dataclasses.replace(recipe, validation="none", teacher="")
    answers = out_of_fold(data, recipe, folder, folds, advance)
    advance("comparing")
    found = {split: _suspects(data, answers[split], split) for split in SPLITS}
    pairs = near_duplicates(data.test_images, data.train_images)
    rows = [row for split in SPLITS for row in _rows(data, answers[split], split, found[split])]
    files = bool(data.train_files)  # then each image has a name
    write_csv(folder / "suspects.csv", (*SUSPECT, *["file"] * files), rows)
    rows = [_pair(data, *pair) for pair in zip(*pairs, strict=True)]
    write_csv(folder / "duplicates.csv", (*PAIR, *["test_file", "train_file"] * files), rows)
    accuracy = {
        split: float((answers[split].argmax(1) == _labels(data, split)).mean()) for split in SPLITS
    }
    summary = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "folds": folds,
        "accuracy": accuracy,
        "suspects": {split: len(found[split]) for split in SPLITS},
        "duplicates": len(pairs[0]),
    }
    write_json(folder / "audit.json", summary)
    return summary


def out_of_fold(
    data: Data, recipe: Recipe, folder: Path, folds: int, advance: Callable[[str], Any]
) -> dict[str, np.ndarray]:
    """Probabilities of all images from networks that did not learn from them.

    Returns:
        `train` (n, classes), each row from the one network of its fold; `test` (m, classes), the
        mean of all networks.
    """
    classes = len(data.class_names)
    train = np.empty((len(data.train_labels), classes), np.float32)
    test = np.zeros((len(data.test_labels), classes), np.float32)
    left, key = np.arange(len(data.train_labels)), hashlib.sha256(recipe.to_json().encode())
    for part in (data.train_images, data.train_labels, data.test_images):
        key.update(part.tobytes())
    for k in range(folds):
        share = stratified(data.train_labels[left], round(len(left) / (folds - k)))
        fold, left = left[share], np.delete(left, share)
        name = f"fold-{k + 1}-of-{folds}.npz"
        say = partial(advance, f"fold {k + 1} of {folds}")
        arrays = _finished(folder / name, key.hexdigest())
        if not arrays:
            arrays = _train_without(data, fold, recipe, say)
            write_npz(folder / name, {"key": np.array(key.hexdigest()), **arrays})
        else:
            for _ in range(recipe.epochs):
                say()
        train[fold] = arrays["train"]
        test += arrays["test"] / folds
    return {"train": train, "test": test}


def _finished(path: Path, key: str) -> dict[str, np.ndarray]:
    """The arrays of a fold trained before with the same settings; none if there are not."""
    try:
        arrays = read_npz(path.parent / path.name)
    except (FileNotFoundError, ValueError):  # not there, or damaged
        return {}
    return arrays if str(arrays["key"]) == key else {}


def _train_without(
    data: Data, fold: np.ndarray, recipe: Recipe, advance: Callable[[], Any]
) -> dict[str, np.ndarray]:
    from fashion_cnn.evaluation import predict
    from fashion_cnn.keras_setup import keras
    from fashion_cnn.training.loop import train

    rest = np.delete(np.arange(len(data.train_labels)), fold)
    part = dataclasses.replace(
        data,
        train_images=data.train_images[rest],
        train_labels=data.train_labels[rest],
        held_out=None,
        train_files=(),
    )
    each = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: advance())
    model = train(recipe, part, callbacks=[each]).model
    images = {"train": data.train_images[fold], "test": data.test_images}
    return {split: predict(model, channels_last(images[split])) for split in SPLITS}


def _labels(data: Data, split: str) -> np.ndarray:
    return data.train_labels if split == "train" else data.test_labels


def _suspects(data: Data, answers: np.ndarray, split: str) -> np.ndarray:
    """Indices of the images whose labels are probably wrong, the likeliest first."""
    from cleanlab.filter import find_label_issues

    labels = _labels(data, split).astype(int)
    if len(set(labels)) < 2:  # nothing that one could be taken for
        return np.zeros(0, int)
    # one process: the work is a second, and forking beside TensorFlow hangs
    return find_label_issues(labels, answers, return_indices_ranked_by="self_confidence", n_jobs=1)


def _rows(
    data: Data, answers: np.ndarray, split: str, suspects: np.ndarray
) -> list[dict[str, Any]]:
    names, labels = data.class_names, _labels(data, split)
    files = data.train_files if split == "train" else data.test_files
    rows = []
    for i in suspects:
        words = split, int(i), names[labels[i]], names[answers[i].argmax()]
        shares = round(float(answers[i].max()), 4), round(float(answers[i, labels[i]]), 6)
        rows.append(dict(zip(SUSPECT, (*words, *shares), strict=True)))
        if files:
            rows[-1]["file"] = files[i]
    return rows


def _pair(data: Data, test: int, train: int, distance: float) -> dict[str, Any]:
    labels = data.class_names[data.test_labels[test]], data.class_names[data.train_labels[train]]
    row = dict(zip(PAIR, (test, train, round(float(distance), 2), *labels), strict=True))
    if data.train_files:
        row |= {"test_file": data.test_files[test], "train_file": data.train_files[train]}
    return row


def accuracy_without_suspects(run: Run, folder: Path) -> dict[str, Any]:
    """A run's test accuracy, with all test images and without the suspects of an audit.

    The second is no result to be compared with others': it leaves out what is hardest, too.

    Returns:
        `all` and `without`, accuracies, and `left_out`, a count.
    """
    with open(folder / "suspects.csv", encoding="utf-8", newline="") as file:
        suspects = [int(x["index"]) for x in csv.DictReader(file) if x["split"] == "test"]
    arrays = run.predictions()
    right = arrays["test_probabilities"].argmax(1) == arrays["test_labels"]
    kept = np.delete(right, suspects)
    return {
        "all": float(right.mean()),
        "without": float(kept.mean()),
        "left_out": len(suspects),
    }
