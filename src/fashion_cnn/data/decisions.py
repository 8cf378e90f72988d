"""Decisions of people about labels: an append-only CSV file in; corrected labels out.

`fashion-cnn label` writes the file, one row a decision. Nothing of the data itself is changed.
"""

import csv
import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from fashion_cnn.console import printable
from fashion_cnn.data.dataset import Data

LABEL, NONE, SKIP, UNDO = KINDS = ("label", "none", "skip", "undo")
_EXPECTED = "expected the decisions.csv of `fashion-cnn label`"


@dataclass(frozen=True)
class Decision:
    """One row of the file.

    Attributes:
        file: the picture: its path in `source`, or `train/17`, an index into the training images.
        sha256: of the file; of the pixels where images have no files.
        decision: `label`; `none`, of none of the classes; `skip`; or `undo`, which takes back the
            last decision about the picture.
        label: the class that was decided; empty unless the decision is `label`.
        was: the label that the picture had; empty where it had none.
        predicted: the class that a model found most probable.
        source: of the data, as `load_data` takes it; or the folder of unlabeled pictures.
        by: who decided, a name or an identifier of the browser.
        time: in UTC, as in ISO 8601.
    """

    file: str
    sha256: str
    decision: str
    label: str = ""
    was: str = ""
    predicted: str = ""
    source: str = ""
    by: str = ""
    time: str = ""

    @property
    def is_correction(self) -> bool:
        """Whether it differs from the label that the picture had, or else from the prediction."""
        before = self.was or self.predicted
        return self.decision == NONE or (self.decision == LABEL and self.label != before)


COLUMNS: tuple[str, ...] = tuple(column.name for column in fields(Decision))
HEADER = ",".join(COLUMNS) + "\n"


@dataclass(frozen=True)
class Decisions:
    """The decisions in a file.

    Attributes:
        path: of the file.
        sha256: of the rows that were read.
        rows: in the order in which they were made.
        content: the bytes of these rows.
    """

    path: str
    sha256: str
    rows: tuple[Decision, ...]
    content: bytes = field(repr=False)

    @cached_property
    def latest(self) -> dict[tuple[str, str], Decision]:
        """(file, SHA-256) -> what was decided last; without what was skipped or taken back."""
        history: dict[tuple[str, str], list[Decision]] = {}
        for row in self.rows:
            made = history.setdefault((row.file, row.sha256), [])
            if row.decision == UNDO:
                del made[-1:]
            else:
                made.append(row)
        kept = {key: [x for x in made if x.decision != SKIP] for key, made in history.items()}
        return {key: made[-1] for key, made in kept.items() if made}


def read_decisions(path: str | Path, sha256: str = "") -> Decisions:
    """Read decisions.

    Args:
        path: of the file. A last line without an end, of a process that was killed, is ignored.
        sha256: of the first rows, where only those that a run was trained with are wanted. Default:
            all rows.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, or no longer begins with the rows that are wanted.
    """
    path = Path(os.path.abspath(os.path.expanduser(path)))
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; {_EXPECTED}") from None
    content = content[: content.rfind(b"\n") + 1]
    if not content.startswith(HEADER.encode()):
        got = content[:60] or "nothing"
        raise ValueError(f"{path}: begins with {got!r}; {_EXPECTED}")
    digest, end = hashlib.sha256(), 0
    for line in content.splitlines(keepends=True):
        digest.update(line)
        end += len(line)
        if digest.hexdigest() == sha256:
            break
    if sha256 and digest.hexdigest() != sha256:
        raise ValueError(
            f"{path}: does not begin with the decisions that the run was trained with; restore it, "
            "or train again"
        )
    try:
        rows = list(csv.DictReader(io.StringIO(content[:end].decode(), newline="")))
        decisions = [Decision(**{key: row[key] for key in COLUMNS}) for row in rows]
    except (UnicodeDecodeError, KeyError, csv.Error) as error:
        raise ValueError(f"{path}: got {error}; {_EXPECTED}") from None
    for number, decision in enumerate(decisions, 2):
        if decision.decision not in KINDS or None in astuple(decision):
            raise ValueError(f"{path}, row {number}: got {decision.decision!r}; {_EXPECTED}")
    return Decisions(str(path), digest.hexdigest(), tuple(decisions), content[:end])


