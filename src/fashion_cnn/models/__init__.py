"""Networks by name: name, image shape and options in, an uncompiled `keras.Model` out.

Every network takes raw pixels (uint8 0..255, NHWC), scales them itself, and ends in softmax
(float32). To add one, write a function in a new file and enter it in `NETWORKS`.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from fashion_cnn.models.compact import compact
from fashion_cnn.models.residual import residual
from fashion_cnn.models.textbook import textbook
from fashion_cnn.models.transfer import transfer

# functions of (image_shape, classes) with the options as keyword-only parameters
NETWORKS: tuple[Callable[..., Any], ...] = (textbook, compact, residual, transfer)
MODELS = {function.__name__: function for function in NETWORKS}


def model_options(name: str) -> dict[str, Any]:
    """The options of a network and their defaults."""
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
    """Build a network with random weights, or with pretrained ones (`transfer`).

    Args:
        name: `textbook`, `compact`, `residual` or `transfer`. Default: `textbook`.
        image_shape: (height, width, channels) in pixels. Default: (28, 28, 1).
        classes: number of classes. Default: 10.
        options: the network's keyword parameters, such as `{"batch_norm": True}`. Default: those of
            its function.

    Returns:
        An uncompiled `keras.Model`: uint8 (n, height, width, channels), raw pixels 0..255, to
            float32 (n, classes), probabilities.

    Raises:
        ValueError: unknown name or option, or an option is out of range.
    """
    available, options = model_options(name), options or {}
    for key in options:
        if key not in available:
            expected = ", ".join(available)
            raise ValueError(f"{name}: unknown option {key!r}; expected one of {expected}")
    return MODELS[name](image_shape, classes, **options)
