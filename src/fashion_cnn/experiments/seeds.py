"""A recipe, trained with several seeds side by side: its mean and spread, and an ensemble."""

import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from fashion_cnn.experiments.experiment import open_experiment, read_experiment, train_or_resume
from fashion_cnn.files import lock_folder, write_atomically, write_csv
from fashion_cnn.parallel.pool import ATTEMPTS, Task, open_pool, run_tasks
from fashion_cnn.recipe import Recipe, recipe_from_dict
from fashion_cnn.run import HISTORY_COLUMNS, Run

COLUMNS = ("seed", "val_accuracy", "test_accuracy", "test_loss", "train_seconds")
ENSEMBLE = "ensemble"


def train_seeds(
    recipe: Recipe,
    origin: Mapping[str, str],
    seeds: int,
    folder: Path,
    address: str | None = None,
    jobs: int | None = None,
    advance: Callable[[str], Any] = lambda name: None,
) -> list[dict[str, Any]]:
    """Train with the recipe's seed and those that follow it; finished runs are kept.

    Args:
        recipe: what the runs have in common.
        origin: `Data.origin` of the data.
        seeds: how many.
        folder: for `seed-<n>`, a run folder each, and `seeds.csv`.
        address: of a Ray cluster, whose machines see the folder by the same name. Default: this
            machine.
        jobs: trainings at a time. Default: one per core, or per GPU of a cluster that has GPUs.
        advance: called with a label at the beginning, and after each training.

    Returns:
        A dictionary a seed, with the keys `COLUMNS`; `val_accuracy` is None without validation
        images.

    Raises:
        ValueError: the folder belongs to something else, or `train` raises it.
        RuntimeError: the processes of a training died again and again.
    """
    recipe_from_dict({**asdict(recipe), "seed": recipe.seed + seeds - 1})  # refuses it early
    folder = folder.absolute()  # other machines have other working directories
    open_experiment(folder, recipe, {**origin, "seeds": seeds})
    rows = []
    with lock_folder(folder), open_pool(address, jobs, training=True) as pool:
        tasks = [Task(recipe.seed + i, (folder, recipe.seed + i)) for i in range(seeds)]
        advance("seeds")
        for seed, future in run_tasks(tasks, _train_seed, pool):
            if isinstance(error := future.exception(), BrokenExecutor):
                raise RuntimeError(f"seed {seed}: its process died {ATTEMPTS} times ({error})")
            metrics = future.result()
            row = {key: metrics.get(key) for key in COLUMNS}
            rows.append(row | {"seed": seed, "val_accuracy": metrics.get("validation_accuracy")})
            advance(f"seed {seed}: {metrics['test_accuracy']:.2%}")
        rows.sort(key=lambda row: row["seed"])
        write_csv(folder / "seeds.csv", COLUMNS, rows)
    return rows


def _train_seed(folder: Path, seed: int) -> dict[str, Any]:
    """Train and measure one run, in any process; its metrics."""
    recipe, settings = read_experiment(folder)
    run = Run(folder / f"seed-{seed}")
    if not run.is_finished:
        from fashion_cnn.evaluation import measure_run

        measure_run(run, train_or_resume(replace(recipe, seed=seed), settings, run))
        run.write_checksums()
    return run.metrics()


def make_ensemble(recipe: Recipe, seeds: int, folder: Path) -> dict[str, Any]:
    """Make a run of one model, whose probabilities are the mean of all seeds', and measure it.

    Args:
        recipe: what `train_seeds` was called with.
        seeds: how many it trained.
        folder: where they are; the ensemble is `ensemble` in it.

    Returns:
        The metrics of the ensemble.
    """
    from fashion_cnn.evaluation import load_model, load_run_data, measure_run
    from fashion_cnn.export import export_run
    from fashion_cnn.models.wrappers import average_models

    ensemble = Run(folder / ENSEMBLE)
    if ensemble.is_finished:
        return ensemble.metrics()
    runs = [Run(folder / f"seed-{recipe.seed + i}") for i in range(seeds)]
    ensemble.folder.mkdir(exist_ok=True)
    ensemble.write_environment(runs[0].environment() | {"seeds": seeds})
    ensemble.write_recipe(recipe.to_json())
    if runs[0].decisions_path.is_file():
        shutil.copyfile(runs[0].decisions_path, ensemble.decisions_path)
    ensemble.write_history(_mean_history([run.history() for run in runs]))
    model = average_models([load_model(run) for run in runs])
    write_atomically(ensemble.keras_path, model.save)
    metrics = measure_run(ensemble, load_run_data(runs[0]))
    export_run(ensemble)
    ensemble.write_checksums()
    return metrics


def _mean_history(histories: list[dict[str, list[float]]]) -> list[dict[str, float]]:
    """The mean of the curves; the seconds are those of all."""
    rows = []
    for epoch in range(len(histories[0]["epoch"])):
        row = {key: fmean(x[key][epoch] for x in histories) for key in HISTORY_COLUMNS}
        row["seconds"] *= len(histories)
        rows.append(row)
    return rows