def to_csv(decisions: Iterable[Decision], header: bool = True) -> str:
    """Decisions as the text of a file, or as rows that are appended to one."""
    text = io.StringIO()
    # all are quoted: Python 3.11 would not quote a name with a carriage return
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows(map(astuple, decisions))
    return HEADER * header + text.getvalue()


def image_name(split: str, index: int) -> str:
    """The name of an image that has no file of its own, such as `train/17`."""
    return f"{split}/{index}"


def pixels_sha256(image: np.ndarray) -> str:
    """SHA-256 of the pixels of an image, uint8."""
    return hashlib.sha256(image.tobytes()).hexdigest()


def decide_arrays(data: Data, decisions: Decisions) -> Data:
    """Data whose images have no files of their own, with decisions applied.

    Images that were decided to be of no class are left out. The validation split keeps its images.

    Raises:
        ValueError: a decision is about other data, or names a class that is not in it.
    """
    images = {"train": data.train_images, "test": data.test_images}
    labels = {"train": data.train_labels.astype(int), "test": data.test_labels.astype(int)}
    keep = {split: np.ones(len(values), bool) for split, values in labels.items()}
    before = labels["test"].copy()
    for decision in decisions.latest.values():
        split, _, number = decision.file.partition("/")
        index = int(number) if number.isdecimal() else -1
        is_here = split in images and 0 <= index < len(images[split])
        if not is_here or pixels_sha256(images[split][index]) != decision.sha256:
            raise ValueError(
                f"{decisions.path}: {printable(decision.file)} is not an image of {data.location}, "
                f"or has changed; expected decisions about {data.location}"
            )
        if decision.decision == NONE:
            keep[split][index] = False
        else:
            require_class(data.class_names, decision, decisions.path)
            labels[split][index] = data.class_names.index(decision.label)
    held_out = np.zeros(len(keep["train"]), bool)
    held_out[data.validation_index] = True
    groups, kept = data.train_groups, keep["train"]
    return replace(
        data,
        train_images=data.train_images if kept.all() else data.train_images[kept],
        train_labels=labels["train"][kept],
        test_images=data.test_images if keep["test"].all() else data.test_images[keep["test"]],
        test_labels=labels["test"][keep["test"]],
        held_out=np.flatnonzero(held_out[kept]),
        train_groups=groups if groups is None else groups[kept],
        kept_train=np.flatnonzero(kept),
        kept_test=np.flatnonzero(keep["test"]),
        recorded_test_labels=before[keep["test"]],
        decisions=decisions.path,
        sha256={**data.sha256, "decisions": decisions.sha256},
        notes=(*data.notes, describe(decisions, decisions.latest.values())),
    )


def describe(decisions: Decisions, applied: Iterable[Decision]) -> str:
    """What was decided, as a note for people: `applied` are those that concern the data."""
    counts = Counter(_outcome(decision) for decision in applied)
    texts = [
        f"{counts[name]:,} {name}"
        for name in ("kept", "relabeled", "labeled", "left out")
        if counts[name]
    ]
    return f"decisions of {printable(decisions.path)}: {', '.join(texts) or 'none'}"


def require_class(class_names: Sequence[str], decision: Decision, path: str) -> None:
    """Raise ValueError unless the label of a decision in the file at `path` is a class."""
    if decision.label not in class_names:
        raise ValueError(
            f"{path}: {printable(decision.file)} is decided to be {decision.label!r}; expected one "
            f"of the classes {', '.join(class_names)[:300]}"
        )


def _outcome(decision: Decision) -> str:
    if decision.decision == NONE:
        return "left out"
    if not decision.was:
        return "labeled"
    return "relabeled" if decision.is_correction else "kept"
