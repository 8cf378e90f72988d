"""Names of pictures in; a plan that divides them into parts, as a Parquet file, out.

Pictures are files of their own, rows of Parquet files, or members of tar files (WebDataset), on
local disks or on any file system that Arrow opens by its address (`s3://…`).
"""

import os
from collections.abc import Iterable, Iterator
from glob import iglob
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from fashion_cnn.data.picture_files import SUFFIXES, is_clutter, is_picture, walk
from fashion_cnn.files import write_atomically
from fashion_cnn.inference import batch_sources as sources
from fashion_cnn.run import holds_run

PLAN = "_plan.parquet"  # readers of Parquet folders ignore names that begin with _
PART = 500  # pictures; takes a core some seconds
PARTS_PER_ROW_GROUP = 64  # of the plan; Parquet copes with a million row groups
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz")
CONTAINER_ENDINGS = (".parquet", *TAR_ENDINGS)


def write_plan(words: list[str], path: Path, metadata: dict[str, str]) -> int:
    """Plan all pictures, with one row group in memory at a time; the number of parts."""
    fields = [("part", pa.int32()), ("name", pa.binary()), ("kind", pa.string())]
    schema = pa.schema([*fields, ("row_group", pa.int32())], metadata=metadata)
    count = 0

    def write(temporary: Path) -> None:
        nonlocal count
        parts = enumerate(_divide(words))
        with pq.ParquetWriter(temporary, schema) as writer:
            while group := list(islice(parts, PARTS_PER_ROW_GROUP)):
                rows = [{"part": number, **item} for number, part in group for item in part]
                writer.write_table(pa.Table.from_pylist(rows, schema), len(rows))
                count += len(group)
            writer.add_key_value_metadata({"parts": str(count)})
        if not count:
            raise ValueError(f"{' '.join(words)[:200]}: no pictures there")

    write_atomically(path, write)
    return count


def read_plan(path: Path, numbers: Iterable[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Parts of a plan, by their ascending numbers."""
    with pq.ParquetFile(path) as file:
        for row_group, group in groupby(numbers, lambda number: number // PARTS_PER_ROW_GROUP):
            rows = file.read_row_group(row_group).to_pylist()
            parts = {number: list(part) for number, part in groupby(rows, itemgetter("part"))}
            for number in group:
                yield number, parts[number]


def _divide(words: list[str]) -> Iterator[list[dict[str, Any]]]:
    """The parts: a row group, a tar file, or up to `PART` picture files each."""
    files: list[dict[str, Any]] = []
    for name in (name for word in words for name in _list_files(word)):
        item = {"name": os.fsencode(name), "kind": sources.FILE, "row_group": 0}
        path = (urlsplit(name).path if "://" in name else name).lower()
        if path.endswith(".parquet"):
            for row_group in range(_count_row_groups(name)):
                yield [item | {"kind": sources.ROW_GROUP, "row_group": row_group}]
        elif path.endswith(TAR_ENDINGS):
            yield [item | {"kind": sources.TAR}]
        else:
            files.append(item)
            if len(files) == PART:
                yield files
                files = []
    if files:
        yield files


def _count_row_groups(name: str) -> int:
    try:
        return int(sources.open_parquet(name).num_row_groups)
    except (OSError, ValueError) as error:
        if sources.is_temporary(name, error):
            raise ValueError(f"{name}: cannot be read ({error})") from None
        return 1  # reading it will give a row with this error


def _list_files(word: str) -> Iterator[str]:
    """The files that a word of the command line stands for; folders sorted, one at a time."""
    try:
        if "://" in word:
            yield from _list_address(word)
        elif Path(word).is_dir():
            yield from _list_folder(os.path.abspath(word))
        elif any(sign in word for sign in "*?[") and not Path(word).exists():
            files = (path for path in iglob(word, recursive=True) if Path(path).is_file())
            yield from sorted(map(os.path.abspath, files))
        else:
            yield os.path.abspath(word)  # other processes have other working directories
    except OSError as error:
        raise ValueError(f"{word}: cannot be listed ({error})") from None


def _list_folder(root: str) -> Iterator[str]:
    for folder, subfolders, names in walk(root):
        if PLAN in names:
            subfolders.clear()
            continue
        for name in names:
            path = os.path.join(folder, name)
            if name.lower().endswith(CONTAINER_ENDINGS) or is_picture(path):
                yield path


def _list_address(address: str) -> Iterator[str]:
    filesystem, path = sources.open_filesystem(address)
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        raise FileNotFoundError(f"{address}: no such file")
    if info.is_file:
        yield address
        return
    parts = urlsplit(address)
    root = path.removesuffix(unquote(parts.path).rstrip("/"))
    folders = [path]
    while folders:
        folder = folders.pop()
        entries = filesystem.get_file_info(fs.FileSelector(folder))
        names = {entry.base_name for entry in entries}
        if PLAN in names or (folder != path and holds_run(names)):
            continue
        entries = [entry for entry in entries if not is_clutter(entry.base_name)]
        entries.sort(key=lambda entry: entry.path)
        for entry in entries:  # by the endings, because each look into a file is a request
            if entry.is_file and entry.path.lower().endswith((*SUFFIXES, *CONTAINER_ENDINGS)):
                yield urlunsplit(parts._replace(path=quote(entry.path.removeprefix(root))))
        folders += [entry.path for entry in reversed(entries) if not entry.is_file]
