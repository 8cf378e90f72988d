"""Start a run folder, or open one to resume it: refuses whatever does not belong together."""

import math
from typing import Any

from fashion_cnn.data.dataset import Data
from fashion_cnn.data.decisions import read_decisions
from fashion_cnn.data.recorded import require_same_data
from fashion_cnn.files import CHECKSUMS, write_text
from fashion_cnn.keras_setup import keras
from fashion_cnn.machine import environment
from fashion_cnn.parallel.collectives import process_count
from fashion_cnn.recipe import Recipe, read_recipe
from fashion_cnn.run import RESULTS, STARTED, Run
from fashion_cnn.training.checkpoint import KEEP, completed_epochs
from fashion_cnn.training.distillation import teacher_sha256
from fashion_cnn.training.features import backbone_sha256
from fashion_cnn.training.phases import available_precision, count_head_epochs


def start_or_resume(
    run: Run, recipe: Recipe, data: Data, network: Any, own_model: bool, resume: bool
) -> int:
    """Write `recipe.json` and `environment.json`, or check that the run can be resumed.

    Returns how many epochs its newest checkpoint has completed.
    """
    epochs = 0
    trains_head = count_head_epochs(recipe, network, own_model) > 0
    facts = {
        "own_model": own_model,
        "backbone_sha256": backbone_sha256(network) if trains_head else None,
        "teacher_sha256": teacher_sha256(recipe),
    }
    if run.is_unused:
        _write_start(run, recipe, data, network, facts)
    elif resume:
        epochs = completed_epochs(run, recipe)
        _require_same_start(run, recipe, data, facts)
        if recipe != read_recipe(run):  # it has more epochs
            run.remove(CHECKSUMS, *RESULTS)
            run.write_recipe(recipe.to_json())
    else:
        raise ValueError(f"{run}: not empty; give --resume to continue it, or another folder")
    run.write_checksums(*STARTED)
    return epochs


def _write_start(run: Run, recipe: Recipe, data: Data, network: Any, facts: dict[str, Any]) -> None:
    per_weight = 3 if recipe.ema else 2  # variables of the optimizer
    variables = [*network.variables] + per_weight * [*network.trainable_variables]
    model_bytes = sum(4 * math.prod(v.shape) for v in variables)
    run.require_space(10_000_000 + (KEEP + 2) * model_bytes)
    source: dict[str, Any] = {"source": data.source, "location": data.location}
    source |= {"sha256": data.sha256, "class_names": data.class_names, "groups": data.groups}
    if data.decisions:
        source["decisions"] = data.decisions
        decisions = read_decisions(data.decisions, data.sha256["decisions"])
        write_text(run.decisions_path, decisions.content.decode())
    run.write_environment(
        {
            **environment(keras.backend.backend()),
            **facts,
            "processes": process_count(),
            "precision": "float32" if facts["own_model"] else available_precision(recipe),
            "data": source,
        }
    )
    run.write_recipe(recipe.to_json())  # last: from now on there is a run to resume


def _require_same_start(run: Run, recipe: Recipe, data: Data, facts: dict[str, Any]) -> None:
    require_same_data(run, data)
    if data.groups != (groups := run.data_source().get("groups", "")):
        raise ValueError(
            f"{run}: was started with --groups {groups or 'none'}; got {data.groups or 'none'}; "
            "resume it with those, or start a new run"
        )
    before = run.environment()
    if before.get("own_model") != facts["own_model"]:
        how = "from Python, with model=" if before.get("own_model") else "without model="
        raise ValueError(f"{run}: was started with another model; resume it {how}")
    if before.get("backbone_sha256") != facts["backbone_sha256"]:
        raise ValueError(f"{run}: was started from other weights; give --weights those again")
    if before.get("teacher_sha256") != facts["teacher_sha256"]:
        raise ValueError(
            f"{run}: {recipe.teacher} has changed since the run was started; "
            "restore it, or start a new run"
        )
