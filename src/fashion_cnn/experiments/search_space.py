"""A JSON file in; which values of a recipe a search may try out, and recipes with such values."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fashion_cnn.models import model_options
from fashion_cnn.recipe import Recipe, with_settings

# Key of a recipe -> a list of choices, or {"low": ..., "high": ...} with "log" or "step"
SearchSpace = dict[str, Any]


def default_space(recipe: Recipe) -> SearchSpace:
    """What is worth a search for any recipe: ranges around its own values."""
    rate, decay, batch = recipe.learning_rate, recipe.weight_decay, recipe.batch_size
    space: SearchSpace = {
        "learning_rate": {"low": rate / 5, "high": rate * 5, "log": True},
        "label_smoothing": {"low": 0.0, "high": 0.2},
        "batch_size": [max(1, batch // 2), batch, batch * 2],
    }
    if decay:
        space["weight_decay"] = {"low": decay / 10, "high": min(decay * 10, 0.5), "log": True}
    return space


def read_space(path: Path, recipe: Recipe) -> SearchSpace:
    """Read a search space from a JSON file.

    Args:
        path: of an object: fields of the recipe, or options of its model, each with a list of
            choices, or with `{"low": …, "high": …}` and optionally `"log": true` or a `"step"`.
        recipe: where the search starts; each choice and both ends are tried on it.

    Raises:
        ValueError: the file holds something else, or a value that the recipe does not take.
    """
    try:
        space = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(space, dict) or not space:
        raise ValueError(f'{path}: expected an object such as {{"dropout": [0.0, 0.3]}}')
    for key, values in space.items():
        try:
            if key == "validation":
                raise ValueError("a search needs its validation images")
            for value in values if isinstance(values, list) else (values["low"], values["high"]):
                with_values(recipe, {key: value})
            distribution(recipe, key, values)
        except (ArithmeticError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: {key}: {json.dumps(values)}: expected a list of choices, or "
                f'{{"low": …, "high": …}} ({" ".join(str(error).split())})'
            ) from None
    return space


def distribution(recipe: Recipe, key: str, values: Any) -> Any:
    """Optuna's distribution for a key: of choices, or of numbers of the recipe's own type there."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(values, list):
        return CategoricalDistribution(values)
    limits = {type(values.get(name, 1)) for name in ("low", "high", "step")}
    default = _default_values(recipe)[key]
    if isinstance(default, bool) or not limits <= {int, float}:
        raise TypeError("low, high and step are numbers")
    return IntDistribution(**values) if isinstance(default, int) else FloatDistribution(**values)


def with_values(recipe: Recipe, values: dict[str, Any]) -> Recipe:
    """The recipe with other values; ValueError if it or its model does not take one of them."""
    texts = {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in values.items()}
    return with_settings(recipe, texts)


def own_values(recipe: Recipe, space: SearchSpace) -> dict[str, Any]:
    """The recipe's own values of the keys of a space, where the space includes them."""
    own: dict[str, Any] = {}
    for key, value in (_default_values(recipe) | recipe.options).items():
        if key not in space:
            continue
        value = ",".join(value) if isinstance(value, tuple) else value
        choices = space[key]
        if isinstance(choices, list):
            included = value in choices
        else:
            included = choices["low"] <= value <= choices["high"]
        if included:
            own[key] = value
    return own


def _default_values(recipe: Recipe) -> dict[str, Any]:
    """The fields of the recipe, and the options of its model with their defaults."""
    return asdict(recipe) | model_options(recipe.model)
