"""`Recipe`: everything that decides a training run, as plain data that round-trips as JSON."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, Strict, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from fashion_cnn.data.augment import AUGMENTATIONS, FLIPS
from fashion_cnn.data.dataset import Data
from fashion_cnn.models import model_options
from fashion_cnn.models.transfer import require_backbone
from fashion_cnn.run import Run

MAX_EPOCHS = 100_000
MAX_IMAGE_SIZE = 1024
# see `fit_to_few_images`
FEW_IMAGES_STEPS, FEW_IMAGES_STEPS_PER_EPOCH, FEW_IMAGES_BATCH = 200, 20, 8
SKIP_EASY_IMAGES = 12_000

Fraction = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config=ConfigDict(strict=True, allow_inf_nan=False, extra="forbid"))
class Recipe:
    """The settings of a training; `recipe.json` of a run can be given back to `train`.

    Recipes are immutable; `dataclasses.replace(recipe, epochs=3)` makes a changed copy.

    Attributes:
        name: gives the run folder its name.
        model: the network: `textbook`, `compact`, `residual` or `transfer`.
            Default: `textbook`.
        options: of that network; `build_model` takes the same. Default: the network's own.
        optimizer: `adam` (arXiv:1412.6980); `sgd` with Nesterov momentum; or `muon`, the same with
            orthogonalized updates of convolution kernels (kellerjordan.github.io/posts/muon).
            Default: `adam`.
        learning_rate: the peak learning rate. Default: 0.001.
        schedule: `constant`; or linear warm-up over the `warmup` share of all steps, then decay to
            0, linear for `triangle` (arXiv:1708.07120), or along a cosine for `cosine`
            (arXiv:1608.03983). Default: `constant`.
        warmup: see `schedule`; 0..1. Default: 0.2.
        momentum: of `sgd` and `muon`. Default: 0.9.
        bias_rate: the learning rate of biases and normalization layers, relative to that of the
            other weights. Default: 1.
        sam: sharpness-aware minimization (arXiv:2010.01412): the gradient is that at weights moved
            by this distance in the direction that raises the loss most, which doubles the time of
            a step; 0 for none. Default: 0.
        weight_decay: decoupled weight decay, times the learning rate (arXiv:1711.05101); biases
            and normalization layers are excluded. Default: 0.
        ema: decay per step of an exponential moving average of the weights, which is validated
            and saved in their place; 0 for none. Default: 0.
        label_smoothing: share of the label spread over all classes (arXiv:1512.00567). Default: 0.
        epochs: passes over the training images. Default: 10.
        batch_size: images per step. Default: 64.
        augment: `flip`, `alternate_flip`, `shift`, `shift1`, `erase`, `random`, `zoom`, `color`,
            `photo`, `perspective` or `light`, applied in this order. Default: none.
        cutmix: probability that an image gets a rectangle of another one, and the share of that
            area in its target (arXiv:1905.04899), before the augmentations. Default: 0.
        precision: of training, `float32` or `bfloat16` (where the processor has it); the trained
            model is float32 in both cases. Default: `float32`.
        flip_average: test-time augmentation: the trained model predicts the mean of an image's and
            its flipped image's probabilities, at twice the cost. Default: False.
        validation: `validation` holds out images (5,000 of Fashion-MNIST's) and validates on
            them; `test` trains on everything and validates on the test set; `none` trains on
            everything and does not validate. Default: `validation`.
        image_size: height and width in pixels to which pictures of class folders are resized. 0
            keeps those of one size up to 64x64 as they are, and resizes others to 64x64.
            Default: 0.
        class_weights: whether every class has the same weight in the loss, whatever its size.
            Default: False.
        head_epochs: so many of the epochs, the first, train only the layers after `features`, on
            features that are computed once. In them only `flip` and `alternate_flip` augment.
            Default: 0, as for networks that are not pretrained.
        fine_tune_rate: the peak learning rate of the epochs after these. Default: 0.
        skip_easy: about the share of the training images that every epoch after the first leaves
            out, 0..0.5; drawn from the twice as many whose label was most probable when they were
            last trained on (after InfoBatch, arXiv:2303.04947). With `class_weights` none are left
            out. Default: 0.
        teacher: a model whose probabilities are training targets as well (distillation,
            arXiv:1503.02531): a preset, a run or an `.onnx` file that was trained on the same
            data, without the held-out images. Default: none.
        distill_weight: the weight of the teacher's probabilities; the smoothed label has the rest.
            Default: 0.9.
        seed: of initial weights, order, augmentation and dropout. Default: 0.

    Raises:
        ValueError: a field has the wrong type or is out of range, or fields contradict each other.
    """

    name: str
    model: str = "textbook"
    options: dict[str, Any] = Field(default_factory=dict)
    optimizer: Literal["adam", "sgd", "muon"] = "adam"
    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    schedule: Literal["constant", "triangle", "cosine"] = "constant"
    warmup: Fraction = 0.2
    momentum: Fraction = 0.9
    bias_rate: Annotated[float, Field(gt=0)] = 1.0
    sam: Annotated[float, Field(ge=0)] = 0.0
    weight_decay: Fraction = 0.0
    ema: Fraction = 0.0
    label_smoothing: Fraction = 0.0
    epochs: Annotated[int, Field(ge=1, le=MAX_EPOCHS)] = 10
    batch_size: Annotated[int, Field(ge=1)] = 64
    augment: Annotated[tuple[str, ...], Strict(False)] = ()
    cutmix: Annotated[float, Field(ge=0, le=1)] = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    flip_average: bool = False
    validation: Literal["validation", "test", "none"] = "validation"
    image_size: Annotated[int, Field(ge=0, le=MAX_IMAGE_SIZE)] = 0
    class_weights: bool = False
    head_epochs: Annotated[int, Field(ge=0)] = 0
    fine_tune_rate: Annotated[float, Field(ge=0)] = 0.0
    skip_easy: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    teacher: str = ""
    distill_weight: Annotated[float, Field(ge=0, le=1)] = 0.9
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _check(self) -> "Recipe":
        if not self.name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"name: got {self.name!r}; expected letters, digits, - and _")
        _check_options(self.model, self.options)
        for name in self.augment:
            if name not in AUGMENTATIONS:
                raise ValueError(f"augment: got {name!r}; expected {', '.join(AUGMENTATIONS)}")
        if len(flips := [name for name in self.augment if name in FLIPS]) > 1:
            raise ValueError(f"augment: got {', '.join(flips)}; expected one of them at most")
        if 0 < self.image_size < 8:
            raise ValueError(f"image_size: got {self.image_size}; expected at least 8, or 0")
        if self.head_epochs and self.model != "transfer":
            raise ValueError(f"head_epochs: got {self.head_epochs}; expected 0 for {self.model}")
        if 0 < self.head_epochs < self.epochs and not self.fine_tune_rate:
            raise ValueError(
                f"fine_tune_rate: got 0; expected more, because epochs ({self.epochs}) exceed "
                f"head_epochs ({self.head_epochs})"
            )
        if self.teacher and self.class_weights:
            raise ValueError("class_weights: got true; cannot be combined with a teacher")
        if self.cutmix and self.class_weights:
            raise ValueError("class_weights: got true; cannot be combined with cutmix")
        return self

    def to_json(self) -> str:
        """The recipe as the text of `recipe.json`."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


def _check_options(model: str, options: Mapping[str, Any]) -> None:
    defaults = model_options(model)
    for key, value in options.items():
        if key not in defaults:
            raise ValueError(f"{key}: not an option of {model}, which has {list(defaults)}")
        try:
            TypeAdapter(type(defaults[key])).validate_python(value, strict=True)
        except ValidationError:
            raise ValueError(_wrong_type(key, value, defaults[key])) from None
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(_wrong_type(key, value, defaults[key]))
    if model == "transfer":
        values = {**defaults, **options}
        require_backbone(values["weights"], values["backbone"])


def recipe_from_dict(values: Mapping[str, Any]) -> Recipe:
    """A recipe from the contents of a `recipe.json`; ValueError says what does not fit."""
    if not isinstance(values, Mapping) or "name" not in values:
        raise ValueError("expected a JSON object with at least a name")
    known = [field.name for field in dataclasses.fields(Recipe)]
    for key in values:
        if key not in known:
            raise ValueError(f"unknown key {key!r}; expected one of {', '.join(known)}")
    try:
        return Recipe(**values)
    except ValidationError as error:
        raise ValueError("; ".join(map(_error_text, error.errors()))) from None


def _error_text(error: Any) -> str:
    """One of Pydantic's errors in the form `key: got X; expected Y`."""
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    expected = error["msg"].removeprefix("Input should be ")
    if expected.startswith(("greater", "less")):
        expected = f"a value {expected}"
    return f"{error['loc'][0]}: got {error['input']!r:.60}; expected {expected}"


def fit_to_few_images(recipe: Recipe, images: int) -> Recipe:
    """Adapt a recipe that was made for 55,000 images to fewer.

    The batch size is halved until an epoch has 20 steps, or a batch has 8 images. The learning rate
    is scaled with it, by the square root for Adam, else linearly (arXiv:1706.02677). There are
    epochs for 200 steps, but no more than 100 (docs/experiments.md, "few images"). Of fewer than
    12,000 images none are skipped.
    """
    batch_size = recipe.batch_size
    while batch_size > FEW_IMAGES_BATCH and batch_size * FEW_IMAGES_STEPS_PER_EPOCH > images:
        batch_size //= 2
    scale = (batch_size / recipe.batch_size) ** (0.5 if recipe.optimizer == "adam" else 1.0)
    epochs = recipe.epochs
    if not recipe.head_epochs or recipe.options.get("weights") == "none":
        epochs = max(epochs, min(-(-FEW_IMAGES_STEPS * batch_size // images), 100))
    return replace(
        recipe,
        batch_size=batch_size,
        epochs=epochs,
        skip_easy=recipe.skip_easy if images >= SKIP_EASY_IMAGES else 0.0,
        learning_rate=scale * recipe.learning_rate,
        fine_tune_rate=scale * recipe.fine_tune_rate,
    )


def fit_to_data(recipe: Recipe, data: Data) -> Recipe:
    """`fit_to_few_images` for the training images that the recipe uses of some data."""
    hold_out = recipe.validation == "validation"
    return fit_to_few_images(recipe, len(data.train_index if hold_out else data.train_labels))


def read_recipe(run: Run) -> Recipe:
    """The recipe of a run; raises FileNotFoundError without one, ValueError if damaged."""
    values = run.recipe_values()
    try:
        return recipe_from_dict(values)
    except ValueError as error:
        raise ValueError(f"{run.recipe_path}: damaged ({error})") from None


def require_resumable(run: Run, started: Recipe, requested: Recipe) -> None:
    """Raise ValueError unless a run can go on to the end of the requested recipe.

    It must be the recipe that the run was started with; if its learning rate is constant, it may
    have more epochs.
    """
    old, new = dataclasses.asdict(started), dataclasses.asdict(requested)
    differences = {key: (old[key], new[key]) for key in old if old[key] != new[key]}
    if differences.keys() == {"epochs"} and started.epochs < requested.epochs:
        if started.schedule != "constant":
            raise ValueError(
                f"{run}: its learning rate falls to 0 at epoch {started.epochs} (schedule "
                f"{started.schedule}), so there is nothing to continue; start a new run, with the "
                f"same --data: fashion-cnn train {run.recipe_path} --epochs {requested.epochs}"
            )
    elif differences:
        raise ValueError(
            f"{run}: started with another recipe; the differences (started, requested) are "
            f"{json.dumps(differences)}; resume with {run.recipe_path}"
        )


def with_settings(recipe: Recipe, settings: Mapping[str, str]) -> Recipe:
    """The recipe with fields or model options changed, each given as text (`--set KEY=VALUE`)."""
    values = dataclasses.asdict(recipe)
    model = settings.get("model", recipe.model)
    defaults = model_options(model)
    options = dict(recipe.options) if model == recipe.model else {}
    fields = values.keys() - {"name", "options"}
    for key, text in settings.items():
        if key in fields:
            values[key] = _parse(key, text, values[key])
        elif key in defaults:
            options[key] = _parse(key, text, defaults[key])
        else:
            known = ", ".join(sorted({*fields, *defaults}))
            raise ValueError(f"--set {key}: unknown; expected one of {known}")
    return recipe_from_dict({**values, "options": options})


def _parse(key: str, text: str, default: Any) -> Any:
    """A text as a value of the type of the default."""
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(default, tuple):
            return tuple(part for part in text.split(",") if part)
        return type(default)(text)
    except (KeyError, ValueError):
        raise ValueError(_wrong_type(key, text, default)) from None


def _wrong_type(key: str, value: Any, default: Any) -> str:
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "a word",
        tuple: "names joined by commas",
    }
    return f"{key}: got {value!r}; expected {names[type(default)]}"
