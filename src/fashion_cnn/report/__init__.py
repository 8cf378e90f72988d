"""The results of runs in, pictures and one HTML page out; needs no deep learning framework."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fashion_cnn.data.dataset import Data
from fashion_cnn.files import read_csv
from fashion_cnn.recipe import read_recipe
from fashion_cnn.report import plots, sheets
from fashion_cnn.report.charts import CHARTS
from fashion_cnn.report.page import write_page
from fashion_cnn.report.results import read_results
from fashion_cnn.report.style import save
from fashion_cnn.run import Run

PLOTS = len(CHARTS) + 1  # the most calls of `advance` by `draw_report`: all charts, and the page


def draw_samples(data: Data, path: Path) -> Path:
    """Write a sheet with ten training images of each class; return its path."""
    return save(sheets.samples(data), path)


def draw_run(run: Run, data: Data) -> list[Path]:
    """Draw the charts of a measured run that need no explanations; return their paths."""
    results = read_results(run, data)
    charts = [chart for chart in CHARTS if chart.in_every_run]
    return [save(chart.draw(results), run.plot_path(chart.name)) for chart in charts]


def draw_report(
    run: Run, data: Data, advance: Callable[[str], Any] = lambda name: None
) -> list[Path]:
    """Draw all charts of an explained run, as PNG and in `svg/`, and write `report.html`.

    `advance` is called with the name of each chart before it is drawn, and with `report.html`.

    Returns:
        The paths, the page's last.
    """
    results = read_results(run, data, explained=True)
    charts = [chart for chart in CHARTS if chart.applies(results)]
    paths = []
    for chart in charts:
        advance(chart.name)
        figure = chart.draw(results)
        paths.append(save(figure, run.plot_path(chart.name)))
        figure.set_layout_engine("none")  # the PNG's layout is kept
        paths.append(save(figure, run.plot_path(chart.name, "svg")))
    advance("report.html")
    return [*paths, write_page(run, results, charts)]


def draw_comparison(runs: Sequence[Run], path: Path) -> Path:
    """Draw the held-out accuracy and loss of several runs into one picture; return its path."""
    histories, note = {}, ""
    for run in runs:
        recipe, name = read_recipe(run), str(run)
        if recipe.validation == "test":
            name += " (test)"
        if recipe.label_smoothing:
            name += " *"
            note = "* trained with label smoothing: compare its loss only with others marked so"
        histories[name] = run.history()
    return save(plots.comparison(histories, note), path)


def draw_trials(folder: Path, importance: dict[str, float], epoch: int) -> Path:
    """Draw a hyperparameter search from its `trials.csv` into `trials.png`; return its path."""
    figure = plots.trials(read_csv(folder / "trials.csv"), importance, epoch)
    return save(figure, folder / "trials.png")


def draw_audit(folder: Path, data: Data) -> list[Path]:
    """Draw the `suspects.csv` and `duplicates.csv` that an audit wrote into a folder.

    Returns:
        The paths of the pictures; an empty list has none, and that of an earlier audit is deleted.
    """
    figures = {}
    rows = read_csv(folder / "suspects.csv")
    for split, name in (("train", "suspects"), ("test", "test_suspects")):
        if of_split := [row for row in rows if row["split"] == split]:
            figures[name] = sheets.suspects(of_split, data, split)
    if pairs := read_csv(folder / "duplicates.csv"):
        figures["duplicates"] = sheets.duplicates(pairs, data)
    for name in ("suspects", "test_suspects", "duplicates"):
        (folder / f"{name}.png").unlink(missing_ok=True)
    return [save(figure, folder / f"{name}.png") for name, figure in figures.items()]
