"""The pictures of one part of a plan, however they are kept, one after another.

Nothing is held but one picture and, of a Parquet file, a few rows.
"""

import errno
import io
import os
import posixpath
import tarfile
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from fashion_cnn.data.pictures import SUFFIXES

FILE, ROW_GROUP, TAR = "file", "rows", "tar"  # what an item of a part is
ROWS = 16  # of a Parquet file at a time
BUFFER = 1 << 20  # bytes of a Parquet file at a time; all of a row group without
CONTENT = ("image", "bytes", "content", "jpg", "png")  # columns with pictures, by preference
NAMES = ("path", "file_name", "filename", "file", "uri", "url", "__key__", "key", "id")
MAX_BYTES = 1 << 26  # of one picture

Picture = tuple[str, Any]  # its name; a path or its content, or the error that it cannot be had


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
            if out_of_reach(name, error):
                raise
            yield name, ValueError(f"{error}")


def out_of_reach(name: str, error: Exception) -> bool:
    """Whether another time may go better: a network's or a system's error, not a spoilt file.

    Args:
        name: a file's path or address.
        error: what opening or reading it raised.
    """
    if "://" in name:
        gone = isinstance(error, FileNotFoundError) or "ACCESS_DENIED" in str(error)
        return isinstance(error, OSError) and not gone
    return isinstance(error, OSError) and error.errno is not None  # Arrow's "corrupt" has none


def place_of(address: str) -> tuple[Any, str]:
    """An address's file system, Arrow's, and the path in it."""
    parts = urlsplit(address)
    system, base = _system(urlunsplit(parts._replace(path="/")))
    return system, base + unquote(parts.path).rstrip("/")


@lru_cache(maxsize=8)  # to make one may take as long as to read a picture
def _system(root: str) -> tuple[Any, str]:
    from pyarrow import fs

    system, path = fs.FileSystem.from_uri(root)
    return system, path.rstrip("/")


def _opened(name: str) -> Any:
    from pyarrow import fs

    system, path = place_of(name) if "://" in name else (fs.LocalFileSystem(), name)
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
            if file.size() > MAX_BYTES:
                return ValueError(f"{file.size():,} bytes; at most {MAX_BYTES:,}")
            return io.BytesIO(file.read())
    except (OSError, ValueError) as error:
        if out_of_reach(name, error):
            raise
        return ValueError(f"{error}")


def parquet(name: str) -> Any:
    """A Parquet file, opened, as `pyarrow.parquet.ParquetFile`.

    Raises:
        OSError: it cannot be reached.
        ValueError: it is none.
    """
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(_opened(name), pre_buffer=False, buffer_size=BUFFER)
    except ValueError as error:
        raise ValueError(f"{name}: not a Parquet file ({error})") from None


def _rows(name: str, group: int) -> Iterator[Picture]:
    """A row group's pictures: of a column of bytes, or of {bytes, path}, or of paths from there."""
    file = parquet(name)
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
            if not member.isfile() or not member.name.lower().endswith(SUFFIXES):
                continue
            label = f"{name}#{member.name}"
            if member.size > MAX_BYTES:
                yield label, ValueError(f"{member.size:,} bytes; at most {MAX_BYTES:,}")
            elif file := archive.extractfile(member):
                yield label, io.BytesIO(file.read())
