"""Names of pictures in, a plan of parts out; and the pictures of one part, however they are kept.

Pictures are files of their own, rows of Parquet files, or members of tar files (WebDataset), on
disks or on any file system that Arrow opens by its address (`s3://…`).
"""

import io
import os
import tarfile
from collections.abc import Iterator
from glob import iglob
from pathlib import Path
from typing import Any

from fashion_cnn.data.pictures import ENDINGS
from fashion_cnn.run import write_whole

PART = 500  # pictures of a part: some seconds of a core
ROWS = 64  # of a Parquet file at a time
TARS = (".tar", ".tar.gz", ".tgz")
CONTENT = ("image", "bytes", "content", "jpg", "png")  # columns with pictures, by preference
NAMES = ("path", "file_name", "filename", "file", "uri", "url", "__key__", "key", "id")
MOST_BYTES = 1 << 28  # of one picture
FILE, ROW_GROUP, TAR = "file", "rows", "tar"

Picture = tuple[str, Any]  # its name; a path or its content, or the error that it cannot be had


def write_plan(words: list[str], path: Path, about: dict[str, str]) -> int:
    """Write what there is to do as a Parquet file, a row group a part.

    Nothing is held in memory but one folder's names.

    Args:
        words: folders, patterns, files, addresses.
        path: of the plan.
        about: is kept with it.

    Returns:
        How many parts there are.

    Raises:
        ValueError: nothing there.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [("name", pa.string()), ("kind", pa.string()), ("row_group", pa.int32())]
    schema = pa.schema(fields, metadata=about)
    parts = 0

    def write(temporary: Path) -> None:
        nonlocal parts
        with pq.ParquetWriter(temporary, schema) as writer:
            for part in _parts(words):
                writer.write_table(pa.Table.from_pylist(part, schema))
                parts += 1
        if not parts:
            raise ValueError(f"{' '.join(words)}: no pictures there")

    write_whole(path, write)
    return parts


def _parts(words: list[str]) -> Iterator[list[dict[str, Any]]]:
    files: list[dict[str, Any]] = []
    for name in (name for word in words for name in _names(word)):
        if name.endswith(".parquet"):
            for group in range(_parquet(name).num_row_groups):
                yield [{"name": name, "kind": ROW_GROUP, "row_group": group}]
        elif name.endswith(TARS):
            yield [{"name": name, "kind": TAR, "row_group": 0}]
        else:
            files.append({"name": name, "kind": FILE, "row_group": 0})
            if len(files) == PART:
                yield files
                files = []
    if files:
        yield files


def _names(word: str) -> Iterator[str]:
    """The files that a word of the command line stands for; folders by name, one at a time."""
    if "://" in word:
        yield from _names_at(word)
    elif Path(word).is_dir():
        for folder, below, names in os.walk(word):
            below.sort()
            yield from (os.path.join(folder, name) for name in sorted(names) if _is_ours(name))
    elif any(sign in word for sign in "*?[") and not Path(word).exists():
        yield from sorted(name for name in iglob(word, recursive=True) if Path(name).is_file())
    else:
        yield word


def _names_at(address: str) -> Iterator[str]:
    from pyarrow import fs

    system, path = fs.FileSystem.from_uri(address)
    found = system.get_file_info(path)
    if found.type == fs.FileType.NotFound:
        raise FileNotFoundError(f"{address}: no such file")
    if found.is_file:
        yield address
        return
    root = address.removesuffix(path)
    inside = system.get_file_info(fs.FileSelector(path, recursive=True))
    yield from sorted(root + x.path for x in inside if x.is_file and _is_ours(x.path))


def _is_ours(name: str) -> bool:
    return name.lower().endswith((*ENDINGS, ".parquet", *TARS))


def pictures_of(part: list[dict[str, Any]]) -> Iterator[Picture]:
    """The pictures of a part of a plan; one that cannot be had comes as its error."""
    for item in part:
        name = item["name"]
        try:
            if item["kind"] == ROW_GROUP:
                yield from _rows(name, item["row_group"])
            elif item["kind"] == TAR:
                yield from _members(name)
            else:
                yield name, io.BytesIO(_read(name)) if "://" in name else name
        except (OSError, ValueError, EOFError, tarfile.TarError) as error:
            yield name, ValueError(f"{error}")


def _opened(name: str) -> Any:
    from pyarrow import fs

    if "://" not in name:
        return fs.LocalFileSystem().open_input_file(name)
    system, path = fs.FileSystem.from_uri(name)
    return system.open_input_file(path)


def _read(name: str) -> bytes:
    with _opened(name) as file:
        if file.size() > MOST_BYTES:
            raise ValueError(f"{file.size():,} bytes; at most {MOST_BYTES:,}")
        return bytes(file.read())


def _parquet(name: str) -> Any:
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(_opened(name))
    except (OSError, ValueError) as error:
        raise ValueError(f"{name}: not a Parquet file ({error})") from None


def _rows(name: str, group: int) -> Iterator[Picture]:
    """A row group's pictures: of a column of bytes, or of {bytes, path}, or of paths."""
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
                yield label, io.BytesIO(_read(picture)) if "://" in picture else picture


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
