"""`train`: one network, or the same recipe with several seeds."""

import os
from pathlib import Path
from typing import Any

from fashion_cnn.cli import options as opt
from fashion_cnn.cli.evaluate import accuracy_text, print_metrics
from fashion_cnn.console import UsageError, print_message, progress_bar


def train(
    recipe: opt.RecipeName = None,
    source: opt.AnySource = None,
    groups: opt.Groups = "",
    decisions: opt.DecisionsFile = "",
    weights: opt.Weights = None,
    teacher: opt.Teacher = None,
    epochs: opt.Epochs = None,
    batch_size: opt.BatchSize = None,
    learning_rate: opt.LearningRate = None,
    seed: opt.Seed = None,
    settings: opt.Settings = None,
    validation: opt.ValidateOn = None,
    run: opt.NewRun = None,
    resume: opt.Resume = False,
    report: opt.Report = True,
    processes: opt.Processes = None,
    seeds: opt.Seeds = None,
    ensemble: opt.Ensemble = False,
    jobs: opt.Jobs = None,
    cluster: opt.Cluster = None,
) -> None:
    """Train a network, evaluate it, and draw the results."""
    _check_usage(processes, seeds, cluster, ensemble or jobs is not None, resume, run)
    flags = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    flags |= {"seed": seed, "validation": validation}
    if weights:
        flags["weights"] = _absolute(weights, "imagenet", "none")
    pairs = parse_settings(settings, teacher)
    pairs |= {key: str(value) for key, value in flags.items() if value is not None}
    origin = {"source": source, "groups": groups, "decisions": decisions}
    if seeds:
        from fashion_cnn.pipeline import load_and_fit

        fitted, data = load_and_fit(recipe, pairs, origin)
        _train_seeds(fitted, data, run, seeds, ensemble, jobs, cluster)
        return
    if processes:
        from fashion_cnn.training.distributed import require_jax

        require_jax()
        os.environ["KERAS_BACKEND"] = "jax"
    from fashion_cnn.pipeline import run_pipeline

    where: Any = {"resume": resume, "report": report, "processes": processes, "cluster": cluster}
    if result := run_pipeline(recipe, pairs, origin, run, **where):
        finished, metrics = result
        print_metrics(metrics, "test")
        _print_notes(metrics)
        print(f"\nRun: {finished}" + f"\nReport: {finished.report_path}" * report)


def _print_notes(metrics: dict[str, Any]) -> None:
    """Why there are no verdicts."""
    if note := metrics["threshold_note"]:
        print(f"No prediction is called sure: {note}")
    if metrics["clusters"] and (note := metrics["unknown_note"]):
        print(f"No picture is called unknown: {note}")


def _check_usage(
    processes: int | None,
    seeds: int | None,
    cluster: str | None,
    needs_seeds: bool,
    resume: bool,
    run: Path | None,
) -> None:
    if resume and run is None:
        raise UsageError("--resume needs --run DIR, the run to continue")
    if processes and seeds:
        raise UsageError("--processes and --seeds cannot be combined")
    if cluster and not (processes or seeds):
        raise UsageError("--cluster needs --processes N or --seeds N")
    if needs_seeds and not seeds:
        raise UsageError("--ensemble and --jobs need --seeds N")
    if resume and seeds:
        raise UsageError(
            "--resume: not with --seeds; repeat the command with --run DIR to continue"
        )


def parse_settings(settings: list[str] | None, teacher: str | None = None) -> dict[str, str]:
    """`--set KEY=VALUE` as a dictionary; the path of a teacher is made absolute."""
    for text in settings or []:
        if "=" not in text:
            raise UsageError(f"--set {text}: expected KEY=VALUE")
    pairs = dict(text.split("=", 1) for text in settings or [])
    if teacher := teacher or pairs.get("teacher"):
        pairs["teacher"] = _absolute(teacher)
    return pairs


def _absolute(path: str, *names: str) -> str:
    """A path that is the same in another folder; `names` and those of presets stay as they are."""
    from fashion_cnn.inference.model_files import PRESETS

    return path if path in (*names, *PRESETS) else str(Path(path).absolute())


def _train_seeds(
    recipe: Any,
    data: Any,
    run: Path | None,
    seeds: int,
    ensemble: bool,
    jobs: int | None,
    cluster: str | None,
) -> None:
    from statistics import mean, stdev

    from fashion_cnn.experiments.seeds import ENSEMBLE, make_ensemble, train_seeds
    from fashion_cnn.run import Run

    folder = run or Run.create(f"{recipe.name}-seeds").folder
    print_message(f"Training with {seeds} seeds; to continue: the same with --run {folder}")
    with progress_bar(seeds) as advance:
        rows = train_seeds(recipe, data.origin, seeds, folder, cluster, jobs, advance)
    print("seed  validation accuracy  test accuracy  seconds")
    for row in rows:
        validation = f"{row['val_accuracy']:.2%}" if row["val_accuracy"] is not None else ""
        print(f"{row['seed']:>4}{validation:>21}{row['test_accuracy']:>15.2%}", end="")
        print(f"{row['train_seconds']:>9.0f}")
    tests = [100 * row["test_accuracy"] for row in rows]
    print(f"Test accuracy: {mean(tests):.2f} ± {stdev(tests):.2f} % (mean and sd of {seeds} seeds)")
    if ensemble:
        metrics = make_ensemble(recipe, seeds, folder)
        print(f"Ensemble:      {accuracy_text(metrics, 'test')}\nEnsemble run: {folder / ENSEMBLE}")
    print(f"Runs: {folder}")
