"""The run folder: the names in it, and files that appear whole or not at all."""

import csv
import hashlib
import io
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
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


def write_whole(path: Path, write: Callable[[Path], Any]) -> Path:
    """Let `write` fill a temporary file beside `path`, then move it into place.

    Args:
        path: where the file shall appear; its ending is kept, since savers look at it.
        write: given the temporary path, writes the file and closes it.

    Returns:
        `path`.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


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
    try:
        return json.loads((run / name).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"{run}: has no {name}; expected the folder of a finished run, such as runs/textbook-1"
        ) from None


def write_history(run: Path, rows: Sequence[dict[str, float]]) -> None:
    """Write `history.csv`: one row an epoch, `HISTORY_COLUMNS`; what is not a number is blank."""
    text = io.StringIO()
    writer = csv.DictWriter(text, HISTORY_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        shown = {key: "" if math.isnan(value) else value for key, value in row.items()}
        writer.writerow({**shown, "epoch": int(row["epoch"])})
    write_text(run / "history.csv", text.getvalue())


def read_history(run: Path) -> dict[str, list[float]]:
    """`history.csv` as column -> values, in the order of epochs."""
    with open(run / "history.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {key: [float(row[key] or "nan") for row in rows] for key in HISTORY_COLUMNS}


def environment(backend: str) -> dict[str, Any]:
    """What a run ran on: versions, processor, cores, platform and the code's commit."""
    return {
        "python": platform.python_version(),
        "versions": {name: found for name in _VERSIONS if (found := _version(name))},
        "backend": backend,
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "commit": _commit(),
    }


def seal(run: Path) -> None:
    """Write `SHA256SUMS` over every other file of the run (`sha256sum -c` reads it)."""
    files = sorted(p for p in run.rglob("[!.]*") if p.is_file() and p.name != _SUMS)
    sums = (f"{file_sha256(p)}  {p.relative_to(run).as_posix()}\n" for p in files)
    write_text(run / _SUMS, "".join(sums))


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
