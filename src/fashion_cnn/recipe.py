"""Recipes: everything that decides a training run, as plain data that round-trips as JSON."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fashion_cnn.data.augment import AUGMENTATIONS
from fashion_cnn.models import model_options
from fashion_cnn.run import Run

_CHOICES = {
    "optimizer": ("adam", "sgd"),
    "schedule": ("constant", "triangle"),
    "precision": ("float32", "bfloat16"),
    "validation": ("validation", "test", "none"),
}
_FRACTIONS = ("warmup", "momentum", "weight_decay", "label_smoothing")
MAX_EPOCHS = 100_000
STEPS, STEPS_AN_EPOCH, SMALLEST_BATCH = 200, 20, 8  # see `fit_to_few_images`
MAX_PIXELS = 1024  # of an image's height and width


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
        distill_weight: the weight of these probabilities; the rest is that of the smoothed label.
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
    flip_average: bool = False
    validation: str = "validation"
    image_size: int = 0
    class_weights: bool = False
    head_epochs: int = 0
    fine_tune_rate: float = 0.0
    teacher: str = ""
    distill_weight: float = 0.9
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
        if not 1 <= self.epochs <= MAX_EPOCHS:
            raise ValueError(f"epochs: got {self.epochs}; expected 1..{MAX_EPOCHS:,}")
        if self.image_size and not 8 <= self.image_size <= MAX_PIXELS:
            raise ValueError(f"image_size: got {self.image_size}; expected 8..{MAX_PIXELS}, or 0")
        if self.head_epochs < 0 or (self.head_epochs and self.model != "transfer"):
            raise ValueError(
                f"head_epochs: got {self.head_epochs}; expected 0, or more with model=transfer"
            )
        if not 0 <= self.fine_tune_rate < math.inf or (
            0 < self.head_epochs < self.epochs and not self.fine_tune_rate
        ):
            raise ValueError(f"fine_tune_rate: got {self.fine_tune_rate}; expected more than 0")
        if not 0 <= self.distill_weight <= 1:
            raise ValueError(f"distill_weight: got {self.distill_weight}; expected 0..1")
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


def recipe_from_dict(values: Mapping[str, Any]) -> Recipe:
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
    for key in ("learning_rate", "fine_tune_rate", "distill_weight", *_FRACTIONS):
        try:
            numbers[key] = float(values.get(key, defaults[key]))
        except OverflowError:
            raise ValueError(f"{key}: too large a number") from None
    return Recipe(**{**values, **numbers, "augment": augment})


def fit_to_few_images(recipe: Recipe, images: int) -> Recipe:
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


def read_recipe(run: Run) -> Recipe:
    """The recipe of a run.

    Raises:
        FileNotFoundError: `run` is no run folder.
        ValueError: its `recipe.json` is damaged.
    """
    values = run.recipe_values()
    try:
        return recipe_from_dict(values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{run.recipe_path}: damaged ({error})") from None


def require_same_recipe(run: Run, started: Recipe, given: Recipe) -> None:
    """Raise ValueError with the differences unless a run was started with the given recipe."""
    old, new = dataclasses.asdict(started), dataclasses.asdict(given)
    if old != new:
        changed = {key: (old[key], new[key]) for key in old if old[key] != new[key]}
        raise ValueError(
            f"{run}: started with another recipe; then and now differ in {json.dumps(changed)}; "
            f"resume with {run.recipe_path}"
        )


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
