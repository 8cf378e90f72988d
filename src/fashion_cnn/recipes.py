"""`RECIPES`, each with what it promises; recipes by name; the command that makes a run again.

The figures are test accuracy, mean ± standard deviation over n seeds, and the mean time of the
whole training on 2 cores of an AMD EPYC; that of `thorough` is of an Intel Xeon without bfloat16.
benchmarks/frontier.py measures them and writes `measured.json`. Why these settings:
docs/experiments.md.
"""

import dataclasses
import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from fashion_cnn.console import shell_command
from fashion_cnn.recipe import Recipe, recipe_from_dict

DEFAULT = "standard"

# The textbook's network as published: no padding, 241,546 parameters.
# fashion-cnn train textbook: 90.97 ± 0.31 %, n = 5, 47 s
_TEXTBOOK = Recipe("textbook")

# The textbook's accuracy and more in a tenth of the time of plain Keras.
# fashion-cnn train sprint: 92.57 ± 0.17 %, n = 10, 13 s
_SPRINT = Recipe(
    "sprint",
    model="compact",
    options={"hidden": 64, "stem": 0},
    optimizer="sgd",
    learning_rate=0.2,
    schedule="triangle",
    warmup=0.25,
    momentum=0.85,
    weight_decay=0.003,
    epochs=3,
    batch_size=128,
    precision="bfloat16",
    skip_easy=0.45,
)

# For photos of one's own: a backbone pretrained on ImageNet, and a new head.
_MOBILENET = Recipe(
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
    augment=("flip", "zoom", "color"),
    image_size=224,
    head_epochs=30,
    fine_tune_rate=0.0003,
)

# The same with another network, other augmentations and averaged weights: slower, and right more
# often on photos by other people (docs/experiments.md). The preset `clothes` is made by it.
# python benchmarks/clothes.py --trials efficientnet: 92.8 % of five folds by person, n = 1; a fold
# takes 93 min on two cores
_EFFICIENTNET = replace(
    _MOBILENET,
    name="efficientnet",
    options={**_MOBILENET.options, "backbone": "efficientnet_lite2"},
    ema=0.995,
    epochs=45,
    augment=("flip", "perspective", "light"),
    image_size=260,
)

# The default.
# fashion-cnn train standard: 94.66 ± 0.11 %, n = 3, 99 s
_STANDARD = replace(
    _SPRINT,
    name="standard",
    options={"convolutions": 2, "stem": 0},
    epochs=15,
    augment=("alternate_flip", "shift1"),
    skip_easy=0.33,
    label_smoothing=0.1,
    flip_average=True,
)

# What every recipe of the residual network shares.
_RESIDUAL = replace(
    _SPRINT,
    name="residual",
    model="residual",
    options={},
    epochs=40,
    augment=("flip", "shift", "erase"),
    skip_easy=0.0,
    label_smoothing=0.1,
    flip_average=True,
)

_ALL = (
    _TEXTBOOK,
    # The textbook's own table of layers: same padding, 503,690 parameters.
    replace(_TEXTBOOK, name="textbook-padded", options={"padding": "same"}),
    # The textbook's list of improvements, all at once: too much for ten epochs.
    replace(
        _TEXTBOOK,
        name="textbook-plus",
        options={"batch_norm": True, "dropout": 0.3},
        augment=("flip", "shift"),
    ),
    _SPRINT,
    # fashion-cnn train quick: 93.66 ± 0.09 %, n = 7, 33 s
    replace(
        _SPRINT,
        name="quick",
        options={"stem": 0},
        epochs=8,
        augment=("alternate_flip",),
        skip_easy=0.4,
        label_smoothing=0.1,
    ),
    _STANDARD,
    # fashion-cnn train thorough: 95.44 ± 0.01 %, n = 2, 34 min
    replace(
        _RESIDUAL,
        name="thorough",
        options={"stem": 0},
        optimizer="muon",
        epochs=54,
        augment=("alternate_flip", "shift", "erase"),
        skip_easy=0.33,
    ),
    # fashion-cnn train marathon: 95.58 ± 0.04 %, n = 2, 58 min
    replace(
        _RESIDUAL,
        name="marathon",
        options={"width": 96},
        epochs=64,
        augment=("flip", "shift", "erase", "erase"),
    ),
    # For a GPU, on JAX. The figures are of benchmarks/gpu.py on an NVIDIA H200: all 60,000 images,
    # the seconds of all epochs.
    # gpu-sprint: 94.33 ± 0.11 %, n = 10, 1.3 s (n = 2)
    replace(
        _STANDARD,
        name="gpu-sprint",
        options={"convolutions": 2},
        epochs=10,
        batch_size=512,
        learning_rate=0.8,
        augment=("flip", "shift1"),
        skip_easy=0.0,
    ),
    # gpu-standard: 95.28 ± 0.15 %, n = 5, 7.7 s
    replace(_RESIDUAL, name="gpu-standard", batch_size=512, learning_rate=0.8),
    # record: 95.95 %, n = 1, 197 s
    replace(
        _RESIDUAL,
        name="record",
        options={"width": 192, "repeats": 3, "drop_path": 0.2},
        epochs=200,
        batch_size=256,
        augment=("flip", "shift", "erase", "erase"),
    ),
    # fashion-cnn train photo: 66 % of 290 photos of clothes (interval 60 to 71), n = 1. It is
    # trained on Fashion-MNIST alone; data/photo.py converts the photos.
    replace(_RESIDUAL, name="photo", epochs=20, augment=("photo",)),
    _MOBILENET,
    _EFFICIENTNET,
    replace(_MOBILENET, name="resnet", options={**_MOBILENET.options, "backbone": "resnet50"}),
)
RECIPES = {recipe.name: recipe for recipe in _ALL}
"""The recipes that ship with the package: name -> `Recipe`. `fashion-cnn recipes` lists them."""


