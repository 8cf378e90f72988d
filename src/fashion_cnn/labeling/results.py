"""Decisions in; what several people agree on, and a corrected copy of the data, out."""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.console import progress_bar
from fashion_cnn.data.dataset import Data
from fashion_cnn.data.decisions import LABEL, NONE, Decision, read_decisions, to_csv
from fashion_cnn.files import TEMPORARY, require_unused, write_text


@dataclass(frozen=True)
class Agreement:
    """What several people decided.

    Attributes:
        pictures: how many at least one of them decided.
        common: how many all of them decided.
        kappa: Fleiss' kappa over those, 1 for perfect agreement and 0 for chance; NaN where it is
            not defined.
        agreed: the decisions of a majority of those who decided about a picture.
        undecided: how many pictures have no majority.
    """

    pictures: int
    common: int
    kappa: float
    agreed: tuple[Decision, ...]
    undecided: int


def merge_decisions(paths: Sequence[Path], output: Path) -> Agreement:
    """Merge the decisions of several people by majority, and write them to a new file.

    Args:
        paths: a file for each person, at least two.
        output: a new file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: fewer than two files, one of them twice, or the output exists.
    """
    if len({path.resolve() for path in paths}) < max(2, len(paths)):
        raise ValueError("--merge: expected at least two files, each once")
    if output.exists():
        raise ValueError(f"{output}: exists already; give --decisions a new file")
    people = [read_decisions(path).latest for path in paths]
    keys = sorted(set().union(*people))
    agreed, undecided = [], 0
    for key in keys:
        made = [decisions[key] for decisions in people if key in decisions]
        (outcome, votes), *_ = Counter(map(_outcome, made)).most_common()
        if 2 * votes <= len(made):
            undecided += 1
            continue
        first = next(decision for decision in made if _outcome(decision) == outcome)
        agreed.append(replace(first, by=f"{votes} of {len(made)}"))
    common = [key for key in keys if all(key in decisions for decisions in people)]
    table = [[_outcome(decisions[key]) for decisions in people] for key in common]
    write_text(output, to_csv(agreed))
    return Agreement(len(keys), len(common), fleiss_kappa(table), tuple(agreed), undecided)


def fleiss_kappa(table: Sequence[Sequence[Any]]) -> float:
    """Fleiss' kappa (Psychological Bulletin 76, 1971) of pictures, each with one answer a person.

    NaN without pictures, and where all answers are the same one.
    """
    if not table:
        return float("nan")
    from statsmodels.stats.inter_rater import aggregate_raters
    from statsmodels.stats.inter_rater import fleiss_kappa as kappa

    _, numbers = np.unique([list(map(str, row)) for row in table], return_inverse=True)
    counts, _ = aggregate_raters(numbers.reshape(len(table), -1))
    if counts.shape[1] < 2:
        return float("nan")
    return float(kappa(counts))


def export_corrected(data: Data, folder: Path) -> int:
    """Write a copy of data with decisions applied, whole or not at all; how many pictures it has.

    Class folders become class folders in `train`, `validation` and `test`; other data becomes a
    `data.npz`, whose labels are the names of the classes.

    Raises:
        ValueError: the folder is not empty.
        OSError: the copy could not be written.
    """
    require_unused(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=TEMPORARY) as temporary:
        copy = Path(temporary) / "copy"
        copy.mkdir()
        count = _copy_files(data, copy) if data.train_files else _write_arrays(data, copy)
        if folder.exists():
            folder.rmdir()
        copy.rename(folder)
    return count


def _write_arrays(data: Data, folder: Path) -> int:
    names: np.ndarray = np.array(data.class_names)
    if all(name.isdecimal() for name in data.class_names):  # else 10 would come before 2
        names = names.astype(int)
    arrays = {"x_train": data.train_images, "y_train": names[data.train_labels]}
    arrays |= {"x_test": data.test_images, "y_test": names[data.test_labels]}
    np.savez_compressed(folder / "data.npz", **arrays)
    return len(data.train_labels) + len(data.test_labels)


def _copy_files(data: Data, folder: Path) -> int:
    split = np.full(len(data.train_files), "train", "U10")
    split[data.validation_index] = "validation"
    rows = list(zip(split, data.train_labels, data.train_files, strict=True))
    rows += [("test", k, file) for k, file in zip(data.test_labels, data.test_files, strict=True)]
    with progress_bar(len(rows)) as advance:
        for where, label, file in rows:
            advance("copying")
            target = folder / str(where) / data.class_names[label]
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(os.path.join(data.source, file), _free_path(target, Path(file).name))
    return len(rows)


def _free_path(folder: Path, name: str) -> Path:
    """A path in the folder that no other picture has."""
    path, n = folder / name, 2
    while path.exists():
        path = folder / f"{Path(name).stem}-{n}{Path(name).suffix}"
        n += 1
    return path


def _outcome(decision: Decision) -> tuple[str, str]:
    return (LABEL, decision.label) if decision.decision == LABEL else (NONE, "")
