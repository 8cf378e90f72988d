import csv
import dataclasses
import json

import numpy as np
import pytest

from fashion_cnn.experiments import out_of_fold as folds_module
from fashion_cnn.experiments.audit import accuracy_without_suspects, audit
from fashion_cnn.recipe import Recipe
from fashion_cnn.report import draw_audit
from fashion_cnn.run import Run

pytestmark = pytest.mark.slow

RECIPE = Recipe("textbook", epochs=6, batch_size=10)


@pytest.fixture
def flawed_data(tiny_data):
    """Six wrong training labels, two wrong test labels, and one test image also in train."""
    train, test = tiny_data.train_labels.copy(), tiny_data.test_labels.copy()
    train[:60:10] = (train[:60:10] + 1) % 4
    test[:20:10] = (test[:20:10] + 1) % 4
    images = tiny_data.test_images.copy()
    images[5] = tiny_data.train_images[17]
    return dataclasses.replace(tiny_data, train_labels=train, test_labels=test, test_images=images)


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def tiny_truth(data):
    """The training labels of `flawed_data` without the errors."""
    labels = data.train_labels.copy()
    labels[:60:10] = (labels[:60:10] - 1) % 4
    return labels


def probabilities_of(train, test):
    """What a training without a fold returns, of a network without features."""
    arrays = {"train": train, "test": test}
    none = {f"{name}_neighbors": np.full((len(x), 6), -1) for name, x in arrays.items()}
    return arrays | none


def test_wrong_labels_and_a_duplicate_are_found(flawed_data, tmp_path):
    labels = []
    summary = audit(flawed_data, RECIPE, tmp_path / "audit", 3, labels.append)
    assert len(labels) == 3 * RECIPE.epochs + 1
    suspects = rows(tmp_path / "audit" / "suspects.csv")
    train = {int(row["index"]) for row in suspects if row["split"] == "train"}
    assert train <= set(range(0, 60, 10)) and len(train) >= 4  # how many it lists is an estimate
    assert {int(row["index"]) for row in suspects if row["split"] == "test"} <= {0, 10}
    assert all(row["label"] != row["suggested"] for row in suspects[:6])
    (duplicate,) = rows(tmp_path / "audit" / "duplicates.csv")
    pair = tuple(duplicate[key] for key in ("test_index", "train_index", "distance"))
    assert pair == ("5", "17", "0.0")
    assert summary == json.loads((tmp_path / "audit" / "audit.json").read_text())
    arrays = dict(np.load(tmp_path / "audit" / "probabilities.npz"))
    assert arrays["train"].shape == (180, 4) and arrays["test_neighbors"].shape == (60, 6)
    neighbors = arrays["train_neighbors"]
    assert neighbors.min() >= 0 and neighbors.max() < 180
    assert not any(i in row for i, row in enumerate(neighbors))  # of another fold than the image
    truth = tiny_truth(flawed_data)
    assert (truth[neighbors] == truth[:, np.newaxis]).mean() > 0.8
    assert summary["suspects"]["train"] == len(train) and summary["duplicates"] == 1
    names = {path.name for path in draw_audit(tmp_path / "audit", flawed_data)}
    assert names - {"test_suspects.png"} == {"suspects.png", "duplicates.png"}


def test_finished_folds_are_not_trained_again(flawed_data, tmp_path, monkeypatch):
    flawed_data = dataclasses.replace(flawed_data, train_groups=np.arange(180) // 6)
    first = audit(flawed_data, RECIPE, tmp_path, 2)
    monkeypatch.setattr(
        folds_module, "_train_without_fold", lambda *words: pytest.fail("trained again")
    )
    assert audit(flawed_data, RECIPE, tmp_path, 2) == first
    distilled = dataclasses.replace(RECIPE, teacher="thorough")  # which may know the labels
    assert audit(flawed_data, distilled, tmp_path, 2) == first
    monkeypatch.undo()
    other = dataclasses.replace(RECIPE, seed=1)
    assert audit(flawed_data, other, tmp_path, 2)["seed"] == 1  # other settings: trained


def test_each_image_is_in_one_fold(flawed_data, tmp_path, monkeypatch):
    predicted = []

    def train_without_fold(data, fold, recipe, advance):
        assert len(np.unique(data.train_labels[fold])) == 4
        predicted.extend(fold.tolist())
        chance = np.full((len(data.train_labels), 4), 0.25, np.float32)
        return probabilities_of(chance[: len(fold)], chance[: len(data.test_labels)])

    monkeypatch.setattr(folds_module, "_train_without_fold", train_without_fold)
    folds_module.out_of_fold(flawed_data, RECIPE, tmp_path, 4, lambda label: None)
    assert sorted(predicted) == list(range(180))


def test_groups_are_whole_in_each_fold(flawed_data, tmp_path, monkeypatch):
    folds = []

    def train_without_fold(data, fold, recipe, advance):
        folds.append(set(data.train_groups[fold]))
        chance = np.full((len(data.train_labels), 4), 0.25, np.float32)
        return probabilities_of(chance[: len(fold)], chance[: len(data.test_labels)])

    monkeypatch.setattr(folds_module, "_train_without_fold", train_without_fold)
    for groups in (np.arange(180) // 6, np.arange(180) % 90 // 6):
        data = dataclasses.replace(flawed_data, train_groups=groups)
        folds_module.out_of_fold(data, RECIPE, tmp_path, 4, lambda label: None)
        assert sum(map(len, folds)) == len(set.union(*folds)) == len(set(groups))
        folds_module.out_of_fold(data, RECIPE, tmp_path, 4, lambda label: None)
        assert len(folds) == 4  # not again, but again with other groups
        folds.clear()


def test_groups_that_leave_a_class_out_of_training_are_refused(flawed_data, tmp_path):
    data = dataclasses.replace(flawed_data, train_groups=np.arange(180) % 4)
    with pytest.raises(ValueError, match=r"folds: got 5; expected 2\.\.4, the number of groups"):
        audit(data, RECIPE, tmp_path / "audit", 5)
    data = dataclasses.replace(data, train_groups=data.train_labels)
    with pytest.raises(ValueError, match="groups: all of north-west is in one fold; expected more"):
        audit(data, RECIPE, tmp_path / "audit", 2)
    assert not (tmp_path / "audit").exists()


def test_accuracy_without_suspects(tmp_path):
    (tmp_path / "suspects.csv").write_text("split,index\ntrain,3\ntest,0\ntest,1\n")
    labels = np.array([0, 0, 1, 1])
    probabilities = np.eye(2)[[1, 0, 1, 0]]
    arrays = {"test_probabilities": probabilities, "test_labels": labels}
    Run(tmp_path).write_predictions(arrays)
    accuracies = accuracy_without_suspects(Run(tmp_path), tmp_path)
    assert accuracies == {"all": 0.5, "without": 0.5, "left_out": 2}


def test_too_many_folds_are_refused(flawed_data, tmp_path):
    with pytest.raises(ValueError, match=r"folds: got 99; expected 2\.\."):
        audit(flawed_data, RECIPE, tmp_path / "audit", 99)
    data = dataclasses.replace(flawed_data, class_names=(*flawed_data.class_names, "unseen"))
    with pytest.raises(ValueError, match="got a class with 0 training images; expected 2"):
        audit(data, RECIPE, tmp_path / "audit", 2)
    assert not (tmp_path / "audit").exists()
