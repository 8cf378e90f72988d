"""Recipes: everything that decides a training run, as plain data that round-trips as JSON."""

import dataclasses
import difflib
import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from fashion_cnn.data.augment import AUGMENTATIONS
from fashion_cnn.models import model_options
from fashion_cnn.run import read_json

_CHOICES = {
    "optimizer": ("adam", "sgd"),
    "schedule": ("constant", "triangle"),
    "precision": ("float32", "bfloat16"),
    "validation": ("validation", "test", "none"),
}
_FRACTIONS = ("warmup", "momentum", "weight_decay", "label_smoothing")
MOST_EPOCHS = 100_000
STEPS, STEPS_AN_EPOCH, SMALLEST_BATCH = 200, 20, 8  # see `for_few_images`
MOST_PIXELS = 1024  # of an image's height and width


@dataclass(frozen=True)
class Recipe:
    """What a run is made of; `recipe.json` of a run can be given back to `train`.

    Attributes:
        name: gives the run folder its name.
        model: a key of `models.MODELS`.
        options: of that model.
        optimizer: `adam` (arXiv:1412.6980), or `sgd` with Nesterov's momentum.
        learning_rate: the highest.
        schedule: `constant`, or `triangle`: up in a straight line for the `warmup` share of all
            steps, then down to nothing (arXiv:1708.07120).
        warmup: see `schedule`; 0..1.
        momentum: of `sgd`.
        weight_decay: how much of a kernel goes in a step, times the learning rate
            (arXiv:1711.05101); biases and normalisations are spared.
        label_smoothing: how much of the truth is spread over all classes (arXiv:1512.00567).
        epochs: passes over the training images.
        batch_size: images a step.
        augment: names from `data.augment.AUGMENTATIONS`, in order.
        precision: of training, `float32` or `bfloat16` (where the processor has it); the trained
            model is float32 in any case.
        mirror: the trained model answers with the mean of an image's and its mirror image's
            probabilities, at twice the cost.
        validation: `validation` trains on what is left without the held-out images (5,000 of
            Fashion-MNIST's) and validates on them; `test` trains on everything and draws the test
            set's curves; `none` trains on everything and draws none.
        image_size: height and width that pictures of class folders get; 0 leaves small ones of one
            size as they are, and gives others 64.
        class_weights: whether every class counts alike in the loss, however few its images are.
        head_epochs: so many of the epochs, the first, train only what comes after the layer
            `features`, on features that are computed once; 0 for networks that learn as a whole.
        fine_tune_rate: the highest learning rate of the epochs after these.
        teacher: a model whose probabilities are learnt, too (arXiv:1503.02531): a preset, a run or
            an `.onnx` file that has learnt from the same data, without the held-out images.
        teaching: the weight of these probabilities; the rest is that of the smoothed label.
        seed: of weights, order, augmentation and dropout.
    """

    name: str
    model: str = "textbook"
    options: dict[str, Any] = field(default_factory=dict)
    optimizer: str = "adam"
    learning_rate: float = 0.001
    schedule: str = "constant"
    warmup: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    epochs: int = 10
    batch_size: int = 64
    augment: tuple[str, ...] = ()
    precision: str = "float32"
    mirror: bool = False
    validation: str = "validation"
    image_size: int = 0
    class_weights: bool = False
    head_epochs: int = 0
    fine_tune_rate: float = 0.0
    teacher: str = ""
    teaching: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.name or not self.name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"name: got {self.name!r}; expected letters, digits, - and _")
        options = model_options(self.model)
        for key, value in self.options.items():
            if key not in options:
                raise ValueError(f"{key}: not an option of {self.model}, which has {list(options)}")
            _check_type(key, value, options[key])
        for key, choices in _CHOICES.items():
            if getattr(self, key) not in choices:
                raise ValueError(f"{key}: got {getattr(self, key)!r}; expected one of {choices}")
        for key in _FRACTIONS:
            if not 0 <= getattr(self, key) < 1:
                raise ValueError(f"{key}: got {getattr(self, key)}; expected 0 <= {key} < 1")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate: got {self.learning_rate}; expected more than 0")
        if not 1 <= self.epochs <= MOST_EPOCHS:
            raise ValueError(f"epochs: got {self.epochs}; expected 1..{MOST_EPOCHS:,}")
        if self.image_size and not 8 <= self.image_size <= MOST_PIXELS:
            raise ValueError(f"image_size: got {self.image_size}; expected 8..{MOST_PIXELS}, or 0")
        if self.head_epochs < 0 or (self.head_epochs and self.model != "transfer"):
            raise ValueError(
                f"head_epochs: got {self.head_epochs}; expected 0, or more with model=transfer"
            )
        if not 0 <= self.fine_tune_rate < math.inf or (
            0 < self.head_epochs < self.epochs and not self.fine_tune_rate
        ):
            raise ValueError(f"fine_tune_rate: got {self.fine_tune_rate}; expected more than 0")
        if not 0 <= self.teaching <= 1:
            raise ValueError(f"teaching: got {self.teaching}; expected 0..1")
        if self.teacher and self.class_weights:
            raise ValueError("class_weights: expected false with a teacher, which has its own")
        if self.batch_size < 1:
            raise ValueError(f"batch_size: got {self.batch_size}; expected at least 1")
        for name in self.augment:
            if name not in AUGMENTATIONS:
                raise ValueError(f"augment: got {name!r}; expected {', '.join(AUGMENTATIONS)}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed: got {self.seed}; expected 0..{2**32 - 1}")

    def to_json(self) -> str:
        """The recipe as the text of `recipe.json`."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


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
        return from_dict(json.loads(Path(name).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ValueError(f"{name}: no such file; expected a run's recipe.json") from None
    except (ValueError, RecursionError, TypeError) as error:
        raise ValueError(f"{name}: not a recipe ({error})") from None


def from_dict(values: Mapping[str, Any]) -> Recipe:
    """A recipe from what `recipe.json` holds.

    Raises:
        ValueError: an unknown key, a value of the wrong type, or one out of range.
    """
    if not isinstance(values, Mapping) or "name" not in values:
        raise ValueError("expected an object with at least a name")
    defaults = dataclasses.asdict(Recipe("defaults"))
    for key, value in values.items():
        if key not in defaults:
            raise ValueError(f"unknown key {key!r}; expected one of {', '.join(defaults)}")
        _check_type(key, tuple(value) if isinstance(value, list) else value, defaults[key])
    augment = tuple(values.get("augment", ()))
    if not all(isinstance(name, str) for name in augment):
        raise ValueError(f"augment: got {list(augment)!r}; expected names")
    numbers = {}
    for key in ("learning_rate", "fine_tune_rate", "teaching", *_FRACTIONS):
        try:
            numbers[key] = float(values.get(key, defaults[key]))
        except OverflowError:
            raise ValueError(f"{key}: too large a number") from None
    return Recipe(**{**values, **numbers, "augment": augment})


def for_few_images(recipe: Recipe, images: int) -> Recipe:
    """A recipe that was made for 55,000 images, for fewer.

    Batches become smaller until there are 20 an epoch, or they have 8 images; the learning rate
    with them, in proportion for SGD (arXiv:1706.02677), by the root for Adam; and there are epochs
    for 200 steps, but no more than 100 (docs/experiments.md, "few images").
    """
    batch = recipe.batch_size
    while batch > SMALLEST_BATCH and batch * STEPS_AN_EPOCH > images:
        batch //= 2
    share = (batch / recipe.batch_size) ** (1.0 if recipe.optimizer == "sgd" else 0.5)
    epochs = recipe.epochs
    if not recipe.head_epochs or recipe.options.get("weights") == "none":
        epochs = max(epochs, min(-(-STEPS * batch // images), 100))
    rates = share * recipe.learning_rate, share * recipe.fine_tune_rate
    return replace(
        recipe, batch_size=batch, epochs=epochs, learning_rate=rates[0], fine_tune_rate=rates[1]
    )


def read_recipe(run: Path) -> Recipe:
    """The recipe of a run.

    Raises:
        FileNotFoundError: `run` is no run folder.
        ValueError: its `recipe.json` is damaged.
    """
    values = read_json(run, "recipe.json")
    try:
        return from_dict(values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{run / 'recipe.json'}: damaged ({error})") from None


def require_same(run: Path, started: Recipe, given: Recipe) -> None:
    """Raise ValueError with the differences unless a run was started with the given recipe."""
    old, new = dataclasses.asdict(started), dataclasses.asdict(given)
    if old != new:
        changed = {key: (old[key], new[key]) for key in old if old[key] != new[key]}
        raise ValueError(
            f"{run}: started with another recipe; then and now differ in {json.dumps(changed)}; "
            f"resume with {run / 'recipe.json'}"
        )


def command_of(recipe: Recipe, about: Mapping[str, Any]) -> str:
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
    return with_data(words, source)


def with_data(words: list[str], source: str) -> str:
    """A command as text, with where its data comes from, unless it is Fashion-MNIST."""
    return shlex.join(words if source == "fashion-mnist" else [*words, "--data", source])


def with_settings(recipe: Recipe, settings: Mapping[str, str]) -> Recipe:
    """The recipe with fields or model options changed, each given as text (`--set KEY=VALUE`).

    Raises:
        ValueError: unknown key, or a text that is not of the key's type.
    """
    fields = {f.name for f in dataclasses.fields(Recipe)} - {"name", "options"}
    options = model_options(settings.get("model", recipe.model))
    changed: dict[str, Any] = {}
    chosen = dict(recipe.options) if recipe.model == settings.get("model", recipe.model) else {}
    for key, text in settings.items():
        if key in fields:
            changed[key] = _parse(key, text, getattr(recipe, key))
        elif key in options:
            chosen[key] = _parse(key, text, options[key])
        else:
            known = ", ".join(sorted(fields | set(options)))
            raise ValueError(f"--set {key}: unknown; expected one of {known}")
    return dataclasses.replace(recipe, **changed, options=chosen)


def _parse(key: str, text: str, like: Any) -> Any:
    try:
        if isinstance(like, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(like, tuple):
            return tuple(part for part in text.split(",") if part)
        return type(like)(text)
    except (KeyError, ValueError):
        raise ValueError(f"{key}: got {text!r}; expected {_kind(like)}") from None


def _check_type(key: str, value: Any, like: Any) -> None:
    number = isinstance(like, float) and isinstance(value, int) and not isinstance(value, bool)
    finite = not isinstance(value, float) or math.isfinite(value)
    if (type(value) is not type(like) and not number) or not finite:
        raise ValueError(f"{key}: got {value!r}; expected {_kind(like)}")


def _kind(like: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    return names.get(
        type(like), "names joined by commas" if isinstance(like, tuple) else "an object"
    )


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
            augment=("flip", "nudge"),
            label_smoothing=0.1,
            mirror=True,
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
            mirror=True,
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
            mirror=True,
        ),
        # For photos by way of data/photo.py: 60 % of photos of real clothes, none seen in training.
        replace(
            _FAST,
            name="photo",
            model="residual",
            options={},
            epochs=20,
            augment=("photograph",),
            label_smoothing=0.1,
            mirror=True,
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
