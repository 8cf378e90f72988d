"""Names of pictures in, a plan of parts out; and the pictures of one part, however they are kept.

Pictures are files of their own, rows of Parquet files, or members of tar files (WebDataset), on
disks or on any file system that Arrow opens by its address (`s3://…`).
"""

import errno
import io
import os
import posixpath
import tarfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from glob import iglob
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from fashion_cnn.data.pictures import ENDINGS
from fashion_cnn.run import write_whole

PLAN = "_plan.parquet"  # readers of Parquet folders leave out what begins with _
PART = 500  # pictures of a part: some seconds of a core
TOGETHER = 64  # parts of a plan that are read at once; Parquet bears a million such groups
ROWS = 16  # of a Parquet file at a time
BUFFER = 1 << 20  # bytes of a Parquet file at a time; all of a row group without
TARS = (".tar", ".tar.gz", ".tgz")
CONTENT = ("image", "bytes", "content", "jpg", "png")  # columns with pictures, by preference
NAMES = ("path", "file_name", "filename", "file", "uri", "url", "__key__", "key", "id")
MOST_BYTES = 1 << 26  # of one picture
FILE, ROW_GROUP, TAR = "file", "rows", "tar"

Picture = tuple[str, Any]  # its name; a path or its content, or the error that it cannot be had


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

    write_whole(path, write)
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
        return int(_parquet(name).num_row_groups)
    except (OSError, ValueError) as error:
        if _out_of_reach(name, error):
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

    system, path = _at(address)
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


def _at(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    parts = urlsplit(address)
    system, base = _system(urlunsplit(parts._replace(path="/")))
    return system, base + unquote(parts.path).rstrip("/")


@lru_cache(maxsize=8)  # to make one may take as long as to read a picture
def _system(root: str) -> tuple[Any, str]:
    from pyarrow import fs

    system, path = fs.FileSystem.from_uri(root)
    return system, path.rstrip("/")


def _is_ours(name: str) -> bool:
    return name[0] != "." and name.lower().endswith((*ENDINGS, ".parquet", *TARS))


def pictures_of(part: list[dict[str, Any]]) -> Iterator[Picture]:
    """The pictures of a part of a plan; one that cannot be had comes as its error.

    Raises:
        OSError: a Parquet or tar file cannot be had, now at least.
    """
    for item in part:
        name = os.fsdecode(item["name"])
        try:
            if item["kind"] == ROW_GROUP:
                yield from _rows(name, item["row_group"])
            elif item["kind"] == TAR:
                yield from _members(name)
            elif "://" not in name and not os.path.isdir(folder := os.path.dirname(name)):
                raise FileNotFoundError(errno.ENOENT, "no such folder on this machine", folder)
            else:
                yield name, _content(name)
        except (OSError, ValueError, EOFError, tarfile.TarError) as error:
            if _out_of_reach(name, error):
                raise
            yield name, ValueError(f"{error}")


def _out_of_reach(name: str, error: Exception) -> bool:
    """Whether another time may go better: a network's or a system's error, not a spoilt file."""
    if "://" in name:
        gone = isinstance(error, FileNotFoundError) or "ACCESS_DENIED" in str(error)
        return isinstance(error, OSError) and not gone
    return isinstance(error, OSError) and error.errno is not None  # Arrow's "corrupt" has none


def _opened(name: str) -> Any:
    from pyarrow import fs

    system, path = _at(name) if "://" in name else (fs.LocalFileSystem(), name)
    return system.open_input_file(path)


def _content(name: str) -> Any:
    """A path on this machine as it is; what is at an address, or the error that it is not.

    Raises:
        OSError: the address cannot be reached.
    """
    if "://" not in name:
        return name
    try:
        with _opened(name) as file:
            if file.size() > MOST_BYTES:
                return ValueError(f"{file.size():,} bytes; at most {MOST_BYTES:,}")
            return io.BytesIO(file.read())
    except (OSError, ValueError) as error:
        if _out_of_reach(name, error):
            raise
        return ValueError(f"{error}")


def _parquet(name: str) -> Any:
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(_opened(name), pre_buffer=False, buffer_size=BUFFER)
    except ValueError as error:
        raise ValueError(f"{name}: not a Parquet file ({error})") from None


def _rows(name: str, group: int) -> Iterator[Picture]:
    """A row group's pictures: of a column of bytes, or of {bytes, path}, or of paths from there."""
    file = _parquet(name)
    columns = {field.name: str(field.type) for field in file.schema_arrow}
    content = next((x for x in CONTENT if _holds_pictures(columns.get(x, ""))), None)
    named = next((x for x in NAMES if columns.get(x) in ("string", "large_string")), None)
    if content is None and named is None:
        raise ValueError(
            f"columns {', '.join(columns)}; expected pictures in one of {', '.join(CONTENT)}, or "
            f"their paths in one of {', '.join(NAMES)}"
        )
    row = sum(file.metadata.row_group(i).num_rows for i in range(group))
    wanted = [column for column in (content, named) if column]
    for batch in file.iter_batches(ROWS, [group], columns=wanted):
        for found in batch.to_pylist():
            picture = found[content] if content else found[named]
            label = found[named] if named else None
            if isinstance(picture, dict):
                label, picture = label or picture.get("path"), picture.get("bytes")
            label = label or f"{name}#{row}"
            row += 1
            if picture is None:
                yield label, ValueError("empty")
            elif isinstance(picture, bytes):
                yield label, io.BytesIO(picture)
            else:
                yield label, _content(_beside(name, picture))


def _beside(name: str, picture: str) -> str:
    """Where a Parquet file's picture is: its address or path, from the file's own folder."""
    if "://" in picture or "://" not in name:
        return picture if "://" in picture else os.path.join(os.path.dirname(name), picture)
    parts = urlsplit(name)
    path = posixpath.join(posixpath.dirname(unquote(parts.path)), picture)
    return urlunsplit(parts._replace(path=quote(path)))


def _holds_pictures(kind: str) -> bool:
    return kind in ("binary", "large_binary") or kind.startswith("struct<bytes: binary")


def _members(name: str) -> Iterator[Picture]:
    """A tar file's pictures, read from its beginning to its end."""
    with _opened(name) as raw, tarfile.open(fileobj=raw, mode="r|*") as archive:
        for member in archive:
            if not member.isfile() or not member.name.lower().endswith(ENDINGS):
                continue
            label = f"{name}#{member.name}"
            if member.size > MOST_BYTES:
                yield label, ValueError(f"{member.size:,} bytes; at most {MOST_BYTES:,}")
            elif file := archive.extractfile(member):
                yield label, io.BytesIO(file.read())
