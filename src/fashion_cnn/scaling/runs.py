"""Whole trainings as pieces of work, which go on from a checkpoint if they were broken off."""

import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fashion_cnn.inference import Classifier
from fashion_cnn.recipes import Recipe, from_dict
from fashion_cnn.run import read_history, read_json, write_json

TASK = "task.json"  # in the folder of several runs: what they are for


def open_folder(folder: Path, recipe: Recipe, task: dict[str, Any]) -> None:
    """Make a folder for several runs, or go on with one.

    Args:
        folder: of them all.
        recipe: what they have in common.
        task: what else decides what they are.

    Raises:
        ValueError: it holds something else.
    """
    task = {"recipe": json.loads(recipe.to_json()), **json.loads(json.dumps(task))}
    if recipe.teacher:
        task["teacher_sha256"] = Classifier.load(recipe.teacher).sha256
    if (folder / TASK).exists():
        then = read_json(folder, TASK)
        then["recipe"] = json.loads(from_dict(then["recipe"]).to_json())  # fields were added since
        for key, value in task.items():
            if then.get(key) != value:
                old, new = (json.dumps(x)[:100] for x in (then.get(key), value))
                raise ValueError(
                    f"{folder}: begun with another {key}, {old}, not {new}; give another folder"
                )
        return
    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise ValueError(f"{folder}: something else is there; give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / TASK, task)


def require_folder(folder: Path) -> None:
    """Raise ValueError unless this machine sees a folder that `open_folder` has made."""
    if not (folder / TASK).exists():
        raise ValueError(
            f"{folder}: not there on {socket.gethostname()}; expected a folder that all machines "
            "of the cluster see by the same name"
        )


def train_here(recipe: str, source: Any, run: Path, callbacks: Sequence[Any] = ()) -> Any:
    """Train in this process, or go on with a training that was broken off.

    Args:
        recipe: as JSON.
        source: of the data, as `load_data` takes it.
        run: its folder, in one that `open_folder` made.
        callbacks: as `train` takes them.

    Returns:
        The data.
    """
    from fashion_cnn.data import load_data
    from fashion_cnn.training import train

    require_folder(run.parent)
    chosen: Recipe = from_dict(json.loads(recipe))
    data = load_data(source, chosen.image_size)
    if not (run / "model.keras").exists() or callbacks:
        run.mkdir(exist_ok=True)
        train(chosen, data, run, callbacks=callbacks, resume=(run / "recipe.json").exists())
    return data


def seconds_of(run: Path) -> float:
    """How long a run's epochs took; 0 before the first."""
    return sum(read_history(run)["seconds"]) if (run / "history.csv").exists() else 0.0
