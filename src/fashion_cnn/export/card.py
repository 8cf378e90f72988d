"""A measured run in; the card of its model, for programs and for people, out."""

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from fashion_cnn.data.dataset import Data
from fashion_cnn.data.fashion_mnist import CLASS_NAMES
from fashion_cnn.recipe import read_recipe
from fashion_cnn.recipes import command_for
from fashion_cnn.run import Run

_TEST_METRICS = ["accuracy", "accuracy_interval", "macro_accuracy", "calibrated_ece"]
_TEST_METRICS += ["examples", "per_class", "verdicts", "prediction_sets"]
_FITTED = ["temperature", "threshold", "threshold_note", "sure_accuracy", "unknown_below"]
_FITTED += ["unknown_note", "clusters", "prediction_sets"]  # on the validation images


def make_card(run: Run, data: Data, format_name: str) -> dict[str, Any]:
    """The card of a run's model, as it is in the `.json` file beside an export."""
    metrics, recipe = run.metrics(), read_recipe(run)
    height, width, channels = data.image_shape
    preparation = "photo" if data.class_names == CLASS_NAMES else None
    return {
        "format": format_name,
        "made": date.today().isoformat(),
        "class_names": list(data.class_names),
        "input": {"height": height, "width": width, "channels": channels, "pixels": "uint8 0..255"},
        "preparation": "fit" if data.train_files else preparation,  # see `Classifier.prepare`
        **{key: metrics[key] for key in _FITTED},
        "test": {key: metrics.get(f"test_{key}") for key in _TEST_METRICS},
        "split": {
            "train": metrics["train_examples"],
            "validation": metrics.get("validation_examples", 0),
            "test": metrics["test_examples"],
        },
        "parameters": metrics["parameters"],
        "recipe": json.loads(recipe.to_json()),
        "command": command_for(recipe, run.environment()),
        "data": {key: run.data_source()[key] for key in ("source", "sha256")},
        "notes": list(data.notes),
        "license": "MIT",
    }


def card_markdown(card: Mapping[str, Any]) -> str:
    """The card as Markdown: what the model is for, how good it is, and what it cannot do."""
    import jinja2

    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("fashion_cnn", "export"),
        autoescape=jinja2.select_autoescape(),  # of HTML only, and this is Markdown
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters["percent"] = lambda share, digits=2: (
        "-" if share is None else f"{share:.{digits}%}"
    )
    templates.filters["thousands"] = lambda number: f"{number:,}"
    return templates.get_template("card.md.jinja").render(
        card,
        source_name=Path(card["data"]["source"]).name,
        settings=json.dumps({key: card[key] for key in ("recipe", "data")}, indent=2),
    )
