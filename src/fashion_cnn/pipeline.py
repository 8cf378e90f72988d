"""The whole pipeline: load, fit the recipe, train, evaluate, draw, export, report, checksums.

`run_pipeline` is `fashion-cnn train`; several seeds, searches and reports call its parts.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fashion_cnn.console import (
    UsageError,
    plural,
    print_message,
    progress_bar,
    resume_command,
    usage_errors,
)
from fashion_cnn.data import reload_data
from fashion_cnn.data.dataset import Data
from fashion_cnn.data.recorded import find_origin, require_same_data
from fashion_cnn.pipeline_messages import (
    INDENT,
    print_data,
    print_network,
    print_notes,
    print_training,
)
from fashion_cnn.recipe import Recipe, fit_to_data, read_recipe, require_resumable, with_settings
from fashion_cnn.recipes import DEFAULT, find_recipe, is_recipe_file
from fashion_cnn.run import Run


def run_pipeline(
    recipe_name: str | None = None,
    settings: Mapping[str, str] | None = None,
    origin: Mapping[str, str | None] | None = None,
    folder: Path | None = None,
    *,
    resume: bool = False,
    report: bool = True,
    processes: int | None = None,
    cluster: str | None = None,
) -> tuple[Run, dict[str, Any]] | None:
    """Train a network, evaluate it on the test images, and draw, export and report the results.

    Args:
        recipe_name: of a recipe, or the path of a `recipe.json`. Default: that of the run to be
            resumed, else `standard`.
        settings: fields of the recipe or options of its model, as text.
        origin: `source`, `groups` and `decisions`, as `load_data` takes them. Default, also of
            each: that of the run to be resumed, else Fashion-MNIST without groups and decisions.
        folder: of the run. Default: `runs/<recipe>-<n>`.
        resume: continue the run in `folder`.
        report: also write `report.html`.
        processes: how many train the network together. Default: this one.
        cluster: address of a Ray cluster on which they run. Default: this machine.

    Returns:
        The run and its metrics; None where the run to be resumed is finished.

    Raises:
        UsageError: the recipe, a setting or the folder does not fit.
        ValueError, OSError: see `load_data` and `training.loop.train`.
    """
    settings = settings or {}
    run = Run(folder) if folder else None
    resume = resume and run is not None and prepare_resume(run, recipe_name)
    name = str(run.recipe_path) if run and resume and not recipe_name else recipe_name or DEFAULT
    recipe = configure(name, settings)
    requested = {key: value for key, value in (origin or {}).items() if value}
    recorded: dict[str, str] = {}
    if run and resume:
        if recipe == read_recipe(run) and _already_finished(run):
            return None
        recorded = find_origin(run, requested.get("source"))
    options = ["--processes", str(processes)] if processes else []
    options += ["--cluster", cluster] if cluster else []
    with _open_folder(run, recipe.name, resume, options) as run:
        print_message("1 Load        looking for the images")
        data = reload_data(recorded | requested, recipe.image_size)
        recipe = fit(name, recipe, settings, data)
        was_stopped = False
        if resume:
            started = read_recipe(run)
            with usage_errors():
                require_resumable(run, started, recipe)
            if recipe == started and _already_finished(run):
                return None
            was_stopped = recipe == started and _was_stopped(run, recipe)
        print_data(recipe, data)
        if was_stopped:
            with run.lock():
                require_same_data(run, data)
            print_message("5 Train       already done, from Python")
        else:
            _train(recipe, data, run, resume, processes, cluster)
        metrics = evaluate_and_export(run, data)
        if report:
            print_message("  Report      report.html: all of it, and more, on one page")
            write_report(run, data)
        run.write_checksums()
    return run, metrics


def load_and_fit(
    recipe_name: str | None, settings: Mapping[str, str], origin: Mapping[str, str | None]
) -> tuple[Recipe, Data]:
    """Load data, print its notes, and fit a recipe; see `run_pipeline` for the arguments."""
    name = recipe_name or DEFAULT
    recipe = configure(name, settings)
    data = reload_data(origin, recipe.image_size)
    print_notes(data)
    return fit(name, recipe, settings, data), data


def configure(recipe_name: str, settings: Mapping[str, str]) -> Recipe:
    """A recipe by name or path, with settings changed.

    Raises:
        UsageError: there is no such recipe, or a setting does not fit.
        ModuleNotFoundError: Keras, which every recipe needs, is not installed.
    """
    if find_spec("keras") is None:  # say so before images are loaded
        raise ModuleNotFoundError("No module named 'keras'", name="keras")
    with usage_errors():
        return with_settings(find_recipe(recipe_name), settings)


def fit(recipe_name: str, recipe: Recipe, settings: Mapping[str, str], data: Data) -> Recipe:
    """Fit a named recipe to few images, unless batch size or learning rate are set."""
    if is_recipe_file(recipe_name) or {"batch_size", "learning_rate"} & settings.keys():
        return recipe
    fitted = fit_to_data(recipe, data)
    asked = {"epochs", "skip_easy"} & settings.keys()
    fitted = replace(fitted, **{key: getattr(recipe, key) for key in asked})
    if fitted != recipe:
        epochs = f"{fitted.epochs} {plural(fitted.epochs, 'epoch', 'epochs')}"
        skipping = ", no image skipped" if fitted.skip_easy != recipe.skip_easy else ""
        print_message(
            f"{INDENT}few images: recipe adapted to {epochs}, batches of "
            f"{fitted.batch_size}, learning rate {fitted.learning_rate:g}{skipping}"
        )
    return fitted


def prepare_resume(run: Run, recipe_name: str | None) -> bool:
    """Whether there is a run to resume, after repairing it; else training starts from scratch."""
    if run.is_started:
        if damaged := run.damaged_files():
            from fashion_cnn.training.checkpoint import repair

            names = ", ".join(damaged)
            print_message(f"{run}: damaged or missing: {names}; restoring from a checkpoint")
            repair(run)
        return True
    if not recipe_name:
        raise UsageError(f"{run}: no run to resume; give a RECIPE to start one")
    print_message(f"{run}: nothing to resume yet; starting")
    return False


def _already_finished(run: Run) -> bool:
    if run.is_finished:
        print_message(f"{run}: already finished; nothing to do")
    return run.is_finished


def _was_stopped(run: Run, recipe: Recipe) -> bool:
    """Whether a training from Python has ended as a resumed one would not.

    That is before the recipe's last epoch, by a callback, or with a model of one's own.
    """
    try:
        epochs = len(run.history()["epoch"])
    except (FileNotFoundError, ValueError):  # to be restored
        return False
    is_own = run.environment().get("own_model", False)
    return run.is_trained and (is_own or epochs < recipe.epochs)


@contextmanager
def _open_folder(
    run: Run | None, recipe_name: str, resume: bool, options: list[str]
) -> Iterator[Run]:
    """Make the run folder if needed; on failure say how to continue, or remove it if empty.

    `options` are what the command to continue has besides the folder.
    """
    is_new = run is None or not run.folder.exists()
    try:
        run = run or Run.create(recipe_name)
        run.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"{run or 'runs'}: cannot be made ({error.strerror}); give --run a folder that can be "
            "written"
        ) from None
    if not resume and not run.is_unused:
        raise UsageError(f"{run}: not empty; give --resume to continue it, or another folder")
    try:
        yield run
    except (KeyboardInterrupt, SystemExit, OSError, RuntimeError):
        if run.is_started:
            print_message("Interrupted; completed epochs are saved. To continue:")
            print_message(f"  {resume_command(run, *options)}")
        raise
    finally:
        if is_new and not any(run.folder.iterdir()):
            run.folder.rmdir()


def _train(
    recipe: Recipe, data: Data, run: Run, resume: bool, processes: int | None, cluster: str | None
) -> None:
    from fashion_cnn.training.progress import EpochProgress

    print_network(recipe, data)
    print_training(recipe, processes)
    progress = EpochProgress()
    try:
        if processes:
            from fashion_cnn.training.distributed import train_distributed

            train_distributed(recipe, data, run, processes, cluster, [progress], resume)
        else:
            from fashion_cnn.training.loop import train

            train(recipe, data, run, callbacks=[progress], resume=resume)
    finally:
        progress.close()


def evaluate_and_export(run: Run, data: Data) -> dict[str, Any]:
    """Evaluate a trained run, draw its four plots, and export it to ONNX; returns the metrics."""
    from fashion_cnn.evaluation import measure_run
    from fashion_cnn.export import export_in_process, export_run
    from fashion_cnn.keras_setup import keras
    from fashion_cnn.report import draw_run

    print_message(f"6 Evaluate    all {len(data.test_labels):,} test images")
    metrics = measure_run(run, data)
    print_message("7 Visualize   accuracy.png, loss.png, confusion_matrix.png")
    print_message("8 Predict     predictions.png")
    draw_run(run, data)
    print_message("  Export      model.onnx: for predict, and for other runtimes")
    is_small = math.prod(data.image_shape) < 10_000  # others leave much memory behind
    if is_small and keras.backend.backend() == "tensorflow":  # saves starting it once more
        export_in_process(run, data, "onnx", run.onnx_path)
    else:
        export_run(run, source=data.source)
    return metrics


def write_report(run: Run, data: Data) -> list[Path]:
    """Compute what a report needs and does not exist yet, draw everything, and write the page.

    Returns:
        The paths of the plots and, last, of the page.
    """
    from fashion_cnn.evaluation import EXPLAIN_STEPS, explain_run, measure_run
    from fashion_cnn.report import PLOTS, draw_report

    if not run.is_measured:
        measure_run(run, data)
    with progress_bar(PLOTS + (0 if run.is_explained else EXPLAIN_STEPS)) as advance:
        if not run.is_explained:
            explain_run(run, data, advance)
        return draw_report(run, data, advance)


def report_run(run: Run, source: str | None = None) -> list[Path]:
    """`write_report` for a finished run, whose files are verified first; see `load_run_data`."""
    from fashion_cnn.evaluation import load_run_data

    for name in run.damaged_files():
        if not name.endswith((".png", ".svg", ".html")):  # those are drawn again
            run.verified_path(name)  # raises
    paths = write_report(run, load_run_data(run, source))
    if run.is_finished:
        run.write_checksums()
    return paths
