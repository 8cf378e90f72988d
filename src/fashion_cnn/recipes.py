"""The recipes that ship, what they promise, and the command that makes a run again."""

import dataclasses
import difflib
import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from fashion_cnn.recipe import Recipe, recipe_from_dict

# What a recipe promises (test accuracy, mean ± sd; time) is in `measured.json`, which
# benchmarks/frontier.py writes; `fashion-cnn recipes` shows it. S is the time of the textbook's
# script in plain Keras: about 100 s on 2 cores. The textbook's improvements are measured by
# benchmarks/improvements.py. Why these settings: docs/experiments.md.
_TEXTBOOK = Recipe("textbook")
_FAST = Recipe(
    "sprint",
    model="compact",
    options={"hidden": 64},
    optimizer="sgd",
    learning_rate=0.2,
    schedule="triangle",
    warmup=0.25,
    momentum=0.85,
    weight_decay=0.003,
    epochs=2,
    batch_size=128,
    precision="bfloat16",
)
_TRANSFER = Recipe(
    "mobilenet",
    model="transfer",
    options={"backbone": "mobilenet", "weights": "imagenet", "dropout": 0.2},
    learning_rate=0.003,
    schedule="triangle",
    warmup=0.1,
    weight_decay=0.5,
    label_smoothing=0.1,
    epochs=40,
    batch_size=32,
    augment=("flip", "zoom", "colour"),
    image_size=224,
    head_epochs=30,
    fine_tune_rate=0.0003,
)
RECIPES = {
    recipe.name: recipe
    for recipe in (
        # The code of the textbook: no padding, 241,546 parameters.
        _TEXTBOOK,
        # The textbook's own table of layers: same padding, 503,690 parameters.
        replace(_TEXTBOOK, name="textbook-padded", options={"padding": "same"}),
        # Its list of improvements, all at once: too much for ten epochs.
        replace(
            _TEXTBOOK,
            name="textbook-plus",
            options={"batch_norm": True, "dropout": 0.3},
            augment=("flip", "shift"),
        ),
        # More than the textbook's accuracy in a tenth of its time: 91.2 % in 0.10 S.
        _FAST,
        # 92.8 % in 0.25 S.
        replace(_FAST, name="quick", options={}, epochs=5, augment=("flip",), label_smoothing=0.1),
        # The default: 94.0 % in 1 S.
        replace(
            _FAST,
            name="standard",
            options={"convolutions": 2},
            epochs=10,
            augment=("flip", "shift1"),
            label_smoothing=0.1,
            flip_average=True,
        ),
        # 95.0 % in 12 S.
        replace(
            _FAST,
            name="thorough",
            model="residual",
            options={},
            epochs=40,
            augment=("flip", "shift", "erase"),
            label_smoothing=0.1,
            flip_average=True,
        ),
        # As much as an hour gives: 95.3 %.
        replace(
            _FAST,
            name="marathon",
            model="residual",
            options={"width": 96},
            epochs=64,
            augment=("flip", "shift", "erase", "erase"),
            label_smoothing=0.1,
            flip_average=True,
        ),
        # For photos by way of data/photo.py: 60 % of photos of real clothes, none seen in training.
        replace(
            _FAST,
            name="photo",
            model="residual",
            options={},
            epochs=20,
            augment=("photo",),
            label_smoothing=0.1,
            flip_average=True,
        ),
        # For photos of one's own: what was learnt from ImageNet's million, and a new head.
        _TRANSFER,
        replace(_TRANSFER, name="resnet", options={**_TRANSFER.options, "backbone": "resnet50"}),
    )
}
DEFAULT = "standard"


def measured() -> dict[str, Any]:
    """What benchmarks/frontier.py measured: `machine`, and `recipes`, name -> its figures."""
    text = resources.files("fashion_cnn").joinpath("measured.json").read_text(encoding="utf-8")
    return json.loads(text)


def find_recipe(name: str) -> Recipe:
    """A recipe by name, or from a path to a `recipe.json`.

    Raises:
        ValueError: no such recipe, or the file does not hold one.
    """
    if name in RECIPES:
        return RECIPES[name]
    if not name.endswith(".json"):
        near = difflib.get_close_matches(name, RECIPES, 1)
        raise ValueError(
            f"recipe: got {name!r}; "
            + (f"did you mean {near[0]}? " if near else "")
            + f"expected {', '.join(RECIPES)} or a recipe.json"
        )
    try:
        return recipe_from_dict(json.loads(Path(name).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ValueError(f"{name}: no such file; expected a run's recipe.json") from None
    except (ValueError, RecursionError, TypeError) as error:
        raise ValueError(f"{name}: not a recipe ({error})") from None


def command_for(recipe: Recipe, about: Mapping[str, Any]) -> str:
    """The command that makes a run again, from its recipe and what `environment.json` holds.

    What was given from Python, data or a network, no command can make: then a sentence says so.
    """
    source = about["data"]["source"]
    if about.get("own_model") or source == "arrays":
        return "# made from Python: train(recipe, …), with data or a network of one's own"
    words = ["fashion-cnn", "train", recipe.name]
    changed: dict[str, Any] = {}
    base = RECIPES.get(recipe.name)
    if base and base.model == recipe.model and base.options.keys() <= recipe.options.keys():
        changed = {k: v for k, v in recipe.options.items() if base.options.get(k) != v}
        for key in (f.name for f in dataclasses.fields(recipe) if f.name != "options"):
            said = key == "batch_size" and source != "fashion-mnist"  # or few images would fit it
            if said or getattr(recipe, key) != getattr(base, key):
                changed[key] = getattr(recipe, key)
    else:
        words[2] = "recipe.json"
    for key, value in changed.items():
        text = ",".join(value) if isinstance(value, tuple) else str(value)
        text = text.lower() if isinstance(value, bool) else text
        words += ["--seed", text] if key == "seed" else ["--set", f"{key}={text}"]
    if seeds := about.get("seeds"):
        words += ["--seeds", str(seeds), "--ensemble"]
    if (processes := about.get("processes", 1)) > 1:
        words += ["--processes", str(processes)]
    return command_with_data(words, source)


def command_with_data(words: list[str], source: str) -> str:
    """A command as text, with where its data comes from, unless it is Fashion-MNIST."""
    return shlex.join(words if source == "fashion-mnist" else [*words, "--data", source])
