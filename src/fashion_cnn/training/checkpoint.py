"""Checkpoints: one whole `.npz` an epoch with everything that training goes on from."""

import warnings
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from fashion_cnn.recipes import Recipe, find_recipe, require_same
from fashion_cnn.run import HISTORY_COLUMNS, write_whole

KEEP = 2  # the newest, and the one before it should the newest be damaged


def save_checkpoint(run: Path, model: Any, history: list[dict[str, float]]) -> Path:
    """Write `checkpoints/epoch-NNNNN.npz` and drop all but the newest `KEEP`.

    It holds `model.variables` (dropout's seed states are among them, not among `weights`),
    `optimizer.variables`, and the history so far.
    """
    folder = run / "checkpoints"
    folder.mkdir(exist_ok=True)
    arrays: dict[str, Any] = {f"model/{i}": np.asarray(v) for i, v in enumerate(model.variables)}
    arrays |= {f"optimizer/{i}": np.asarray(v) for i, v in enumerate(model.optimizer.variables)}
    arrays["history"] = np.array([[row[key] for key in HISTORY_COLUMNS] for row in history])
    path = folder / f"epoch-{len(history):05d}.npz"
    write_whole(path, lambda temporary: np.savez(temporary, **arrays))
    for old in sorted(folder.glob("epoch-*.npz"))[:-KEEP]:
        old.unlink()
    return path


def load_checkpoint(run: Path, recipe: Recipe, model: Any) -> list[dict[str, float]]:
    """Put the newest checkpoint that can be read into a compiled model.

    A damaged one is named in a warning, and the one before it is used.

    Returns:
        The history so far; empty when the run never finished an epoch.

    Raises:
        ValueError: the run was started by another recipe, or none of its checkpoints can be read.
        FileNotFoundError: there is no such run.
    """
    if not (run / "recipe.json").is_file():
        raise FileNotFoundError(f"{run}: nothing to resume here (no recipe.json)")
    require_same(run, find_recipe(str(run / "recipe.json")), recipe)
    model.optimizer.build(model.trainable_variables)
    saved = sorted((run / "checkpoints").glob("epoch-*.npz"), reverse=True)
    for path in saved:
        try:
            arrays = _read(path, model)
        except (BadZipFile, EOFError, KeyError, OSError, ValueError) as error:
            warnings.warn(f"{path}: damaged or of another model ({error})", stacklevel=2)
            continue
        for i, variable in enumerate([*model.variables, *model.optimizer.variables]):
            variable.assign(arrays[i])
        return [dict(zip(HISTORY_COLUMNS, row, strict=True)) for row in arrays[-1].tolist()]
    if saved:
        raise ValueError(
            f"{run}: none of its {len(saved)} checkpoints can be read; start a new run"
        )
    return []


def _read(path: Path, model: Any) -> list[np.ndarray]:
    """All arrays of a checkpoint: model, optimizer, history. Nothing is assigned yet."""
    names = [f"model/{i}" for i in range(len(model.variables))]
    names += [f"optimizer/{i}" for i in range(len(model.optimizer.variables))]
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as saved:
        if len(saved.files) != len(names) + 1:
            raise ValueError(f"{len(saved.files) - 1} variables; this model has {len(names)}")
        return [saved[name] for name in [*names, "history"]]
