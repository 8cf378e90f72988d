"""`Task`: the pictures that people decide about, most valuable first, and what is shown of each."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fashion_cnn.data.decisions import pixels_sha256
from fashion_cnn.files import file_sha256

TOP = 3  # classes of the model that are shown


@dataclass(frozen=True)
class Item:
    """A picture that people decide about.

    Attributes:
        name: in the task.
        label: that it has; empty if it has none.
        reason: why it is asked.
        top: the model's most probable classes, each with its probability.
        neighbors: the names of pictures with similar features, each with its label.
    """

    name: str
    label: str = ""
    reason: str = ""
    top: tuple[tuple[str, float], ...] = ()
    neighbors: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Task:
    """Pictures to decide about.

    Attributes:
        title: what they are, for people.
        source: of the data; empty for pictures without labels.
        class_names: that can be chosen.
        names: of the pictures, most valuable first.
        doubtful: how many of them something speaks against.
        describe: name -> `Item`.
        read: name of a picture of the task, or of a neighbor -> its path, or its pixels.
        instructions: class -> what it is, for people; may be empty.
        examples: class -> names of typical pictures; may be empty.
    """

    title: str
    source: str
    class_names: tuple[str, ...]
    names: Sequence[str]
    doubtful: int
    describe: Callable[[str], Item]
    read: Callable[[str], Path | np.ndarray]
    instructions: Mapping[str, str] = field(default_factory=dict)
    examples: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def locate(self, name: str) -> tuple[str, str]:
        """`source` and `file` of a picture in the decisions."""
        return os.path.split(name) if os.path.isabs(name) else (self.source, name)

    def sha256(self, name: str) -> str:
        """SHA-256 of a picture's file, or of its pixels where it has none."""
        picture = self.read(name)
        return pixels_sha256(picture) if isinstance(picture, np.ndarray) else file_sha256(picture)


def default_decisions(source: Path) -> Path:
    """Where the decisions about a source belong: in the folder of an audit, else beside it."""
    if (source / "audit.json").is_file():
        return source / "decisions.csv"
    path = source.absolute()
    return path.with_name(f"{path.name if path.is_dir() else path.stem}-decisions.csv")


def make_task(
    source: Path, model: str, data: str = "", split: str = "all", doubtful: bool = False
) -> Task:
    """The task of an audit or of pictures without labels.

    Args:
        source: the folder of an audit, or as of `unlabeled_task`.
        model: for pictures without labels, as `Classifier.load` takes it.
        data: of an audit: where its data is now. Default: where it was.
        split: of an audit: `train`, `test` or `all`.
        doubtful: only suspects and near-duplicates, or what is not sure. Default: False.

    Raises:
        FileNotFoundError, ValueError: as `audit_task` and `unlabeled_task` do.
    """
    if (source / "audit.json").is_file() or list(source.glob("fold-*-of-*.npz")):
        from fashion_cnn.labeling.audit_task import audit_task

        return audit_task(source, data, split, doubtful)
    from fashion_cnn.labeling.unlabeled_task import unlabeled_task

    return unlabeled_task(source, model, doubtful)


def most_probable(class_names: Sequence[str], row: np.ndarray) -> tuple[tuple[str, float], ...]:
    """The first classes of a row of probabilities, most probable first."""
    order = np.argsort(-row, kind="stable")[:TOP]
    return tuple((class_names[k], round(float(row[k]), 4)) for k in order)
