"""`evaluate`, `export`, `report` and `compare`: what is made of finished runs."""

import json
from pathlib import Path
from typing import Any

from fashion_cnn.cli import options as opt
from fashion_cnn.console import UsageError


def evaluate(
    run: opt.RunFolder,
    split: opt.Split = "test",
    source: opt.MovedData = None,
    decisions: opt.DecisionsFile = "",
    as_json: opt.AsJson = False,
) -> None:
    """Evaluate a run's model again."""
    from fashion_cnn.evaluation import evaluate_run
    from fashion_cnn.run import Run

    metrics = evaluate_run(Run(run), split, source, decisions)
    if as_json:
        print(json.dumps(metrics, indent=2))
    else:
        print_metrics(metrics, split)
        if decisions:
            print(f"The same with the labels of {decisions}: {accuracy_text(metrics, 'decided')}")


def print_metrics(metrics: dict[str, Any], split: str) -> None:
    """Print recall by class and the accuracy of `test` or `validation`."""
    per_class = metrics[f"{split}_per_class"]
    width = max(14, *(len(name) + 1 for name in per_class))
    for name, row in per_class.items():
        recall = "" if row["recall"] is None else f"{row['recall']:>8.2%}"
        print(f"  {name:<{width}}{recall}".rstrip())
    print(f"{split.capitalize()} accuracy: {accuracy_text(metrics, split)}")
    if len({row["support"] for row in per_class.values()}) > 1:
        recall, f1 = metrics[f"{split}_macro_accuracy"], metrics[f"{split}_macro_f1"]
        print(f"Mean over the classes: recall {recall:.2%}, F1 {f1:.2%}")


def accuracy_text(metrics: dict[str, Any], split: str) -> str:
    """An accuracy and its confidence interval."""
    low, high = metrics[f"{split}_accuracy_interval"]
    return f"{metrics[f'{split}_accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%})"


def export(
    run: opt.Exported,
    format_: opt.Format = "onnx",
    output: opt.ExportPath = None,
    source: opt.MovedData = None,
) -> None:
    """Export a run's model to another runtime, with its model card."""
    if format_ == "web":
        if source:
            raise UsageError("--data cannot be combined with --format web, which needs no data")
        from fashion_cnn.export.web import export_web
        from fashion_cnn.inference.model_files import PRESETS

        is_run = run not in PRESETS and Path(run).is_dir()
        folder = export_web(run, output or (Path(run) if is_run else Path()) / "web")
        print(f"Page: {folder}; any static web host can serve it")
        return
    from fashion_cnn.export import FORMATS, export_run
    from fashion_cnn.run import Run

    exported = Run(run)
    target = output.name if output else FORMATS[format_].file_name
    for name in exported.damaged_files():  # before they get new checksums
        if not name.startswith(target):
            exported.verified_path(name)  # raises, unless the file was only deleted
    path = export_run(exported, format_, output, source)
    if exported.is_finished and path.parent.resolve() == Path(run).resolve():
        exported.write_checksums()
    print(f"Model: {path}\nCard: {path.with_name(path.name + '.md')}, and .json for programs")


def report(run: opt.RunFolder, source: opt.MovedData = None) -> None:
    """Draw all plots of a run and write report.html."""
    from fashion_cnn.pipeline import report_run
    from fashion_cnn.run import Run

    *plots, page = report_run(Run(run), source)
    print(f"{len(plots)} plots in {run} and {run / 'svg'}\nReport: {page}")


def compare(
    runs: opt.RunFolders, output: opt.Curves = Path("comparison.png"), as_json: opt.AsJson = False
) -> None:
    """Compare runs, and test which differences are significant."""
    from fashion_cnn.evaluation.compare import compare_runs
    from fashion_cnn.report import draw_comparison
    from fashion_cnn.run import Run

    if len({run.resolve() for run in runs}) < max(2, len(runs)):
        raise UsageError("compare: expected at least two runs, each once")
    comparison = compare_runs([Run(run) for run in runs])
    draw_comparison([Run(run) for run in runs], output)
    if as_json:
        print(json.dumps(comparison, indent=2))
    else:
        _print_comparison(comparison)
        print(f"\nCurves: {output}")


def _print_comparison(comparison: dict[str, Any]) -> None:
    width = max(map(len, comparison["runs"])) + 2
    print(f"{'run':<{width}}  test accuracy, % (95 %)    loss  ECE, %  parameters  seconds")
    for name, row in comparison["runs"].items():
        low, high = row["test_accuracy_interval"]
        accuracy = f"{100 * row['test_accuracy']:.2f} ({100 * low:.2f} to {100 * high:.2f})"
        print(f"{name:<{width}}{accuracy:>25}{row['test_loss']:>8.3f}", end="")
        print(f"{100 * row['test_ece']:>8.2f}{row['parameters']:>12,}{row['train_seconds']:>9.0f}")
    print("\nTest images that only one of two classifies correctly; McNemar's test. It compares")
    print("these two networks, not their recipes: that takes several seeds")
    is_corrected = any(pair["labels"] == "as corrected" for pair in comparison["pairs"])
    for pair in comparison["pairs"]:
        (a, b), p = pair["runs"], pair["p_value"]
        # Bonferroni: of many pairs some differ by chance
        verdict = "significant" if p < 0.05 / len(comparison["pairs"]) else "may be chance"
        print(f"{a} {pair['only_first']} : {pair['only_second']} {b}   p = {p:.2g}   {verdict}")
        if is_corrected:
            accuracies = " and ".join(f"{accuracy:.2%}" for accuracy in pair["accuracies"])
            print(f"    labels {pair['labels']}, {pair['images']:,} images: {accuracies}")
