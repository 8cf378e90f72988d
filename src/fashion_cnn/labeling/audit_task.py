"""An audit in; the `Task` of deciding about the labels of its images out."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.data import reload_data
from fashion_cnn.data.dataset import Data
from fashion_cnn.data.decisions import image_name
from fashion_cnn.experiments.audit import PROBABILITIES
from fashion_cnn.files import read_csv, read_json, read_npz
from fashion_cnn.labeling.instructions import FASHION_MNIST
from fashion_cnn.labeling.order import order_labeled
from fashion_cnn.labeling.task import Item, Task, most_probable

EXAMPLES = 4  # typical images of a class
MAX_COPIES = 0.01  # of the pictures may be in two classes, before the data counts as multi-label
_SPLITS = ("train", "test")
_AGAIN = "run `fashion-cnn audit` again"
Position = tuple[str, int]  # split, and index in it


@dataclass(frozen=True)
class _Audit:
    """The data, what the networks of the audit made of it, and the names of the images."""

    data: Data
    arrays: dict[str, np.ndarray]
    names: dict[str, tuple[str, ...]]  # split -> names
    positions: dict[str, Position]  # name -> split and index
    reasons: dict[Position, str]

    def labels(self, split: str) -> np.ndarray:
        labels = self.data.train_labels if split == "train" else self.data.test_labels
        return labels.astype(int)

    def images(self, split: str) -> np.ndarray:
        return self.data.train_images if split == "train" else self.data.test_images


def audit_task(folder: Path, source: str = "", split: str = "all", doubtful: bool = False) -> Task:
    """Make the task of an audit.

    First come near-duplicates with different labels, of which one is wrong; then all others, as
    `order_labeled` orders them. Suspects are not first, but most of them come early.

    Args:
        folder: of the audit.
        source: where its data is now. Default: where it was.
        split: `train` (with the validation images), `test` or `all`.
        doubtful: whether all but near-duplicates and suspects are left out. Default: False.

    Raises:
        FileNotFoundError: there is no audit, or its data is no longer there.
        ValueError: the audit is damaged, its data has changed, or pictures have several labels.
    """
    audit = _read_audit(folder, source)
    splits = _SPLITS if split == "all" else (split,)
    positions = _in_order(audit, splits)
    duplicates = _add_duplicates(audit, read_csv(folder / "duplicates.csv"))
    for row in read_csv(folder / "suspects.csv"):
        reason = f"The label {row['label']} is doubtful"
        audit.reasons.setdefault((row["split"], int(row["index"])), reason)
    order = sorted(positions, key=lambda position: position not in duplicates)
    with_reason = [position for position in order if position in audit.reasons]
    asked = with_reason if doubtful else order
    names = [audit.names[where][index] for where, index in asked]
    is_fashion_mnist = audit.data.source == "fashion-mnist"
    title = "Fashion-MNIST" if is_fashion_mnist else Path(audit.data.source).name
    return Task(
        title=f"{title}: labels, the most doubtful first",
        source=audit.data.source,
        class_names=audit.data.class_names,
        names=names,
        doubtful=len(with_reason),
        describe=lambda name: _describe(audit, name),
        read=lambda name: _read(audit, name),
        instructions=FASHION_MNIST if is_fashion_mnist else {},
        examples=_examples(audit),
    )


def _read_audit(folder: Path, source: str) -> _Audit:
    try:
        recorded = read_json(folder / "audit.json")["data"]
        arrays = read_npz(folder / PROBABILITIES)
    except (KeyError, TypeError, FileNotFoundError) as error:
        raise ValueError(f"{folder}: no complete audit ({error}); {_AGAIN}") from None
    origin = {**recorded, **({"source": source} if source else {})}
    if not (origin["source"] == "fashion-mnist" or Path(origin["source"]).exists()):
        raise FileNotFoundError(
            f"{folder}: its data is no longer at {origin['source']}; give --data the place where "
            "it is now"
        )
    data = reload_data(origin, recorded["image_size"])
    if data.sha256 != recorded["sha256"] or list(data.class_names) != recorded["class_names"]:
        raise ValueError(f"{folder}: {data.location} has changed since the audit; {_AGAIN}")
    _refuse_several_labels(data)
    names = {}
    for split, files, kept in (
        ("train", data.train_files, data.kept_train),
        ("test", data.test_files, data.kept_test),
    ):
        count = len(data.train_labels if split == "train" else data.test_labels)
        index = range(count) if kept is None else kept.tolist()
        names[split] = files or tuple(image_name(split, i) for i in index)
    positions = {name: (split, i) for split in _SPLITS for i, name in enumerate(names[split])}
    return _Audit(data, arrays, names, positions, {})


def _refuse_several_labels(data: Data) -> None:
    """Raise ValueError if many pictures are in the folders of two classes."""
    if not data.train_files:
        return
    from fashion_cnn.data.class_folders import list_pictures

    listing = list_pictures(Path(data.source))
    copies = listing.copies()
    if len(copies) > MAX_COPIES * len(listing.pictures) + 1:
        raise ValueError(
            f"{data.location}: {len(copies):,} of {len(listing.pictures):,} pictures are in two "
            "class folders, so a picture has several labels; decisions are for one label each: "
            "make a data set for each label, with the folders yes and no"
        )


def _add_duplicates(audit: _Audit, rows: list[dict[str, str]]) -> set[Position]:
    """Give near-duplicates with different labels their reason; return them."""
    for row in rows:
        if row["test_label"] == row["train_label"]:
            continue
        for split, other in (("test", "train"), ("train", "test")):
            position = (split, int(row[f"{split}_index"]))
            reason = f"Nearly the same picture is labeled {row[f'{other}_label']}"
            audit.reasons[position] = reason
    return set(audit.reasons)


def _in_order(audit: _Audit, splits: tuple[str, ...]) -> list[Position]:
    """All images, the most probable label errors first."""
    positions = [(split, i) for split in splits for i in range(len(audit.names[split]))]
    labels = np.concatenate([audit.labels(split) for split in splits])
    probabilities = np.concatenate([audit.arrays[split] for split in splits])
    return [positions[i] for i in order_labeled(labels, probabilities)]


def _describe(audit: _Audit, name: str) -> Item:
    data, (split, index) = audit.data, audit.positions[name]
    neighbors: Any = audit.arrays[f"{split}_neighbors"][index]
    train = audit.labels("train")
    label = data.class_names[audit.labels(split)[index]]
    top = most_probable(data.class_names, audit.arrays[split][index])
    is_first = top[0][0] == label
    default = "Nothing speaks against the label" if is_first else "Another class is more probable"
    reason = audit.reasons.get((split, index), default)
    if is_added := os.path.isabs(name):  # by an earlier decision, without which it has no label
        reason = f"{reason}; it was decided to be {label}"
    return Item(
        name=name,
        label="" if is_added else label,
        reason=reason,
        top=top,
        neighbors=tuple(
            (audit.names["train"][i], data.class_names[train[i]]) for i in neighbors if i >= 0
        ),
    )


def _read(audit: _Audit, name: str) -> Path | np.ndarray:
    split, index = audit.positions[name]
    if audit.data.train_files:
        return Path(audit.data.source) / name
    return audit.images(split)[index]


def _examples(audit: _Audit) -> dict[str, list[str]]:
    """The training images of each class with the most probable labels."""
    labels = audit.labels("train")
    probability = audit.arrays["train"][np.arange(len(labels)), labels]
    examples = {}
    for k, class_name in enumerate(audit.data.class_names):
        index = np.flatnonzero(labels == k)
        best = index[np.argsort(-probability[index], kind="stable")[:EXAMPLES]]
        examples[class_name] = [audit.names["train"][i] for i in best]
    return examples
