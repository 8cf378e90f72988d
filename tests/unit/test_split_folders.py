from pathlib import Path

import pytest

from fashion_cnn.data.split_folders import find_class_folders, split_of


def class_folders(*paths, name="photos"):
    """What `find_class_folders` says of these folders, by their paths."""
    parts = [tuple(path.split("/")) for path in paths]
    folders = {p[:depth] for p in parts for depth in range(len(p) + 1)}
    return {"/".join(p): split for p, split in find_class_folders(Path(name), folders).items()}


def test_usual_names_of_splits_are_recognized():
    names = {
        "train": "train Training training_set trainset seg_train train_images TRAIN-DATA",
        "test": "test Testing test-set seg_test test_images testset evaluation",
        "validation": "val Valid validation dev val_set",
        None: "seg_pred training-test cat_test test2 data images trains dress",
    }
    for split, words in names.items():
        for word in words.split():
            assert split_of(word) == split, word


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Testing"),
        ("train_images", "test_images"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("photos/train", "photos/test"),
        ("archive/Training", "archive/Test"),
    ],
)
def test_splits_are_found_and_repeated_folders_are_looked_through(train, test):
    assert class_folders(f"{train}/cat", f"{train}/dog", f"{test}/cat") == {
        f"{train}/cat": "train",
        f"{train}/dog": "train",
        f"{test}/cat": "test",
    }


def test_folders_beside_splits_are_no_classes():
    found = class_folders("train/cat", "train/dog", "val/cat", "seg_pred/seg_pred", "runs/one")
    assert found == {"train/cat": "train", "train/dog": "train", "val/cat": "validation"}


def test_a_repeated_folder_of_classes_is_looked_through():
    assert class_folders("photos/cat", "photos/dog/small") == {
        "photos/cat": "train",
        "photos/dog": "train",
    }
    assert class_folders("clothes/cat", "clothes/dog") == {"clothes": "train"}


def test_a_class_may_be_named_like_a_split_but_not_all_of_them():
    assert class_folders("train", "car") == {"train": "train", "car": "train"}
    assert class_folders("train/test", "train/car") == {"train/test": "train", "train/car": "train"}
    with pytest.raises(ValueError, match=r"only folders named like splits \(Testing, Training\)"):
        class_folders("Training", "Testing")
