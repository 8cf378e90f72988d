"""Pictures that belong together: a CSV file or a pattern goes in; the group of each comes out."""

import csv
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fashion_cnn.console import printable
from fashion_cnn.files import read_csv

_EXPECTED = "expected a CSV file with the columns file and group"


@dataclass(frozen=True)
class Groups:
    """The groups of the pictures in a folder.

    Attributes:
        option: what finds them again: the path of the CSV file, relative to the folder if it is in
            it, or the pattern.
        names: picture -> group.
        notes: for people.
    """

    option: str = ""
    names: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_groups(folder: Path, option: str, pictures: Sequence[str]) -> Groups:
    """Find the group of each picture.

    Args:
        folder: of the pictures.
        option: a CSV file, by its path relative to `folder` or to the working directory, or else
            by its name in `folder`; or a regular expression, whose first parenthesis in the path
            of a picture is its group. What it does not match is a group of its own.
        pictures: paths relative to `folder`, with `/`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file names a picture not, twice, or without a group; or the pattern is no
            regular expression with a parenthesis, or matches no picture.
    """
    if not option.lower().endswith(".csv"):
        names = _match_groups(option, pictures)
        single = [path for path in pictures if path not in names]
        note = f"pictures that it does not match, each a group of its own: {_count(single)}"
        return _describe(option, {path: path for path in single} | names, [note] * bool(single))
    file, option = _find_file(folder, option)
    table = _read_table(file)
    if unnamed := [path for path in pictures if _normalized(path) not in table]:
        raise ValueError(
            f"{file}: pictures of {folder} that it does not name: {_count(unnamed)}; expected a "
            "row for each, with its path relative to that folder"
        )
    names = {path: table[_normalized(path)] for path in pictures}
    missing = sorted(table.keys() - set(map(_normalized, pictures)))
    note = f"files that it names and that are no pictures here: {_count(missing)}"
    return _describe(option, names, [note] * bool(missing))


def _describe(option: str, names: dict[str, str], notes: list[str]) -> Groups:
    sizes = Counter(names.values())
    if len(sizes) < 2:
        raise ValueError(f"--groups: {option} puts all pictures into {len(sizes)}; expected two")
    largest = f"the largest of {max(sizes.values()):,} pictures"
    notes = [f"groups by {printable(option)}: {len(sizes):,}, {largest}", *notes]
    return Groups(option, names, tuple(notes))


def _find_file(folder: Path, option: str) -> tuple[Path, str]:
    """The file, and the option for any working directory."""
    path = Path(os.path.expanduser(option))
    for file in (folder / path, path):
        if file.is_file():
            file, root = file.resolve(), folder.resolve()
            is_inside = file.is_relative_to(root)
            return file, file.relative_to(root).as_posix() if is_inside else str(file)
    if (folder / path.name).is_file():  # data and file have moved
        return folder / path.name, option
    raise FileNotFoundError(f"--groups: no file {option!r}, here or in {folder}; {_EXPECTED}")


def _read_table(path: Path) -> dict[str, str]:
    """File -> group."""
    try:
        rows = read_csv(path)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}: {error}; {_EXPECTED}") from None
    if not rows or not {"file", "group"} <= rows[0].keys():
        columns = ", ".join(map(str, rows[0])) if rows else "no rows"
        raise ValueError(f"{path}: got {columns[:100]}; {_EXPECTED}")
    table: dict[str, str] = {}
    for row in rows:
        file, group = _normalized(row["file"] or ""), (row["group"] or "").strip()
        if not group or table.setdefault(file, group) != group:
            other = f"{group!r} and {table[file]!r}" if group else "nothing"
            raise ValueError(f"{path}: group of {file}: got {other}; expected one")
    return table


def _match_groups(pattern: str, pictures: Sequence[str]) -> dict[str, str]:
    """Picture -> first parenthesis, for those that match."""
    expected = "expected a regular expression with a parenthesis, or a CSV file (.csv)"
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"--groups: got {pattern!r} ({error}); {expected}") from None
    if not compiled.groups:
        raise ValueError(f"--groups: got {pattern!r}; {expected}")
    matches = {path: compiled.search(path) for path in pictures}
    groups = {path: match[1] for path, match in matches.items() if match and match[1]}
    if not groups:
        first = f", such as {printable(pictures[0])}" if pictures else ""
        raise ValueError(f"--groups: {pattern!r} matches no picture{first}; {expected}")
    return groups


def _normalized(path: str) -> str:
    """macOS decomposes accents; `find .` begins with a dot; Windows has backslashes."""
    return unicodedata.normalize("NFC", str(PurePosixPath(path.strip().replace(os.sep, "/"))))


def _count(paths: Sequence[str]) -> str:
    return f"{len(paths):,}, the first {printable(paths[0])}" if paths else "0"
