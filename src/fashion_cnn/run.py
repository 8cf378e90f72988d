"""The run folder: the names in it, and files that appear whole or not at all."""

import csv
import hashlib
import io
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

HISTORY_COLUMNS = (
    "epoch",
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "learning_rate",
    "seconds",
)
_SUMS = "SHA256SUMS"
_OF_SUMS = "# SHA-256 of the lines above: "
UNFINISHED = ".writing-"
_LOCK = ".lock"
_VERSIONS = ("fashion-cnn", "keras", "tensorflow", "tensorflow-cpu", "jax", "numpy")


def new_run_folder(recipe_name: str, parent: Path = Path("runs")) -> Path:
    """Make `parent/<recipe>-<n>` with the first free n, from 1, and return it."""
    parent.mkdir(parents=True, exist_ok=True)
    taken = [re.fullmatch(re.escape(recipe_name) + r"-(\d+)", p.name) for p in parent.iterdir()]
    n = 1 + max((int(match[1]) for match in taken if match), default=0)
    while True:
        try:
            (parent / f"{recipe_name}-{n}").mkdir()
            return parent / f"{recipe_name}-{n}"
        except FileExistsError:  # another process was faster
            n += 1


def is_used(run: Path) -> bool:
    """Whether a folder holds more than what a run leaves that was killed as it began."""
    own = ("environment.json", _LOCK)
    names = (path.name for path in run.iterdir())
    return any(name not in own and not name.startswith(UNFINISHED) for name in names)


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Keep a run folder to this process; the lock goes with the process, however it ends.

    Raises:
        ValueError: another process has it.
    """
    path = run / _LOCK
    with open(path, "a+", encoding="utf-8") as file:
        if not _lock(file):
            file.seek(0)
            raise ValueError(
                f"{run}: process {file.read() or '?'} is at work there; wait for it to end, or "
                "give another folder"
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        for left in list(run.rglob(f"{UNFINISHED}*")):  # of a process that was killed
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            yield
        finally:
            with suppress(PermissionError):  # Windows: not while it is open; it does no harm
                path.unlink(missing_ok=True)


def _lock(file: Any) -> bool:
    """Whether this process has the file now, and it is still the one in the folder."""
    try:
        import fcntl
    except ImportError:  # Windows: no two trainings are kept apart
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), os.stat(file.name))
    except (BlockingIOError, FileNotFoundError):
        return False


def require_space(run: Path, size: int) -> None:
    """Raise OSError unless `size` more bytes fit where the run is."""
    free = shutil.disk_usage(run).free
    if free < size:
        raise OSError(
            f"{run}: {free / 1e6:.0f} MB free; a run of this model needs {size / 1e6:.0f} MB: make "
            "room, or give another --run"
        )


def write_whole(path: Path, write: Callable[[Path], Any]) -> Path:
    """Let `write` fill a temporary file beside `path`, then move it into place.

    Args:
        path: where the file shall appear; its ending is kept, since savers look at it.
        write: given the temporary path, writes the file and closes it.

    Returns:
        `path`.

    Raises:
        OSError: it could not be written; what was there before is untouched.
    """
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED, suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
        if os.name == "posix":  # the new name, too, shall outlive a power cut
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
    except OSError as error:
        raise OSError(f"{path}: could not be written ({error.strerror or error})") from error
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)
    return path


def copy_whole(folder: Path, output: Path) -> Path:
    """Copy a folder so that it appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=UNFINISHED) as beside:
        shutil.copytree(folder, Path(beside) / "copy")
        (Path(beside) / "copy").rename(output)
    return output


def write_text(path: Path, text: str) -> Path:
    """Write `text` as UTF-8, whole or not at all."""
    return write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> Path:
    """Write `value` as indented JSON, whole or not at all."""
    return write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(run: Path, name: str) -> Any:
    """Read `name` of a run folder.

    Raises:
        FileNotFoundError: `run` is no run folder.
    """
    path = _existing(run, name)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged ({error})") from None


def _existing(run: Path, name: str) -> Path:
    path = whole(run, name)
    if not path.is_file():
        raise FileNotFoundError(
            f"{run}: has no {name}; expected the folder of a finished run, such as runs/textbook-1"
        )
    return path


def read_source(run: Path) -> dict[str, Any]:
    """What a run was trained on: `source`, `found`, `sha256` and `class_names`.

    Raises:
        FileNotFoundError: `run` is no run folder.
        ValueError: its `environment.json` is damaged.
    """
    about = read_json(run, "environment.json")
    data = about.get("data") if isinstance(about, dict) else None
    if not isinstance(data, dict) or not {"source", "sha256", "class_names"} <= data.keys():
        raise ValueError(f"{run / 'environment.json'}: damaged (no data, or no class names in it)")
    return data


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows of `columns` under their names, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return write_text(path, text.getvalue())


