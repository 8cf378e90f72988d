"""Checkpoints: one `.npz` file an epoch with everything that a training needs to continue."""

import hashlib
import io
import math
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.files import CHECKSUMS, write_atomically
from fashion_cnn.parallel.collectives import broadcast_from_first
from fashion_cnn.recipe import Recipe, read_recipe, require_resumable
from fashion_cnn.run import HISTORY_COLUMNS, STARTED, Run

LARGE_BYTES = 50_000_000  # of a checkpoint, which then takes about half a second
LARGE_INTERVAL = 10.0  # seconds between two of these
KEEP = 2  # the newest, and the one before it in case the newest is damaged
_DIGEST_LENGTH = 64  # characters of the SHA-256 at the end, which is the zip file's comment


def checkpoint_interval(model: Any) -> float:
    """The least seconds between two checkpoints; 0 if they are small: one each epoch."""
    variables = [*model.variables, *model.optimizer.variables]
    is_large = sum(4 * math.prod(v.shape) for v in variables) > LARGE_BYTES
    return LARGE_INTERVAL if is_large else 0.0


def save_checkpoint(
    run: Run, model: Any, history: list[dict[str, float]], confidences: np.ndarray | None = None
) -> Path:
    """Write the checkpoint of an epoch and delete all but the newest `KEEP`.

    It holds `model.variables` (which include the seed states of dropout, `weights` do not),
    `optimizer.variables`, the history so far, the texts of `recipe.json` and `environment.json`,
    and, if given, the images' confidences, which decide what the next epoch trains on. It ends with
    the SHA-256 of everything before.
    """
    arrays: dict[str, Any] = {f"model/{i}": np.asarray(v) for i, v in enumerate(model.variables)}
    arrays |= {f"optimizer/{i}": np.asarray(v) for i, v in enumerate(model.optimizer.variables)}
    arrays["history"] = np.array([[row[key] for key in HISTORY_COLUMNS] for row in history])
    arrays |= {name: np.array(text) for name, text in run.started_texts().items()}
    if confidences is not None:
        arrays["confidences"] = confidences
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = bytes(_DIGEST_LENGTH)
    body = buffer.getvalue()[:-_DIGEST_LENGTH]
    content = body + hashlib.sha256(body).hexdigest().encode()
    path = run.checkpoint_path(len(history))
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
    for old in run.checkpoints[:-KEEP]:
        old.unlink()
    return path


def newest_checkpoint(run: Run) -> dict[str, np.ndarray] | None:
    """The arrays of the newest undamaged checkpoint; None when the run has none yet."""
    content = _newest_content(run)
    return _arrays(content) if content else None


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)


def _newest_content(run: Run) -> bytes:
    """The bytes of the newest undamaged checkpoint; empty when the run has none yet."""
    paths = run.checkpoints
    for path in reversed(paths):
        content = path.read_bytes()
        digest = hashlib.sha256(content[:-_DIGEST_LENGTH]).hexdigest().encode()
        if digest == content[-_DIGEST_LENGTH:]:
            return content
        warnings.warn(f"{path}: damaged; using the one before it", stacklevel=2)
    if paths:
        raise ValueError(
            f"{run}: none of its {len(paths)} checkpoints can be read; start a new run"
        )
    return b""


def completed_epochs(run: Run, recipe: Recipe) -> int:
    """How many epochs the newest undamaged checkpoint of a run has completed."""
    if not run.is_started:
        raise FileNotFoundError(f"{run}: nothing to resume here (no recipe.json)")
    require_resumable(run, read_recipe(run), recipe)
    arrays = newest_checkpoint(run)
    return 0 if arrays is None else len(arrays["history"])


def load_checkpoint(run: Run | None, model: Any, confidences: np.ndarray) -> list[dict[str, float]]:
    """Restore the newest undamaged checkpoint into a compiled model; returns the history so far.

    Its confidences, if it has some, are written into `confidences`. Of several processes the first
    reads it and broadcasts it to the others, which have no run.
    """
    content = broadcast_from_first(_newest_content(run) if run else b"")
    if not content:
        return []
    arrays = _arrays(content)
    model.optimizer.build(model.trainable_variables)
    for kind, variables in (("model", model.variables), ("optimizer", model.optimizer.variables)):
        shapes = [tuple(variable.shape) for variable in variables]
        saved_shapes = [arrays[name].shape for name in arrays if name.startswith(f"{kind}/")]
        if shapes != saved_shapes:
            raise ValueError(_shape_mismatch(run, kind, saved_shapes, shapes))
        for i, variable in enumerate(variables):
            variable.assign(arrays[f"{kind}/{i}"])
    if "confidences" in arrays:
        confidences[:] = arrays["confidences"]
    rows = arrays["history"].tolist()
    return [dict(zip(HISTORY_COLUMNS, row, strict=True)) for row in rows]


def _shape_mismatch(
    run: Run | None, kind: str, saved: list[tuple[int, ...]], shapes: list[tuple[int, ...]]
) -> str:
    message = (
        f"{run}: started with another {kind}, of {len(saved)} variables; this one has {len(shapes)}"
    )
    different = [pair for pair in zip(saved, shapes, strict=False) if pair[0] != pair[1]]
    return f"{message}; the first that differ are {different[0]}" if different else message


def repair(run: Run) -> list[str]:
    """Delete damaged files of a run, so that it can be resumed from its newest good checkpoint.

    `recipe.json` and `environment.json`, if damaged, are restored from it. Returns the names of the
    files that were damaged or missing; raises ValueError if all checkpoints are damaged.
    """
    damaged = run.damaged_files()
    if not damaged:
        return []
    for path in run.checkpoints:
        if path.relative_to(run.folder).as_posix() in damaged:
            path.unlink()
    arrays = newest_checkpoint(run)
    if arrays is None:
        raise ValueError(
            f"{run}: {', '.join(damaged)} damaged, no checkpoint left; start a new run"
        )
    for name in damaged:
        (run.folder / name).unlink(missing_ok=True)
    suspects = STARTED if CHECKSUMS in damaged else [name for name in STARTED if name in damaged]
    run.restore_started_texts({name: str(arrays[name]) for name in suspects})
    return damaged
