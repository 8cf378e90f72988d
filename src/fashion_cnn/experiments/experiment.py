"""The folder of an experiment, which is several runs of one task, and runs that can be resumed."""

import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fashion_cnn.data.dataset import Data
from fashion_cnn.files import read_json, require_same_task, require_unused, write_json
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.recipe import Recipe, recipe_from_dict
from fashion_cnn.run import Run

_TASK = "task.json"


def open_experiment(folder: Path, recipe: Recipe, settings: dict[str, Any]) -> None:
    """Make the folder of an experiment, or check that it belongs to the same one.

    Args:
        folder: for the runs; `task.json` in it records what they are for.
        recipe: what the runs have in common.
        settings: what else decides them, as JSON can store it.

    Raises:
        ValueError: the folder belongs to another experiment, or holds other files.
    """
    task = json.loads(json.dumps({"recipe": json.loads(recipe.to_json()), **settings}))
    if recipe.teacher:
        task["teacher_sha256"] = Classifier.load(recipe.teacher).sha256
    if (folder / _TASK).exists():
        recorded = read_json(folder / _TASK)
        require_same_task(folder, recorded, dict.fromkeys(recorded) | task)  # None: not requested
        return
    require_unused(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _TASK, task)


def read_experiment(folder: Path) -> tuple[Recipe, dict[str, Any]]:
    """The recipe and the settings that `open_experiment` was called with.

    Raises:
        ValueError: this machine does not see the folder.
    """
    if not (folder / _TASK).exists():
        raise ValueError(
            f"{folder}: not found on {socket.gethostname()}; expected a folder that all machines "
            "of the cluster see by the same name"
        )
    settings = read_json(folder / _TASK)
    return recipe_from_dict(settings.pop("recipe")), settings


def train_or_resume(
    recipe: Recipe, settings: dict[str, Any], run: Run, callbacks: Sequence[Any] = ()
) -> Data:
    """Train a run of an experiment in this process, or resume it, unless it is trained already.

    Args:
        recipe: of the run.
        settings: of the experiment, with what `reload_data` loads its data from.
        run: its folder.
        callbacks: as `train` takes them; with some, a trained run goes through `train` again.

    Returns:
        The data.
    """
    from fashion_cnn.data import reload_data
    from fashion_cnn.training.loop import train

    data = reload_data(settings, recipe.image_size)
    if not run.is_trained or callbacks:
        run.folder.mkdir(exist_ok=True)
        train(recipe, data, run, callbacks=callbacks, resume=run.is_started)
    return data
