"""Atomic file writes, folder locks, checksums."""

import csv
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

TEMPORARY = ".writing-"  # begins the name of a file or folder that is not complete yet
LOCK = ".lock"
_LOCKED_BYTE = 1 << 30  # on Windows: beyond the content, which others may read
_RENAME_SECONDS = 2.0  # on Windows: for another program to close the file that is replaced
CHECKSUMS = "SHA256SUMS"
_CHECKSUM_OF_CHECKSUMS = "# SHA-256 of the lines above: "


def write_atomically(path: Path, write: Callable[[Path], Any]) -> Path:
    """Write a temporary file beside `path`, flush it, and rename it to `path`.

    Args:
        path: where the file will appear; its suffix is kept, because savers look at it.
        write: called with the temporary path; writes the file and closes it.

    Returns:
        `path`.

    Raises:
        OSError: it could not be written; what was there before is untouched.
    """
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY, suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        _replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise OSError(f"{path}: could not be written ({error.strerror or error})") from error
    finally:
        if temporary:
            with suppress(PermissionError):  # Windows: a memory map of it is still open
                temporary.unlink(missing_ok=True)
    return path


def _replace(source: Path, target: Path) -> None:
    """Rename a file; on Windows again and again while another program has `target` open."""
    deadline = time.monotonic() + _RENAME_SECONDS
    while sys.platform == "win32" and time.monotonic() < deadline:
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(0.05)
    os.replace(source, target)


def sync_folder(folder: Path) -> None:
    """Make a file that was made or renamed in a folder survive a power cut."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def copy_folder_atomically(folder: Path, output: Path) -> Path:
    """Copy a folder; the copy appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=TEMPORARY) as temporary:
        shutil.copytree(folder, Path(temporary) / "copy")
        (Path(temporary) / "copy").rename(output)
    return output


def write_text(path: Path, text: str) -> Path:
    """Write `text` as UTF-8, atomically; what UTF-8 lacks, in names of files, is escaped."""
    content = text.encode("utf-8", "backslashreplace")
    return write_atomically(path, lambda temporary: temporary.write_bytes(content))


def write_json(path: Path, value: Any) -> Path:
    """Write `value` as indented JSON, atomically."""
    return write_text(path, json.dumps(value, indent=2) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> Path:
    """Write a header and rows as CSV, atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return write_text(path, text.getvalue())


def write_npz(path: Path, arrays: dict[str, Any]) -> Path:
    """Write NumPy arrays as a compressed `.npz`, atomically."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return write_atomically(path, lambda temporary: temporary.write_bytes(buffer.getvalue()))


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not valid JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged ({error})") from None


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header, as text."""
    with open(path, encoding="utf-8-sig", newline="") as file:  # Excel writes a signature
        return list(csv.DictReader(file))


def read_npz(path: Path) -> dict[str, Any]:
    """The arrays of an `.npz` file; pickles are refused.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    import numpy as np

    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged ({error})") from None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock a folder for this process; the lock ends with the process, however it ends.

    Raises:
        ValueError: another process holds the lock.
    """
    path = folder / LOCK
    with open(path, "a+", encoding="utf-8") as file:
        if not lock_file(file):
            file.seek(0)
            raise ValueError(
                f"{folder}: in use by process {file.read() or '?'}; wait for it to end, or give "
                "another folder"
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        for leftover in list(folder.rglob(f"{TEMPORARY}*")):  # of a process that was killed
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        try:
            yield
        finally:
            with suppress(PermissionError):  # Windows does not remove an open file; harmless
                path.unlink(missing_ok=True)


def lock_file(file: Any) -> bool:
    """Lock an open file; whether that succeeded and the file is still the one of its name."""
    try:
        import fcntl
    except ImportError:
        return _lock_on_windows(file.fileno())
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), os.stat(file.name))
    except (BlockingIOError, FileNotFoundError):
        return False


def _lock_on_windows(descriptor: int) -> bool:
    import msvcrt

    position = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        return True
    except PermissionError:
        return False
    finally:
        os.lseek(descriptor, position, os.SEEK_SET)


def is_unused(folder: Path, ignored: Sequence[str] = ()) -> bool:
    """Whether a folder holds nothing but locks, temporary files and the `ignored` names."""
    names = (path.name for path in folder.iterdir())
    return all(name in (LOCK, *ignored) or name.startswith(TEMPORARY) for name in names)


def write_checksums(folder: Path, patterns: Sequence[str] = ("**/*",)) -> None:
    """Write `SHA256SUMS` over the files that match, as `sha256sum -c` reads it."""
    paths = {path for pattern in patterns for path in folder.glob(pattern)}
    files = (p for p in paths if p.is_file() and p.name[0] != "." and p.name != CHECKSUMS)
    lines = "".join(
        f"{file_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in sorted(files)
    )
    digest = hashlib.sha256(lines.encode()).hexdigest()
    write_text(folder / CHECKSUMS, f"{lines}{_CHECKSUM_OF_CHECKSUMS}{digest}\n")


def read_checksums(folder: Path) -> dict[str, str]:
    """File name -> SHA-256, from `SHA256SUMS`; empty where there is none.

    Raises:
        ValueError: it does not match its own checksum, or names a file outside of the folder.
    """
    path = folder / CHECKSUMS
    if not path.exists():
        return {}
    body, _, digest = path.read_bytes().rpartition(_CHECKSUM_OF_CHECKSUMS.encode())
    if hashlib.sha256(body).hexdigest().encode() + b"\n" != digest:
        raise ValueError(f"{path}: damaged")
    checksums = {}
    for line in body.decode().splitlines():
        sha256, _, name = line.partition("  ")
        if not name or Path(name).anchor or ".." in Path(name).parts:
            raise ValueError(f"{path}: damaged ({name!r} is not a file of the folder)")
        checksums[name] = sha256
    return checksums


def damaged_files(folder: Path) -> list[str]:
    """The names of files that are missing or differ from their checksums."""
    try:
        checksums = read_checksums(folder)
    except ValueError:
        return [CHECKSUMS]
    return [
        name
        for name, digest in checksums.items()
        if not (folder / name).is_file() or file_sha256(folder / name) != digest
    ]


def require_unused(folder: Path) -> None:
    """Raise ValueError if a path exists and is no unused folder."""
    if folder.exists() and (folder.is_file() or not is_unused(folder)):
        raise ValueError(f"{folder}: holds other files; give another folder")


def require_same_task(folder: Path, recorded: dict[str, Any], requested: dict[str, Any]) -> None:
    """Raise ValueError unless a folder was started with the settings that are requested now."""
    for key, value in requested.items():
        if recorded.get(key) != value:
            got, expected = (json.dumps(x)[:100] for x in (value, recorded.get(key)))
            raise ValueError(
                f"{folder}: started with another {key}: got {got}; expected {expected}; give "
                "another folder"
            )
