"""Networks by name: a name, an image shape and options in, an uncompiled `keras.Model` out.

Every model takes raw pixels (uint8 0..255, NHWC), scales them itself, and ends in softmax.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from fashion_cnn.models.compact import compact
from fashion_cnn.models.residual import residual
from fashion_cnn.models.textbook import textbook
from fashion_cnn.models.transfer import transfer

MODELS: dict[str, Callable[..., Any]] = {
    "textbook": textbook,
    "compact": compact,
    "residual": residual,
    "transfer": transfer,
}


def model_options(name: str) -> dict[str, Any]:
    """The options of a model and their defaults."""
    if name not in MODELS:
        raise ValueError(f"model: got {name!r}; expected one of {', '.join(MODELS)}")
    parameters = inspect.signature(MODELS[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def build_model(
    name: str = "textbook",
    image_shape: tuple[int, int, int] = (28, 28, 1),
    classes: int = 10,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """Build a network.

    Args:
        name: a key of `MODELS`.
        image_shape: (height, width, channels).
        classes: how many.
        options: what `model_options(name)` lists.

    Returns:
        An uncompiled `keras.Model`, uint8 (n, height, width, channels) -> float32 (n, classes).

    Raises:
        ValueError: unknown name or option.
    """
    known, options = model_options(name), dict(options or {})
    for key in options:
        if key not in known:
            raise ValueError(f"{name}: unknown option {key!r}; expected one of {', '.join(known)}")
    return MODELS[name](image_shape, classes, **options)
