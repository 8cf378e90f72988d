"""Checkpoints: one whole `.npz` an epoch with everything that training goes on from."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.recipes import Recipe, find_recipe
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
    """Put the newest checkpoint of a run into a compiled model.

    Returns:
        The history so far; empty when the run never finished an epoch.

    Raises:
        ValueError: the run was started by another recipe, or the checkpoint is of another model.
        FileNotFoundError: there is no such run.
    """
    if not (run / "recipe.json").is_file():
        raise FileNotFoundError(f"{run}: nothing to resume here (no recipe.json)")
    _require_same(run, find_recipe(str(run / "recipe.json")), recipe)
    saved = sorted((run / "checkpoints").glob("epoch-*.npz"))
    if not saved:
        return []
    model.optimizer.build(model.trainable_variables)
    with np.load(saved[-1], allow_pickle=False) as arrays:
        for kind, variables in (
            ("model", model.variables),
            ("optimizer", model.optimizer.variables),
        ):
            found = [key for key in arrays.files if key.startswith(f"{kind}/")]
            if len(found) != len(variables):
                raise ValueError(
                    f"{saved[-1]}: {len(found)} {kind} variables; this one has {len(variables)}"
                )
            for i, variable in enumerate(variables):
                variable.assign(arrays[f"{kind}/{i}"])
        history = arrays["history"]
    return [dict(zip(HISTORY_COLUMNS, row, strict=True)) for row in history.tolist()]


def _require_same(run: Path, started: Recipe, given: Recipe) -> None:
    old, new = dataclasses.asdict(started), dataclasses.asdict(given)
    if old != new:
        changed = {key: (old[key], new[key]) for key in old if old[key] != new[key]}
        raise ValueError(
            f"{run}: started with another recipe; then and now differ in {json.dumps(changed)}; "
            f"resume with {run / 'recipe.json'}"
        )
