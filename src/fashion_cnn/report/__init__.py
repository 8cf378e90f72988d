"""Numbers in, pictures and one page out; needs no deep learning framework."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.data.dataset import Data, channels_last
from fashion_cnn.recipe import read_recipe
from fashion_cnn.report import plots, sheets
from fashion_cnn.report.page import write_page
from fashion_cnn.report.style import save
from fashion_cnn.run import Run

__all__ = [
    "PICTURES",
    "draw_audit",
    "draw_comparison",
    "draw_report",
    "draw_run",
    "draw_samples",
    "draw_trials",
]

PICTURES = 14  # that `draw_report` draws at most, with the page
SUSPECTS = 64  # on a sheet


def draw_samples(data: Data, path: Path) -> Path:
    """Write the sheet of `sheets.samples` and return its path."""
    return save(sheets.samples(data), path)


def draw_run(run: Run, data: Data) -> list[Path]:
    """Draw a measured run: `accuracy.png`, `loss.png`, `confusion_matrix.png`, `predictions.png`.

    Args:
        run: a run folder with history.csv, metrics.json and predictions.npz.
        data: what the run was trained on.

    Returns:
        The pictures' paths.
    """
    return [
        save(draw(), run.plot_path(name)) for name, draw in _textbook_pictures(run, data).items()
    ]


def draw_report(
    run: Run, data: Data, advance: Callable[[str], Any] = lambda what: None
) -> list[Path]:
    """Draw everything there is of an explained run, as PNG and in `svg/`, and write `report.html`.

    Args:
        run: a run folder; besides what `draw_run` reads, robustness.json and explanations.npz.
        data: what the run was trained on.
        advance: called with the name of each picture before it is drawn, and with `report.html`.

    Returns:
        The paths, the page's last.
    """
    pictures = _textbook_pictures(run, data) | _more_pictures(run, data)
    paths = []
    for name, draw in pictures.items():
        advance(name)
        figure = draw()
        paths.append(save(figure, run.plot_path(name)))
        figure.set_layout_engine("none")  # it is laid out
        paths.append(save(figure, run.plot_path(name, "svg")))
    advance("report.html")
    return [*paths, write_page(run, data, list(pictures))]


def draw_comparison(runs: Sequence[Run], path: Path) -> Path:
    """Draw the held-out accuracy and loss of several runs into one picture; return its path."""
    recipes = {run: read_recipe(run) for run in runs}
    smoothed = {run for run in runs if recipes[run].label_smoothing}
    names = {
        run: f"{run}{' (test)' * (recipes[run].validation == 'test')}{' *' * (run in smoothed)}"
        for run in runs
    }
    note = "* trained on smoothed labels: a loss that only compares with others of its kind"
    histories = {names[run]: run.history() for run in runs}
    return save(plots.comparison(histories, note if smoothed else ""), path)


def draw_trials(folder: Path, importance: dict[str, float], epoch: int) -> Path:
    """Draw what a search found, from its `trials.csv`, into `trials.png`; return its path."""
    rows: list[dict[str, Any]] = [
        {**row, **{key: float(row[key] or "nan") for key in ("val_accuracy", "seconds")}}
        for row in _read_csv(folder / "trials.csv")
    ]
    return save(plots.trials(rows, importance, epoch), folder / "trials.png")


def draw_audit(folder: Path, data: Data) -> list[Path]:
    """Draw what an audit found: `suspects.png`, `test_suspects.png` and `duplicates.png`.

    Args:
        folder: where `evaluation.audit.audit` wrote its files.
        data: what was looked at.

    Returns:
        The paths of the pictures; none of what was not found.
    """
    paths = []
    for name in ("suspects", "test_suspects", "duplicates"):
        (folder / f"{name}.png").unlink(missing_ok=True)  # of an earlier audit
    for split, name in (("train", "suspects"), ("test", "test_suspects")):
        images, labels = (data.train_images, data.train_labels)
        if split == "test":
            images, labels = data.split("test")
        found = [row for row in _read_csv(folder / "suspects.csv") if row["split"] == split]
        if not found:
            continue
        index = [int(row["index"]) for row in found[:SUSPECTS]]
        answers = np.zeros((len(index), len(data.class_names)))
        for row, answer in zip(found, answers, strict=False):
            answer[data.class_names.index(row["suggested"])] = float(row["probability"])
        title = f"Probably called wrong: {len(index)} of {len(found):,} suspects in {split}"
        sheet = images[index], labels[index], answers, data.class_names, range(len(index)), title
        figure = sheets.predictions(*sheet, columns=8, truth="called")
        paths.append(save(figure, folder / f"{name}.png"))
    if twins := _read_csv(folder / "duplicates.csv")[:40]:
        tests = data.test_images[[int(row["test_index"]) for row in twins]]
        trains = data.train_images[[int(row["train_index"]) for row in twins]]
        title = "All but the same picture in test and in train"
        paths.append(
            save(sheets.pairs(tests, trains, ("test", "train"), title), folder / "duplicates.png")
        )
    return paths


def _read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _textbook_pictures(run: Run, data: Data) -> dict[str, Callable[[], Any]]:
    history, recipe = run.history(), read_recipe(run)
    held_out = "Test" if recipe.validation == "test" else "Validation"
    probabilities = run.predictions()["test_probabilities"]
    matrix = np.array(run.metrics()["test_confusion_matrix"])
    names = data.class_names
    images, labels = data.test_images, data.test_labels
    return {
        "accuracy": lambda: plots.curves(history, "accuracy", held_out),
        "loss": lambda: plots.curves(history, "loss", held_out),
        "confusion_matrix": lambda: plots.confusion(matrix, names),
        "predictions": lambda: sheets.predictions(images, labels, probabilities, names),
    }


def _more_pictures(run: Run, data: Data) -> dict[str, Callable[[], Any]]:
    history, metrics = run.history(), run.metrics()
    probabilities = run.predictions()["test_probabilities"]
    found = run.explanations()
    images, labels, names = data.test_images, data.test_labels, data.class_names
    answers, sure = probabilities.argmax(1), probabilities.max(1)
    order = np.argsort(-sure, kind="stable")
    wrong = order[answers[order] != labels[order]]
    sheet = images, labels, probabilities, names
    mapped, lit = found["map_index"], found.get("gradcam_index", np.zeros(0, int))
    pictures = {
        "learning_rate": lambda: plots.learning_rates(history),
        "per_class": lambda: plots.per_class(metrics["test_per_class"]),
        "reliability": lambda: plots.reliabilities(probabilities, labels, metrics["temperature"]),
        "coverage": lambda: plots.coverages(probabilities, labels),
        "robustness": lambda: plots.robustness(run.robustness(), channels_last(images)[0]),
        "uncertain": lambda: sheets.predictions(
            *sheet, order[::-1][: sheets.COUNT], "The least certain answers"
        ),
        "embedding_map": lambda: sheets.embedding_map(
            found["map"], images[mapped], labels[mapped], names
        ),
    }
    if len(wrong):
        pictures["confident_mistakes"] = lambda: sheets.predictions(
            *sheet, wrong[: sheets.COUNT], "Wrong, and surest of it"
        )
    if len(lit):
        pictures["gradcam"] = lambda: sheets.heat(
            images[lit], labels[lit], answers[lit], found["gradcam"], names
        )
    return pictures
