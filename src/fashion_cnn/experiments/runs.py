"""Whole trainings as pieces of work, which go on from a checkpoint if they were broken off."""

import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fashion_cnn.files import read_json, write_json
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.recipe import Recipe, recipe_from_dict
from fashion_cnn.run import Run

TASK = "task.json"  # in the folder of several runs: what they are for


def open_experiment(folder: Path, recipe: Recipe, task: dict[str, Any]) -> None:
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
        then = read_json(folder / TASK)
        then["recipe"] = json.loads(
            recipe_from_dict(then["recipe"]).to_json()
        )  # fields were added since
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


def require_shared_folder(folder: Path) -> None:
    """Raise ValueError unless this machine sees a folder that `open_experiment` has made."""
    if not (folder / TASK).exists():
        raise ValueError(
            f"{folder}: not there on {socket.gethostname()}; expected a folder that all machines "
            "of the cluster see by the same name"
        )


def train_or_resume(recipe: str, source: Any, run: Run, callbacks: Sequence[Any] = ()) -> Any:
    """Train in this process, or go on with a training that was broken off.

    Args:
        recipe: as JSON.
        source: of the data, as `load_data` takes it.
        run: its folder, in one that `open_experiment` made.
        callbacks: as `train` takes them.

    Returns:
        The data.
    """
    from fashion_cnn.data import load_data
    from fashion_cnn.training.loop import train

    require_shared_folder(run.folder.parent)
    chosen: Recipe = recipe_from_dict(json.loads(recipe))
    data = load_data(source, chosen.image_size)
    if not run.is_trained or callbacks:
        run.folder.mkdir(exist_ok=True)
        train(chosen, data, run, callbacks=callbacks, resume=run.is_started)
    return data