def write_history(run: Path, rows: Sequence[dict[str, float]]) -> None:
    """Write `history.csv`: one row an epoch, `HISTORY_COLUMNS`; what is not a number is blank."""
    shown = [{key: "" if math.isnan(x) else x for key, x in row.items()} for row in rows]
    write_csv(
        run / "history.csv", HISTORY_COLUMNS, [{**r, "epoch": int(r["epoch"])} for r in shown]
    )


def read_history(run: Path) -> dict[str, list[float]]:
    """`history.csv` as column -> values, in the order of epochs."""
    path = _existing(run, "history.csv")
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return {key: [float(row[key] or "nan") for row in rows] for key in HISTORY_COLUMNS}
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: damaged ({error})") from None


def write_arrays(path: Path, arrays: dict[str, Any]) -> Path:
    """Write NumPy arrays as a compressed `.npz`, whole or not at all."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return write_whole(path, lambda temporary: temporary.write_bytes(buffer.getvalue()))


def read_arrays(run: Path, name: str) -> dict[str, Any]:
    """The arrays of a `.npz` of the run folder; no pickles.

    Raises:
        ValueError: it is damaged.
    """
    import numpy as np

    path = _existing(run, name)
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged ({error})") from None


def environment(backend: str) -> dict[str, Any]:
    """What a run ran on: versions, processor, cores, platform and the code's commit."""
    return {
        "python": platform.python_version(),
        "versions": {name: found for name in _VERSIONS if (found := _version(name))},
        "backend": backend,
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": cores(),
        "commit": _commit(),
    }


def cores() -> int:
    """The processors that this process may use: what the system and `OMP_NUM_THREADS` allow."""
    there = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 2
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return min(there, int(allowed)) if allowed.isdecimal() and int(allowed) else there


def seal(run: Path, *patterns: str) -> None:
    """Write `SHA256SUMS` over the run's files that match, or all (`sha256sum -c` reads it)."""
    paths = {path for pattern in patterns or ("**/*",) for path in run.glob(pattern)}
    found = (p for p in paths if p.is_file() and p.name[0] != "." and p.name != _SUMS)
    lines = "".join(f"{file_sha256(p)}  {p.relative_to(run).as_posix()}\n" for p in sorted(found))
    digest = hashlib.sha256(lines.encode()).hexdigest()
    write_text(run / _SUMS, f"{lines}{_OF_SUMS}{digest}\n")


def sums(run: Path) -> dict[str, str]:
    """What `SHA256SUMS` holds, name -> SHA-256; nothing where there is none.

    Raises:
        ValueError: it is damaged.
    """
    path = run / _SUMS
    if not path.exists():
        return {}
    body, _, digest = path.read_bytes().rpartition(_OF_SUMS.encode())
    if hashlib.sha256(body).hexdigest().encode() + b"\n" != digest:
        raise ValueError(f"{path}: damaged; {_how_to_mend(run)}")
    found = {}
    for line in body.decode().splitlines():
        sha256, _, name = line.partition("  ")
        if not name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"{path}: damaged ({name!r} is no file of a run); {_how_to_mend(run)}")
        found[name] = sha256
    return found


def whole(run: Path, name: str) -> Path:
    """The path of a file of the run, which is as it was sealed.

    Raises:
        ValueError: it is not, or `SHA256SUMS` is damaged.
    """
    path = run / name
    expected = sums(run).get(name)
    if expected and path.is_file() and file_sha256(path) != expected:
        raise ValueError(f"{path}: damaged, or changed since the run ended; {_how_to_mend(run)}")
    return path


def damaged_files(run: Path) -> list[str]:
    """The names in `SHA256SUMS` whose files are gone or not as they were; or its own name."""
    try:
        expected = sums(run)
    except ValueError:
        return [_SUMS]
    return [
        name
        for name, digest in expected.items()
        if not (run / name).is_file() or file_sha256(run / name) != digest
    ]


def _how_to_mend(run: Path) -> str:
    return f"`fashion-cnn train --run {run} --resume` makes it again from the last checkpoint"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "unknown")


def _commit() -> str | None:
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "rev-parse", "HEAD"]
    if not (here.parents[1] / ".git").exists():  # installed, not a checkout
        return None
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
