"""A recipe, trained with several seeds side by side: what it is worth, and the mean of them all."""

from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from fashion_cnn.recipes import Recipe
from fashion_cnn.run import (
    HISTORY_COLUMNS,
    held,
    read_history,
    read_json,
    seal,
    sums,
    write_csv,
    write_history,
    write_json,
    write_text,
    write_whole,
)
from fashion_cnn.scaling.runs import open_folder, train_here
from fashion_cnn.scaling.tasks import TRIES, Piece, tasks, work_off

COLUMNS = ("seed", "val_accuracy", "test_accuracy", "test_loss", "train_seconds")
ENSEMBLE = "ensemble"


def train_seeds(
    recipe: Recipe,
    source: str,
    seeds: int,
    folder: Path,
    address: str | None = None,
    jobs: int | None = None,
    tick: Callable[[str], Any] = lambda what: None,
) -> list[dict[str, Any]]:
    """Train with the recipe's seed and those that follow it; each once, whatever breaks off.

    Args:
        recipe: what they have in common.
        source: of the data.
        seeds: how many.
        folder: for `seed-<n>`, a run folder each, and `seeds.csv`.
        address: of a Ray cluster, whose machines see the folder by the same name.
        jobs: trainings at a time; one a core without, of a cluster one a GPU if it has some.
        tick: called with a word at the beginning, and after each training.

    Returns:
        `COLUMNS` of each, in order; `val_accuracy` is None without validation images.

    Raises:
        ValueError: the folder holds something else, or what `train` raises.
        RuntimeError: the processes of one died again and again.
    """
    folder = folder.absolute()  # another process may be elsewhere
    open_folder(folder, recipe, {"source": source, "seeds": seeds})
    chosen = [replace(recipe, seed=recipe.seed + i) for i in range(seeds)]
    rows: dict[int, dict[str, Any]] = {}
    with held(folder), tasks(address, jobs, long=True) as (submit, room):
        pieces: list[Piece] = [(x.seed, (folder, x.seed, x.to_json(), source)) for x in chosen]
        tick("seeds")
        for seed, future in work_off(pieces, _train_one, submit, room):
            if isinstance(error := future.exception(), BrokenExecutor):
                raise RuntimeError(f"seed {seed}: its process died {TRIES} times ({error})")
            found = future.result()
            rows[seed] = {"seed": seed, **{key: found.get(key) for key in COLUMNS[1:]}}
            rows[seed]["val_accuracy"] = found.get("validation_accuracy")
            tick(f"seed {seed}: {found['test_accuracy']:.2%}")
        ordered = [rows[seed] for seed in sorted(rows)]
        write_csv(folder / "seeds.csv", COLUMNS, ordered)
    return ordered


def _train_one(folder: Path, seed: int, recipe: str, source: str) -> dict[str, Any]:
    """Train, measure and seal one run, in any process; its metrics."""
    run = folder / f"seed-{seed}"
    if not run.is_dir() or "metrics.json" not in sums(run):
        from fashion_cnn.evaluation import measure_run

        measure_run(run, train_here(recipe, source, run))
        seal(run)
    found: dict[str, Any] = read_json(run, "metrics.json")
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
    from fashion_cnn.evaluation import data_of, load_model, measure_run
    from fashion_cnn.export import export_run
    from fashion_cnn.models.forms import mean_of

    runs = [folder / f"seed-{recipe.seed + i}" for i in range(seeds)]
    run, data = folder / ENSEMBLE, data_of(runs[0])
    if run.is_dir() and "metrics.json" in sums(run):
        found: dict[str, Any] = read_json(run, "metrics.json")
        return found
    run.mkdir(exist_ok=True)
    about = read_json(runs[0], "environment.json") | {"seeds": seeds}
    write_json(run / "environment.json", about)
    write_text(run / "recipe.json", recipe.to_json())
    write_history(run, _mean_history([read_history(run) for run in runs]))
    write_whole(run / "model.keras", mean_of([load_model(run) for run in runs]).save)
    metrics = measure_run(run, data)
    export_run(run)
    seal(run)
    return metrics


def _mean_history(histories: list[dict[str, list[float]]]) -> list[dict[str, float]]:
    """The mean of the curves; the seconds are those of all."""
    columns = {
        key: [fmean(row) for row in zip(*(x[key] for x in histories), strict=True)]
        for key in HISTORY_COLUMNS
    }
    columns["seconds"] = [len(histories) * x for x in columns["seconds"]]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
