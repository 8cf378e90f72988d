"""One part of a batch plan in, its pictures out one by one, whatever they are stored in.

Only one picture is held in memory and, of a Parquet file, a few rows.
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

import pyarrow.parquet as pq
from pyarrow import fs

from fashion_cnn.data.picture_files import HEADER_BYTES, has_picture, is_clutter

FILE, ROW_GROUP, TAR = "file", "rows", "tar"  # kinds of an item of a part
ROWS_PER_READ = 16  # of a Parquet file
BUFFER_BYTES = 1 << 20  # of a Parquet file; by default a whole row group is buffered
CONTENT_COLUMNS = ("image", "bytes", "content", "jpg", "png")  # with pictures, by preference
NAME_COLUMNS = ("path", "file_name", "filename", "file", "uri", "url", "__key__", "key", "id")
MAX_PICTURE_BYTES = 1 << 26

NamedPicture = tuple[str, Any]  # name; path, file object, or the exception that prevented reading


def read_pictures(part: list[dict[str, Any]]) -> Iterator[NamedPicture]:
    """Read the pictures of a part; OSError if a file cannot be read at the moment."""
    for item in part:
        name = os.fsdecode(item["name"])
        try:
            if item["kind"] == ROW_GROUP:
                yield from _parquet_pictures(name, item["row_group"])
            elif item["kind"] == TAR:
                yield from _tar_pictures(name)
            elif "://" not in name and not os.path.isdir(folder := os.path.dirname(name)):
                raise FileNotFoundError(errno.ENOENT, "no such folder on this machine", folder)
            else:
                yield name, _open_picture(name)
        except (OSError, ValueError, EOFError, tarfile.TarError) as error:
            if is_temporary(name, error):
                raise
            yield name, ValueError(f"{error}")


def is_temporary(name: str, error: Exception) -> bool:
    """Whether a retry may succeed: an error of the network or the system, not a damaged file."""
    if "://" in name:
        is_refused = isinstance(error, FileNotFoundError) or "ACCESS_DENIED" in str(error)
        return isinstance(error, OSError) and not is_refused
    return isinstance(error, OSError) and error.errno is not None  # Arrow's "corrupt" has none


def open_filesystem(address: str) -> tuple[Any, str]:
    """The `pyarrow.fs.FileSystem` of an address, and the path in it."""
    parts = urlsplit(address)
    filesystem, root = _open_root(urlunsplit(parts._replace(path="/")))
    return filesystem, root + unquote(parts.path).rstrip("/")


@lru_cache(maxsize=8)  # creating one may take as long as reading a picture
def _open_root(address: str) -> tuple[Any, str]:
    filesystem, path = fs.FileSystem.from_uri(address)
    return filesystem, path.rstrip("/")


def _open_file(name: str) -> Any:
    filesystem, path = open_filesystem(name) if "://" in name else (fs.LocalFileSystem(), name)
    return filesystem.open_input_file(path)


def _open_picture(name: str) -> Any:
    """A local path unchanged; what is stored at an address, or the exception why it is not."""
    if "://" not in name:
        return name
    try:
        with _open_file(name) as file:
            if file.size() > MAX_PICTURE_BYTES:
                return _too_large(file.size())
            return io.BytesIO(file.read())
    except (OSError, ValueError) as error:
        if is_temporary(name, error):
            raise
        return ValueError(f"{error}")


def _too_large(size: int) -> ValueError:
    return ValueError(f"{size:,} bytes; at most {MAX_PICTURE_BYTES:,}")


def open_parquet(name: str) -> Any:
    """Open a Parquet file; OSError if it cannot be reached, ValueError if it is damaged."""
    try:
        return pq.ParquetFile(_open_file(name), pre_buffer=False, buffer_size=BUFFER_BYTES)
    except ValueError as error:
        raise ValueError(f"{name}: not a Parquet file ({error})") from None


def _parquet_pictures(name: str, row_group: int) -> Iterator[NamedPicture]:
    """The pictures of a row group: a column of bytes, of {bytes, path}, or of relative paths."""
    file = open_parquet(name)
    types = {field.name: str(field.type) for field in file.schema_arrow}
    content_column = next((x for x in CONTENT_COLUMNS if _is_binary(types.get(x, ""))), None)
    name_column = next((x for x in NAME_COLUMNS if types.get(x, "").endswith("string")), None)
    columns = [column for column in (content_column, name_column) if column]
    if not columns:
        raise ValueError(
            f"columns {', '.join(types)}; expected pictures in one of "
            f"{', '.join(CONTENT_COLUMNS)}, or their paths in one of {', '.join(NAME_COLUMNS)}"
        )
    index = sum(file.metadata.row_group(i).num_rows for i in range(row_group))
    for batch in file.iter_batches(ROWS_PER_READ, [row_group], columns=columns):
        for row in batch.to_pylist():
            picture = row[content_column or name_column]
            label = row[name_column] if name_column else None
            if isinstance(picture, dict):
                label, picture = label or picture.get("path"), picture.get("bytes")
            label = label or f"{name}#{index}"
            index += 1
            if picture is None:
                yield label, ValueError("empty")
            elif isinstance(picture, bytes):
                yield label, io.BytesIO(picture)
            else:
                yield label, _open_picture(_resolve(name, picture))


def _is_binary(type_name: str) -> bool:
    return type_name in ("binary", "large_binary") or type_name.startswith("struct<bytes: binary")


def _resolve(parquet_name: str, picture: str) -> str:
    """The path or address of a picture that a Parquet file names relative to its own folder."""
    if "://" in picture:
        return picture
    if "://" not in parquet_name:
        return os.path.join(os.path.dirname(parquet_name), picture)
    parts = urlsplit(parquet_name)
    path = posixpath.join(posixpath.dirname(unquote(parts.path)), picture)
    return urlunsplit(parts._replace(path=quote(path)))


def _tar_pictures(name: str) -> Iterator[NamedPicture]:
    """The pictures in a tar file, in their order, read as a stream."""
    with _open_file(name) as raw, tarfile.open(fileobj=raw, mode="r|*") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if not file or any(map(is_clutter, member.name.split("/"))):
                continue
            header = file.read(HEADER_BYTES)
            if not has_picture(member.name, header):
                continue
            label = f"{name}#{member.name}"
            if member.size > MAX_PICTURE_BYTES:
                yield label, _too_large(member.size)
            else:
                yield label, io.BytesIO(header + file.read())
