"""Train, understand and use a convolutional classifier for clothes.

Every public name is imported on first use, so `import fashion_cnn` costs nothing and loads no
deep learning framework.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# ONNX Runtime 1.29 and later would write a device id and usage events below the user's cache
# folder and look up its maker's address. It reads this when it is imported, in child processes too.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

if TYPE_CHECKING:
    from fashion_cnn.data import Data, load_data
    from fashion_cnn.evaluation import evaluate, predict
    from fashion_cnn.inference.classifier import Classifier
    from fashion_cnn.inference.prediction import Prediction
    from fashion_cnn.models import build_model
    from fashion_cnn.recipe import Recipe
    from fashion_cnn.recipes import RECIPES
    from fashion_cnn.training.loop import train

_HOME = {
    "Data": "data",
    "load_data": "data",
    "build_model": "models",
    "RECIPES": "recipes",
    "Recipe": "recipe",
    "train": "training.loop",
    "Classifier": "inference.classifier",
    "Prediction": "inference.prediction",
    "evaluate": "evaluation",
    "predict": "evaluation",
}

__all__ = [
    "RECIPES",
    "Classifier",
    "Data",
    "Prediction",
    "Recipe",
    "build_model",
    "evaluate",
    "load_data",
    "predict",
    "train",
]


if TYPE_CHECKING:
    __version__: str
else:  # hidden from type checkers, which would take every name

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from fashion_cnn.machine import version

            return version("fashion-cnn") or "unknown"
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        except ModuleNotFoundError as error:
            error.add_note('pip install "fashion-cnn[train]"')
            raise


def __dir__() -> list[str]:
    return __all__
