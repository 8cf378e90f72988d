"""Checkpoints: one whole `.npz` an epoch with everything that training goes on from."""

import hashlib
import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.files import write_atomically
from fashion_cnn.parallel.collectives import broadcast_from_first
from fashion_cnn.recipe import Recipe, read_recipe, require_same_recipe
from fashion_cnn.run import HISTORY_COLUMNS, STARTED, Run

KEEP = 2  # the newest, and the one before it should the newest be damaged
_DIGEST = 64  # characters of the SHA-256 at the end, which to a zip file is its comment


def save_checkpoint(run: Run, model: Any, history: list[dict[str, float]]) -> Path:
    """Write `checkpoints/epoch-NNNNN.npz` and drop all but the newest `KEEP`.

    It holds `model.variables` (dropout's seed states are among them, not among `weights`),
    `optimizer.variables`, the history so far, and the texts of `recipe.json` and
    `environment.json`. It ends with the SHA-256 of all before.
    """
    arrays: dict[str, Any] = {f"model/{i}": np.asarray(v) for i, v in enumerate(model.variables)}
    arrays |= {f"optimizer/{i}": np.asarray(v) for i, v in enumerate(model.optimizer.variables)}
    arrays["history"] = np.array([[row[key] for key in HISTORY_COLUMNS] for row in history])
    arrays |= {name: np.array(text) for name, text in run.started_texts().items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = bytes(_DIGEST)
    body = buffer.getvalue()[:-_DIGEST]
    content = body + hashlib.sha256(body).hexdigest().encode()
    path = run.checkpoint_path(len(history))
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
    for old in run.checkpoints[:-KEEP]:
        old.unlink()
    return path


def newest_checkpoint(run: Run) -> dict[str, np.ndarray] | None:
    """The arrays of the newest checkpoint that is whole; None when the run has none yet.

    A damaged one is named in a warning, and the one before it is used.

    Raises:
        ValueError: all of them are damaged.
    """
    content = _newest(run)
    return _arrays(content) if content else None


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)


def _newest(run: Run) -> bytes:
    """The newest checkpoint that is whole; nothing when the run has none yet."""
    saved = run.checkpoints
    for path in reversed(saved):
        content = path.read_bytes()
        if hashlib.sha256(content[:-_DIGEST]).hexdigest().encode() == content[-_DIGEST:]:
            return content
        warnings.warn(f"{path}: damaged; using the one before it", stacklevel=2)
    if saved:
        raise ValueError(
            f"{run}: none of its {len(saved)} checkpoints can be read; start a new run"
        )
    return b""


def completed_epochs(run: Run, recipe: Recipe) -> int:
    """How many epochs the newest whole checkpoint of a run has behind it.

    Raises:
        ValueError: the run was started by another recipe, or none of its checkpoints is whole.
        FileNotFoundError: there is no such run.
    """
    if not run.is_started:
        raise FileNotFoundError(f"{run}: nothing to resume here (no recipe.json)")
    require_same_recipe(run, read_recipe(run), recipe)
    arrays = newest_checkpoint(run)
    return 0 if arrays is None else len(arrays["history"])


def load_checkpoint(run: Run | None, model: Any) -> list[dict[str, float]]:
    """Put the newest whole checkpoint into a compiled model.

    Of several processes the first reads it, and the others, which have no run, get it from there.

    Returns:
        The history so far; empty when the run never finished an epoch.

    Raises:
        ValueError: the run was started with another model, or none of its checkpoints is whole.
    """
    content = broadcast_from_first(_newest(run) if run else b"")
    if not content:
        return []
    arrays = _arrays(content)
    model.optimizer.build(model.trainable_variables)
    for kind, variables in (("model", model.variables), ("optimizer", model.optimizer.variables)):
        here = [tuple(variable.shape) for variable in variables]
        there = [arrays[name].shape for name in arrays if name.startswith(f"{kind}/")]
        if here != there:
            differ = [pair for pair in zip(there, here, strict=False) if pair[0] != pair[1]]
            raise ValueError(
                f"{run}: started with another {kind}, of {len(there)} variables; this one has "
                f"{len(here)}" + (f"; the first that differ are {differ[0]}" if differ else "")
            )
        for i, variable in enumerate(variables):
            variable.assign(arrays[f"{kind}/{i}"])
    rows = arrays["history"].tolist()
    return [dict(zip(HISTORY_COLUMNS, row, strict=True)) for row in rows]


def mend(run: Run) -> list[str]:
    """Make a run with damaged files one that can go on: the newest whole checkpoint is the truth.

    What is damaged goes; `recipe.json` and `environment.json` come back from the checkpoint.

    Returns:
        The names of the files that were damaged or gone.

    Raises:
        ValueError: no checkpoint is whole.
    """
    damaged = run.damaged_files()
    if not damaged:
        return []
    for name in damaged:
        if name.startswith("checkpoints/"):
            (run.folder / name).unlink(missing_ok=True)
    arrays = newest_checkpoint(run)
    if arrays is None:
        raise ValueError(
            f"{run}: {', '.join(damaged)} damaged, no checkpoint left; start a new run"
        )
    for name in damaged:
        (run.folder / name).unlink(missing_ok=True)
    run.restore_started_texts({name: str(arrays[name]) for name in STARTED})
    return damaged
