"""The results and drawn charts of a run in, `report.html` out: one file that opens from disk."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from fashion_cnn.console import format_seconds, plural
from fashion_cnn.data.dataset import channels_last
from fashion_cnn.files import write_text
from fashion_cnn.inference.model_files import model_name
from fashion_cnn.recipe import Recipe, read_recipe
from fashion_cnn.recipes import command_for
from fashion_cnn.report.charts import Chart
from fashion_cnn.report.results import RunResults
from fashion_cnn.report.style import as_rgb
from fashion_cnn.run import Run

MAX_MISTAKES = 1000  # most confident first; the page stays under 5 MB
THUMBNAIL = 56  # longest side, pixels
MAX_PNG = 1_000_000  # bytes; larger sheets become WebP, which is a tenth for photos


def write_page(run: Run, results: RunResults, charts: Sequence[Chart]) -> Path:
    """Write `report.html` with charts that have been drawn into the run folder; return its path."""
    loader = jinja2.PackageLoader("fashion_cnn", "report")
    templates = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    templates.filters |= {"percent": _percent, "thumbnail": _thumbnail_url}
    recipe = read_recipe(run)
    text = templates.get_template("page.html.jinja").render(
        name=run.folder.resolve().name,
        results=results,
        metrics=results.metrics,
        facts=_facts(run, recipe, results),
        gray=channels_last(results.images).shape[3] == 1,
        charts=[(chart, _chart_url(run, chart)) for chart in charts if not chart.is_sheet],
        sheets=[(chart, _chart_url(run, chart)) for chart in charts if chart.is_sheet],
        mistakes=results.mistakes[:MAX_MISTAKES],
        recipe=json.dumps(json.loads(recipe.to_json()), indent=2),
        command=command_for(recipe, run.environment()),
    )
    return write_text(run.report_path, text)


def _percent(share: float, digits: int = 2) -> str:
    return f"{share:.{digits}%}".replace("%", "\u202f%")


def _facts(run: Run, recipe: Recipe, results: RunResults) -> dict[str, str]:
    """What was trained, on what and where, for the top of the page."""
    environment, metrics = run.environment(), results.metrics
    versions, backend = environment["versions"], environment["backend"]
    software = [f"{key} {versions[key]}" for key in ("fashion-cnn", "keras") if key in versions]
    backend_version = versions.get(backend) or versions.get(f"{backend}-cpu", "")
    software += [f"{backend} {backend_version}".strip(), f"Python {environment['python']}"]
    count, time = len(results.history["epoch"]), format_seconds(metrics["train_seconds"])
    epochs = f"{count} {plural(count, 'epoch', 'epochs')}"
    facts = {
        "Recipe": f"{recipe.name}, seed {recipe.seed}",
        "Network": f"{recipe.model}, {metrics['parameters']:,} parameters",
        "Data": environment["data"]["source"],
        "Training": f"{metrics['train_examples']:,} images, {epochs}, {time}",
        "Machine": f"{environment['processor']}, {environment['cores']} cores",
        "Software": ", ".join(software),
    }
    if recipe.teacher:
        facts["Distilled from"] = model_name(recipe.teacher)
    if len({row["support"] for row in metrics["test_per_class"].values()}) > 1:
        # with equal counts, the mean recall is the accuracy
        recall, f1 = metrics["test_macro_accuracy"], metrics["test_macro_f1"]
        facts["Mean of all classes"] = f"recall {_percent(recall)}, F1 {_percent(f1)}"
    if metrics["threshold"] is not None or metrics["unknown_below"] is not None:
        rows = metrics["test_verdicts"].items()
        texts = [_verdict_text(name, row, metrics["test_examples"]) for name, row in rows]
        facts["Verdicts on the test images"] = ", ".join(texts)
    if metrics["clusters"] and metrics["unknown_note"]:
        facts["No picture is called unknown"] = metrics["unknown_note"]
    return facts


def _verdict_text(name: str, row: dict[str, Any], examples: int) -> str:
    """Such as `sure 80.0 % (98.4 % of them correct)`."""
    text, accuracy = f"{name} {_percent(row['examples'] / examples, 1)}", row["accuracy"]
    return text if accuracy is None else f"{text} ({_percent(accuracy, 1)} of them correct)"


def _chart_url(run: Run, chart: Chart) -> str:
    if not chart.is_sheet:
        return _data_url(run.plot_path(chart.name, "svg").read_bytes(), "svg+xml")
    png = run.plot_path(chart.name).read_bytes()
    if len(png) <= MAX_PNG:
        return _data_url(png, "png")
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").save(buffer, "WEBP", quality=85)
    return _data_url(buffer.getvalue(), "webp")


def _thumbnail_url(pixels: np.ndarray) -> str:
    image = Image.fromarray(as_rgb(pixels))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    if pixels.squeeze().ndim == 2:
        image = image.convert("L")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return _data_url(buffer.getvalue(), "png")


def _data_url(content: bytes, subtype: str) -> str:
    return f"data:image/{subtype};base64,{base64.b64encode(content).decode()}"
