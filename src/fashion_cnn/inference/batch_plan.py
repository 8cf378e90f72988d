"""Names of pictures in, a plan of parts out: a Parquet file that says what there is to do.

Pictures are files of their own, rows of Parquet files, or members of tar files (WebDataset), on
disks or on any file system that Arrow opens by its address (`s3://…`).
"""

import os
from collections.abc import Iterable, Iterator
from glob import iglob
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from fashion_cnn.data.pictures import SUFFIXES
from fashion_cnn.files import write_atomically
from fashion_cnn.inference.batch_sources import (
    FILE,
    ROW_GROUP,
    TAR,
    out_of_reach,
    parquet,
    place_of,
)

PLAN = "_plan.parquet"  # readers of Parquet folders leave out what begins with _
PART = 500  # pictures of a part: some seconds of a core
TOGETHER = 64  # parts of a plan that are read at once; Parquet bears a million such groups
TARS = (".tar", ".tar.gz", ".tgz")


def write_plan(words: list[str], path: Path, about: dict[str, str]) -> int:
    """Write what there is to do as a Parquet file, `TOGETHER` parts a row group.

    One folder's names are held in memory, and as many parts.

    Args:
        words: folders, patterns, files, addresses. Folders that hold answers are left out, and
            what begins with a dot.
        path: of the plan.
        about: is kept with it.

    Returns:
        How many parts there are.

    Raises:
        ValueError: nothing there, or a folder that cannot be listed.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [("part", pa.int32()), ("name", pa.binary()), ("kind", pa.string())]
    schema = pa.schema([*fields, ("row_group", pa.int32())], metadata=about)
    parts = 0

    def write(temporary: Path) -> None:
        nonlocal parts
        todo = _parts(words)
        with pq.ParquetWriter(temporary, schema) as writer:
            while group := list(islice(todo, TOGETHER)):
                rows = [{"part": parts + i, **x} for i, part in enumerate(group) for x in part]
                writer.write_table(pa.Table.from_pylist(rows, schema), len(rows))
                parts += len(group)
            writer.add_key_value_metadata({"parts": str(parts)})
        if not parts:
            raise ValueError(f"{' '.join(words)[:200]}: no pictures there")

    write_atomically(path, write)
    return parts


def read_plan(path: Path, wanted: Iterable[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Parts of a plan, by their numbers, which ascend; each as `pictures_of` takes it."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for group, numbers in groupby(wanted, lambda number: number // TOGETHER):
            rows = file.read_row_group(group).to_pylist()
            parts = {n: list(part) for n, part in groupby(rows, itemgetter("part"))}
            yield from ((number, parts[number]) for number in numbers)


def _parts(words: list[str]) -> Iterator[list[dict[str, Any]]]:
    files: list[dict[str, Any]] = []
    for name in (name for word in words for name in _names(word)):
        item = {"name": os.fsencode(name), "kind": FILE, "row_group": 0}
        path = (urlsplit(name).path if "://" in name else name).lower()
        if path.endswith(".parquet"):
            for group in range(_row_groups(name)):
                yield [item | {"kind": ROW_GROUP, "row_group": group}]
        elif path.endswith(TARS):
            yield [item | {"kind": TAR}]
        else:
            files.append(item)
            if len(files) == PART:
                yield files
                files = []
    if files:
        yield files


def _row_groups(name: str) -> int:
    try:
        return int(parquet(name).num_row_groups)
    except (OSError, ValueError) as error:
        if out_of_reach(name, error):
            raise ValueError(f"{name}: cannot be read ({error})") from None
        return 1  # which will be a row that says so


def _names(word: str) -> Iterator[str]:
    """The files that a word of the command line stands for; folders by name, one at a time."""
    try:
        yield from _found(word)
    except OSError as error:
        raise ValueError(f"{word}: cannot be listed ({error})") from None


def _found(word: str) -> Iterator[str]:
    if "://" in word:
        yield from _names_at(word)
    elif Path(word).is_dir():
        for folder, below, names in os.walk(os.path.abspath(word), onerror=_refuse):
            if PLAN in names:
                below.clear()
                continue
            below.sort()
            yield from (os.path.join(folder, name) for name in sorted(names) if _is_ours(name))
    elif any(sign in word for sign in "*?[") and not Path(word).exists():
        found = (x for x in iglob(word, recursive=True) if Path(x).is_file())
        yield from sorted(map(os.path.abspath, found))
    else:
        yield os.path.abspath(word)  # another process may be elsewhere


def _refuse(error: OSError) -> None:
    raise error


def _names_at(address: str) -> Iterator[str]:
    from pyarrow import fs

    system, path = place_of(address)
    found = system.get_file_info(path)
    if found.type == fs.FileType.NotFound:
        raise FileNotFoundError(f"{address}: no such file")
    if found.is_file:
        yield address
        return
    parts = urlsplit(address)
    base = path.removesuffix(unquote(parts.path).rstrip("/"))
    folders = [path]
    while folders:
        inside = sorted(system.get_file_info(fs.FileSelector(folders.pop())), key=lambda x: x.path)
        if any(x.base_name == PLAN for x in inside):
            continue
        for one in inside:
            if one.is_file and _is_ours(one.base_name):
                yield urlunsplit(parts._replace(path=quote(one.path.removeprefix(base))))
        folders += [x.path for x in reversed(inside) if not x.is_file]


def _is_ours(name: str) -> bool:
    return name[0] != "." and name.lower().endswith((*SUFFIXES, ".parquet", *TARS))
