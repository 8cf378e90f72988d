"""A measured run in; what the user of its model must know out, for programs and for people."""

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

_FIGURES = (
    "accuracy",
    "accuracy_interval",
    "macro_accuracy",
    "calibrated_ece",
    "examples",
    "per_class",
)


def make_card(run: Run, data: Data, form: str) -> dict[str, Any]:
    """The card of a run's model, as it stands in the `.json` beside an export.

    Args:
        run: a measured run.
        data: what it was trained on.
        form: of the export, a key of `export.ENDINGS`.
    """
    metrics, recipe = run.metrics(), read_recipe(run)
    height, width, channels = data.image_shape
    held_out = metrics.get("validation_examples", 0)
    return {
        "format": form,
        "made": date.today().isoformat(),
        "class_names": list(data.class_names),
        "input": {"height": height, "width": width, "channels": channels, "pixels": "uint8 0..255"},
        "preparation": _preparation(data),
        "temperature": metrics["temperature"],
        "threshold": metrics["threshold"],
        "test": {key: metrics.get(f"test_{key}") for key in _FIGURES},
        "split": {
            "train": metrics["train_examples"],
            "validation": held_out,
            "test": metrics["test_examples"],
        },
        "parameters": metrics["parameters"],
        "recipe": json.loads(recipe.to_json()),
        "command": command_for(recipe, run.environment()),
        "data": {key: run.data_source()[key] for key in ("source", "sha256")},
        "notes": list(data.notes),
        "licence": "MIT",
    }


def _preparation(data: Data) -> str | None:
    """How a photo becomes what the network has learnt from; see `inference.Classifier.prepare`."""
    if data.train_files:
        return "fit"
    return "photo" if data.class_names == CLASS_NAMES else None


def card_markdown(card: Mapping[str, Any]) -> str:
    """The card for people: what it is for, how good it is, and what it cannot do."""
    test, split, place = card["test"], card["split"], card["input"]
    low, high = test["accuracy_interval"]
    size = f"{place['height']}x{place['width']}x{place['channels']}"
    lines = [
        f"# {card['recipe']['name']}: {len(card['class_names'])} classes",
        "",
        f"Made {card['made']} from {_name(card)} with `{card['command']}`; licence of the code: "
        f"{card['licence']}. {card['parameters']:,} parameters, format {card['format']}.",
        "",
        "## How good it is",
        "",
        f"**{test['accuracy']:.2%}** of {test['examples']:,} test images, which it has not learnt "
        f"from (95 % interval {low:.2%} to {high:.2%}); the mean over the classes is "
        f"{_mean_recall(test):.2%}. It learnt from {split['train']:,} images; "
        f"{split['validation']:,} were held out for validation.{_calibration(card)}",
        "",
        "| class | found (recall) | right when said (precision) | test images |",
        "| --- | --- | --- | --- |",
    ]
    for name, row in test["per_class"].items():
        shown = name.replace("|", "\\|")
        shares = f"{row['recall']:.1%} | {row['precision']:.1%}"
        lines.append(f"| {shown} | {shares} | {row['support']:,} |")
    lines += [
        "",
        "## What it is for, and what not",
        "",
        f"It takes raw pixels (uint8, {size}) {_HOW[card['preparation']]}, and says which of its "
        "classes a picture shows. The figures hold for pictures like its test images: taken "
        "elsewhere, by other cameras or of other goods they will be lower; measure before you rely "
        "on it. It knows no other class: whatever it is shown, it names one of these, so treat an "
        "answer below the threshold as none. It was not made for decisions about people.",
        *[f"\nOf the data: {note}." for note in card["notes"]],
        "",
        "## How it was made",
        "",
        "```json",
        json.dumps({key: card[key] for key in ("recipe", "data")}, indent=2),
        "```",
    ]
    return "\n".join(lines) + "\n"


_HOW = {
    "photo": "that `data/photo.py` makes of photos",
    "fit": "to whose height and width whole photos are scaled",
    None: "of just this size",
}


def _mean_recall(test: Mapping[str, Any]) -> float:
    recalls = [row["recall"] for row in test["per_class"].values() if row["support"]]
    return sum(recalls) / len(recalls)


def _name(card: Mapping[str, Any]) -> str:
    source = card["data"]["source"]
    return "arrays" if source == "arrays" else f"`{Path(source).name}`"


def _calibration(card: Mapping[str, Any]) -> str:
    if card["temperature"] is None:
        return " No temperature and no threshold were fitted."
    if card["threshold"] == 1:
        return " Of no answer, however probable, were 99 % right in validation: all are unsure."
    return (
        f" Its probabilities are {card['test']['calibrated_ece']:.1%} off on average; from "
        f"{card['threshold']:.2f} on (its threshold), 99 % of the validation answers were right."
    )
