"""A drawn run in, `report.html` out: one file that opens from disk and asks the network nothing."""

import base64
import io
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.data.dataset import Data
from fashion_cnn.files import write_text
from fashion_cnn.inference.classifier import model_name
from fashion_cnn.recipe import read_recipe
from fashion_cnn.recipes import command_for
from fashion_cnn.report.style import as_rgb
from fashion_cnn.run import Run

MAX_MISTAKES = 1000  # surest first; the page stays under 5 MB
THUMBNAIL = 56
LARGE = 1_000_000  # bytes of a sheet

# picture -> heading, how to read it; charts are drawn in the page's own colours
CHARTS = {
    "accuracy": (
        "Accuracy",
        "If training goes on rising while images that it does not learn from do "
        "not, the network learns by heart.",
    ),
    "loss": (
        "Loss",
        "What training brings down; with augmentation, dropout, smoothed labels or a teacher, "
        "whose answers it is to come near, it stays higher than it looks elsewhere.",
    ),
    "learning_rate": ("Learning rate", "How large the steps were."),
    "coverage": (
        "Leaving out the least certain",
        "The accuracy if the network may say “not sure”.",
    ),
    "per_class": (
        "Each class",
        "Recall: how many of a class were found. Precision: how many of the "
        "answers with its name were right.",
    ),
    "confusion_matrix": ("Confusion", "Rows are what it is, columns what the network said."),
    "reliability": (
        "Calibration",
        "Of answers given with 80 %, 80 % should be right. A temperature, where there is one, was "
        "fitted on validation images and changes no answer. Pale bars: fewer than 20 answers.",
    ),
    "robustness": ("Robustness", "None of this was in the test images; photos have all of it."),
}
SHEETS = {
    "predictions": ("First answers", "The first test images, chosen by nobody."),
    "confident_mistakes": ("Surest mistakes", "Here and there it may be the label that is wrong."),
    "uncertain": ("Least certain", "Right or wrong, the network would rather not say."),
    "gradcam": ("Where it looks", "Red is where the evidence for the answer is (Grad-CAM)."),
    "embedding_map": ("Map", "Test images as the network arranges them before it decides."),
}


def write_page(run: Run, data: Data, drawn: Collection[str]) -> Path:
    """Write `report.html` from a run's numbers and pictures.

    Args:
        run: a run folder whose pictures have been drawn.
        data: what it was trained on.
        drawn: the names of the pictures.

    Returns:
        The page's path.
    """
    import jinja2

    place = jinja2.PackageLoader("fashion_cnn", "report")
    pages = jinja2.Environment(loader=place, autoescape=True, undefined=jinja2.StrictUndefined)
    pages.filters["percent"] = lambda share, digits=2: f"{share:.{digits}%}".replace("%", "\u202f%")
    recipe, metrics = read_recipe(run), run.metrics()
    mistakes, count = _mistakes(run, data)
    text = pages.get_template("page.html.jinja").render(
        name=run.folder.resolve().name,
        metrics=metrics,
        facts=_facts(run, recipe, metrics),
        classes=_classes(metrics),
        grey=data.image_shape[2] == 1,
        charts=_pictures(run, CHARTS, "svg/{}.svg", "svg+xml", drawn),
        sheets=_pictures(run, SHEETS, "{}.png", "png", drawn),
        mistakes=mistakes,
        mistake_count=count,
        class_names=data.class_names,
        recipe=json.dumps(json.loads(recipe.to_json()), indent=2),
        command=command_for(recipe, run.environment()),
    )
    return write_text(run.report_path, text)


def _facts(run: Run, recipe: Any, metrics: dict[str, Any]) -> list[tuple[str, str]]:
    about = run.environment()
    versions = about["versions"]
    shown = [f"{key} {versions[key]}" for key in ("fashion-cnn", "keras") if key in versions]
    backend = about["backend"]
    version = versions.get(backend) or versions.get(f"{backend}-cpu", "")
    shown.append(f"{backend} {version}".strip())
    seconds, epochs = metrics["train_seconds"], len(run.history()["epoch"])
    time = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    return [
        ("Recipe", f"{recipe.name}, seed {recipe.seed}"),
        ("Network", f"{recipe.model}, {metrics['parameters']:,} parameters"),
        *([("Taught by", model_name(recipe.teacher))] if recipe.teacher else []),
        ("Data", about["data"]["source"]),
        *_uneven(metrics),
        ("Trained on", f"{metrics['train_examples']:,} images, {epochs} epochs, {time}"),
        ("Machine", f"{about['processor']}, {about['cores']} cores"),
        ("Software", ", ".join([*shown, f"Python {about['python']}"])),
    ]


def _uneven(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """The mean over the classes, where it is not the accuracy anyway."""
    if len({row["support"] for row in metrics["test_per_class"].values()}) == 1:
        return []
    if "test_macro_f1" not in metrics:  # of an older version
        return []
    recall, f1 = metrics["test_macro_accuracy"], metrics["test_macro_f1"]
    return [("Mean over the classes", f"{recall:.2%}, F1 {f1:.2%}")]


def _classes(metrics: dict[str, Any]) -> list[tuple[str, list[float | None], int]]:
    """Each class's name, its recall, precision and F1, and its images; None where there is none."""
    answers = np.array(metrics["test_confusion_matrix"]).sum(0)
    rows = []
    for (name, row), answered in zip(metrics["test_per_class"].items(), answers, strict=True):
        there, given = row["support"] > 0, answered > 0
        shares = (row["recall"], there), (row["precision"], given), (row["f1"], there or given)
        rows.append((name, [x if known else None for x, known in shares], row["support"]))
    return rows


def _pictures(
    run: Run, wanted: Any, where: str, kind: str, drawn: Collection[str]
) -> list[dict[str, str]]:
    found = []
    for name, (title, text) in wanted.items():
        if name in drawn:
            content = (run.folder / where.format(name)).read_bytes()
            if kind == "png" and len(content) > LARGE:
                address = _data_address(_as_webp(content), "webp")
            else:
                address = _data_address(content, kind)
            found.append({"name": name, "title": title, "text": text, "address": address})
    return found


def _as_webp(content: bytes) -> bytes:
    """A picture of photos in a tenth of the bytes."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as picture:
        buffer = io.BytesIO()
        picture.convert("RGB").save(buffer, "WEBP", quality=85)
    return buffer.getvalue()


def _mistakes(run: Run, data: Data) -> tuple[list[dict[str, Any]], int]:
    """Wrongly answered test images, surest first, and how many there are in all."""
    arrays = run.predictions()
    probabilities, labels = arrays["test_probabilities"], arrays["test_labels"]
    answers = probabilities.argmax(1)
    wrong = np.flatnonzero(answers != labels)
    wrong = wrong[np.argsort(-probabilities.max(1)[wrong], kind="stable")]
    rows = [
        {
            "index": int(i),
            "true": int(labels[i]),
            "guess": int(answers[i]),
            "probability": float(probabilities[i].max()),
            "address": _thumbnail(data.test_images[i]),
        }
        for i in wrong[:MAX_MISTAKES]
    ]
    return rows, len(wrong)


def _thumbnail(image: np.ndarray) -> str:
    from PIL import Image

    picture = Image.fromarray(as_rgb(image))
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    if image.squeeze().ndim == 2:
        picture = picture.convert("L")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return _data_address(buffer.getvalue(), "png")


def _data_address(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
