"""Data in; the images out that are probably labeled wrong, and those that are in it twice.

Each training image is classified by a network that was not trained on it. Where that network is
confident of another label, the image is a suspect (confident learning, arXiv:1911.00068, by
cleanlab).
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.data.dataset import Data
from fashion_cnn.data.duplicates import near_duplicates
from fashion_cnn.experiments.out_of_fold import fold_index, out_of_fold
from fashion_cnn.files import read_csv, write_csv, write_json, write_npz
from fashion_cnn.recipe import Recipe
from fashion_cnn.run import Run

SUSPECT_COLUMNS = ("split", "index", "label", "suggested", "probability", "label_probability")
PROBABILITIES = "probabilities.npz"
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
    if smallest_class < 2:
        raise ValueError(
            f"{data.location}: got a class with {smallest_class} training images; expected 2"
        )
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
