"""A recipe, trained with several seeds side by side: what it is worth, and the mean of them all."""

from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from fashion_cnn.experiments.runs import open_experiment, train_or_resume
from fashion_cnn.files import lock_folder, write_atomically, write_csv
from fashion_cnn.parallel.pool import ATTEMPTS, Piece, run_tasks, tasks
from fashion_cnn.recipe import Recipe
from fashion_cnn.run import HISTORY_COLUMNS, Run

COLUMNS = ("seed", "val_accuracy", "test_accuracy", "test_loss", "train_seconds")
ENSEMBLE = "ensemble"


def train_seeds(
    recipe: Recipe,
    source: str,
    seeds: int,
    folder: Path,
    address: str | None = None,
    jobs: int | None = None,
    advance: Callable[[str], Any] = lambda what: None,
) -> list[dict[str, Any]]:
    """Train with the recipe's seed and those that follow it; each once, whatever breaks off.

    Args:
        recipe: what they have in common.
        source: of the data.
        seeds: how many.
        folder: for `seed-<n>`, a run folder each, and `seeds.csv`.
        address: of a Ray cluster, whose machines see the folder by the same name.
        jobs: trainings at a time; one a core without, of a cluster one a GPU if it has some.
        advance: called with a word at the beginning, and after each training.

    Returns:
        `COLUMNS` of each, in order; `val_accuracy` is None without validation images.

    Raises:
        ValueError: the folder holds something else, or what `train` raises.
        RuntimeError: the processes of one died again and again.
    """
    folder = folder.absolute()  # another process may be elsewhere
    open_experiment(folder, recipe, {"source": source, "seeds": seeds})
    chosen = [replace(recipe, seed=recipe.seed + i) for i in range(seeds)]
    rows: dict[int, dict[str, Any]] = {}
    with lock_folder(folder), tasks(address, jobs, long=True) as (submit, room):
        pieces: list[Piece] = [(x.seed, (folder, x.seed, x.to_json(), source)) for x in chosen]
        advance("seeds")
        for seed, future in run_tasks(pieces, _train_one, submit, room):
            if isinstance(error := future.exception(), BrokenExecutor):
                raise RuntimeError(f"seed {seed}: its process died {ATTEMPTS} times ({error})")
            found = future.result()
            rows[seed] = {"seed": seed, **{key: found.get(key) for key in COLUMNS[1:]}}
            rows[seed]["val_accuracy"] = found.get("validation_accuracy")
            advance(f"seed {seed}: {found['test_accuracy']:.2%}")
        ordered = [rows[seed] for seed in sorted(rows)]
        write_csv(folder / "seeds.csv", COLUMNS, ordered)
    return ordered


def _train_one(folder: Path, seed: int, recipe: str, source: str) -> dict[str, Any]:
    """Train, measure and seal one run, in any process; its metrics."""
    run = Run(folder / f"seed-{seed}")
    if not run.folder.is_dir() or not run.is_finished:
        from fashion_cnn.evaluation import measure_run

        measure_run(run, train_or_resume(recipe, source, run))
        run.write_checksums()
    found: dict[str, Any] = run.metrics()
    return found


def make_ensemble(recipe: Recipe, seeds: int, folder: Path) -> dict[str, Any]:
    """Make one network of all seeds', which answers with their mean, and measure it.

    Args:
        recipe: as for `train_seeds`, which has finished there.
        seeds: how many.
        folder: of the runs; `ensemble` in it will be one more, with `model.onnx`.

    Returns:
        Its metrics.
    """
    from fashion_cnn.evaluation import load_model, load_run_data, measure_run
    from fashion_cnn.export import export_run
    from fashion_cnn.models.wrappers import average_models

    runs = [Run(folder / f"seed-{recipe.seed + i}") for i in range(seeds)]
    run, data = Run(folder / ENSEMBLE), load_run_data(runs[0])
    if run.folder.is_dir() and run.is_finished:
        found: dict[str, Any] = run.metrics()
        return found
    run.folder.mkdir(exist_ok=True)
    about = runs[0].environment() | {"seeds": seeds}
    run.write_environment(about)
    run.write_recipe(recipe.to_json())
    run.write_history(_mean_history([run.history() for run in runs]))
    write_atomically(run.keras_path, average_models([load_model(run) for run in runs]).save)
    metrics = measure_run(run, data)
    export_run(run)
    run.write_checksums()
    return metrics


def _mean_history(histories: list[dict[str, list[float]]]) -> list[dict[str, float]]:
    """The mean of the curves; the seconds are those of all."""
    columns = {
        key: [fmean(row) for row in zip(*(x[key] for x in histories), strict=True)]
        for key in HISTORY_COLUMNS
    }
    columns["seconds"] = [len(histories) * x for x in columns["seconds"]]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
