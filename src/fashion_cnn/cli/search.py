"""`tune` and `audit`: what trains many networks."""

from pathlib import Path
from typing import Any

from fashion_cnn.cli import options as opt
from fashion_cnn.cli.train import parse_settings
from fashion_cnn.console import (
    plural,
    print_message,
    progress_bar,
    shell_command,
    usage_errors,
)

BEST = 5  # trials that are printed


def tune(
    recipe: opt.SearchRecipe = "quick",
    space: opt.Space = "default",
    trials: opt.Trials = 30,
    source: opt.Source = "fashion-mnist",
    groups: opt.Groups = "",
    decisions: opt.DecisionsFile = "",
    settings: opt.Settings = None,
    output: opt.TuneFolder = None,
    jobs: opt.Jobs = None,
    cluster: opt.Cluster = None,
) -> None:
    """Search for a better recipe, by validation accuracy."""
    from fashion_cnn.experiments.search_space import default_space, read_space
    from fashion_cnn.experiments.tune import importances
    from fashion_cnn.experiments.tune import tune as search
    from fashion_cnn.pipeline import load_and_fit
    from fashion_cnn.recipes import command_with_data
    from fashion_cnn.report import draw_trials

    origin = {"source": source, "groups": groups, "decisions": decisions}
    start, data = load_and_fit(recipe, parse_settings(settings), origin)
    with usage_errors():
        ranges = default_space(start) if space == "default" else read_space(Path(space), start)
    folder = output or Path(f"tune-{start.name}")
    print_message(f"{trials} trials of {', '.join(ranges)}; finished ones stay in {folder}")
    with progress_bar(trials) as advance:
        rows = search(start, data.origin, ranges, trials, folder, cluster, jobs, advance)
    _print_trials(rows[:BEST], list(ranges))
    print(f"All trials: {folder / 'trials.csv'}")
    print(f"Plot: {draw_trials(folder, *importances(folder))}")
    words = ["fashion-cnn", "train", str(folder / "best.json")]
    print("Best:", command_with_data(words, {**data.origin, "source": source}))


def _print_trials(rows: list[dict[str, Any]], keys: list[str]) -> None:
    print("trial  validation accuracy  epochs  seconds  settings")
    for row in rows:
        accuracy = f"{row['val_accuracy']:.2%}" if row["val_accuracy"] is not None else row["state"]
        values = [f"{key}={_short(row[key])}" for key in keys if key in row]
        line = f"{row['trial']:>5}{accuracy:>21}{row['epochs_run']:>8}{row['seconds']:>9.0f}"
        print(f"{line}  {' '.join(values)}{'  stopped early' * (row['state'] == 'PRUNED')}")
    print("\nThe best of many trials is partly luck; confirm it with train --seeds 5")


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def audit(
    runs: opt.AuditedRuns = None,
    source: opt.Source = "fashion-mnist",
    groups: opt.Groups = "",
    decisions: opt.DecisionsFile = "",
    recipe: opt.FastRecipe = "quick",
    epochs: opt.Epochs = None,
    folds: opt.Folds = 5,
    output: opt.AuditFolder = Path("audit"),
) -> None:
    """List probable label errors and near-duplicates."""
    from fashion_cnn.data.recorded import require_same_data
    from fashion_cnn.experiments.audit import accuracy_without_suspects
    from fashion_cnn.experiments.audit import audit as run_audit
    from fashion_cnn.pipeline import load_and_fit
    from fashion_cnn.report import draw_audit
    from fashion_cnn.run import Run

    audited = [Run(run) for run in runs or []]
    origin = {"source": source, "groups": groups, "decisions": decisions}
    chosen, data = load_and_fit(recipe, {"epochs": epochs} if epochs else {}, origin)
    for run in audited:
        require_same_data(run, data)
    print_message(f"{folds} trainings by {chosen.name}; finished ones stay in {output}")
    with progress_bar(folds * chosen.epochs + 1) as advance:
        summary = run_audit(data, chosen, output, folds, advance)
    for split in ("train", "test"):
        count, size = summary["suspects"][split], len(getattr(data, f"{split}_labels"))
        print(f"{count:>6,} of {size:,} {split} images are probably mislabeled")
    count = summary["duplicates"]
    images = plural(count, "image is", "images are")
    print(f"{count:>6,} test {images} nearly identical to a training image")
    for run in audited:
        row = accuracy_without_suspects(run, output)
        accuracies = f"{row['all']:.2%}; without the test suspects {row['without']:.2%}"
        print(f"{run}: test accuracy {accuracies}")
    print("\nLists: suspects.csv, duplicates.csv")
    print("Sheets:", ", ".join(path.name for path in draw_audit(output, data)))
    print(f"In: {output}\nTo decide: {shell_command(['fashion-cnn', 'label', str(output)])}")