def measured() -> dict[str, Any]:
    """What benchmarks/frontier.py measured: `machine`, and `recipes`, name -> figures."""
    text = resources.files("fashion_cnn").joinpath("measured.json").read_text(encoding="utf-8")
    return json.loads(text)


def is_recipe_file(name: str) -> bool:
    """Whether a text is the path of a recipe, which is taken as it is, or the name of one."""
    return name.endswith(".json")


def find_recipe(name: str) -> Recipe:
    """A recipe by name, or from the path of a `recipe.json`.

    Raises:
        ValueError: there is no such recipe, or the file does not contain one.
    """
    if name in RECIPES:
        return RECIPES[name]
    if not is_recipe_file(name):
        similar = difflib.get_close_matches(name, RECIPES, 1)
        hint = f"did you mean {similar[0]}? " if similar else ""
        raise ValueError(
            f"recipe: got {name!r}; {hint}expected {', '.join(RECIPES)} or a recipe.json"
        )
    try:
        text = Path(os.path.expanduser(name)).read_text(encoding="utf-8-sig")
        return recipe_from_dict(json.loads(text))
    except FileNotFoundError:
        raise ValueError(f"{name}: no such file; expected a run's recipe.json") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: not a recipe ({error})") from None


def command_for(recipe: Recipe, environment: Mapping[str, Any]) -> str:
    """The command that makes a run again.

    Args:
        recipe: of the run.
        environment: what its `environment.json` holds.

    Returns:
        The command; a comment that says so where data or network came from Python.
    """
    source = environment["data"]["source"]
    if environment.get("own_model") or source == "arrays":
        return "# made from Python: train(recipe, …), with data or a network of one's own"
    base = RECIPES.get(recipe.name)
    if base and base.model == recipe.model and base.options.keys() <= recipe.options.keys():
        words = ["fashion-cnn", "train", recipe.name]
        changes = _changes(base, recipe)
        if source != "fashion-mnist":  # else the recipe would be fitted to few images
            changes["batch_size"] = recipe.batch_size
    else:
        words, changes = ["fashion-cnn", "train", "recipe.json"], {}
    for key, value in changes.items():
        text = ",".join(value) if isinstance(value, tuple) else str(value)
        text = text.lower() if isinstance(value, bool) else text
        words += ["--seed", text] if key == "seed" else ["--set", f"{key}={text}"]
    if seeds := environment.get("seeds"):
        words += ["--seeds", str(seeds), "--ensemble"]
    if (processes := environment.get("processes", 1)) > 1:
        words += ["--processes", str(processes)]
    return command_with_data(words, environment["data"])


def _changes(base: Recipe, recipe: Recipe) -> dict[str, Any]:
    """The options and fields in which a recipe differs from the one of its name."""
    changes = {k: v for k, v in recipe.options.items() if base.options.get(k) != v}
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        if field.name != "options" and value != getattr(base, field.name):
            changes[field.name] = value
    return changes


def command_with_data(words: list[str], origin: Mapping[str, Any]) -> str:
    """A command as text, with `--data` unless that is Fashion-MNIST, `--groups` and `--decisions`.

    `origin` is `Data.origin`, or what a run records of its data.
    """
    source = origin["source"]
    words = words if source == "fashion-mnist" else [*words, "--data", source]
    for option in ("groups", "decisions"):
        words = [*words, f"--{option}", origin[option]] if origin.get(option) else words
    return shell_command(words)
