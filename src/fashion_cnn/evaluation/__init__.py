"""A model and images in; probabilities and numbers out."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.data import load_data
from fashion_cnn.data.dataset import Data, channels_last
from fashion_cnn.evaluation.metrics import classification_metrics
from fashion_cnn.models.saved import read_network
from fashion_cnn.recipes import read_recipe
from fashion_cnn.run import read_history, read_source, whole, write_json, write_whole

SPLITS = ("test", "validation")


def load_model(run: Path | str) -> Any:
    """The `keras.Model` of a run folder.

    Raises:
        FileNotFoundError: there is no finished run.
        ValueError: its model is damaged.
    """
    path = whole(Path(run), "model.keras")
    if not path.is_file():
        raise FileNotFoundError(f"{run}: has no model.keras; expected the folder of a finished run")
    return read_network(path)


def predict(model: Any, images: np.ndarray) -> np.ndarray:
    """Class probabilities of images.

    Args:
        model: a `keras.Model` that takes raw pixels, or the path of a run.
        images: uint8 (n, height, width) or (n, height, width, channels), 0..255.

    Returns:
        float32 (n, classes); each row adds up to 1.

    Raises:
        ValueError: the images are not raw pixels, or not of the model's shape.
    """
    if isinstance(model, str | Path):
        model = load_model(model)
    from fashion_cnn.models.forward import make_forward

    images = channels_last(np.asarray(images))
    expected = tuple(model.input_shape[1:])
    if images.dtype != np.uint8 or images.shape[1:] != expected:
        raise ValueError(
            f"images: got {images.dtype} {images.shape}; expected uint8 0..255 (n, {expected[0]}, "
            f"{expected[1]}, {expected[2]}); the model scales them itself"
        )
    return make_forward(model)(images)


def evaluate(
    model: Any, images: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...] | None = None
) -> dict[str, Any]:
    """Measure a model on images and labels.

    Args:
        model: a `keras.Model` that takes raw pixels, or the path of a run.
        images: uint8, as `predict` takes them.
        labels: integers (n,).
        class_names: for the per-class figures; numbers without.

    Returns:
        `accuracy`, `loss`, `examples`, `per_class`, `confusion_matrix`; see `metrics.py`.
    """
    return classification_metrics(predict(model, images), labels, class_names)


def measure_run(run: Path, data: Data) -> dict[str, Any]:
    """Evaluate a trained run on its splits and write `metrics.json` and `predictions.npz`."""
    model, recipe = load_model(run), read_recipe(run)
    history = read_history(run)
    splits = SPLITS if recipe.validation == "validation" else ("test",)
    arrays: dict[str, Any] = {}
    metrics: dict[str, Any] = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "parameters": model.count_params(),
        "train_examples": len(data.train_labels) - len(data.validation_index) * (len(splits) > 1),
        "train_seconds": round(sum(history["seconds"]), 3),
    }
    for split in splits:
        images, labels = data.split(split)
        arrays[f"{split}_probabilities"] = predict(model, images)
        arrays[f"{split}_labels"] = labels
        found = classification_metrics(arrays[f"{split}_probabilities"], labels, data.class_names)
        metrics |= {f"{split}_{key}": value for key, value in found.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_whole(run / "predictions.npz", lambda path: path.write_bytes(buffer.getvalue()))
    write_json(run / "metrics.json", metrics)
    return metrics


def evaluate_run(run: Path, split: str = "test") -> dict[str, Any]:
    """Read a run's model back and measure it again on a split of its own data.

    Returns:
        The same keys, `test_…` or `validation_…`, as in `metrics.json`.

    Raises:
        FileNotFoundError: no finished run, or its data is gone.
        ValueError: the run was trained on the split asked for, or its data has changed.
    """
    recipe, source = read_recipe(run), read_source(run)
    if split == "validation" and recipe.validation != "validation":
        raise ValueError(f"{run}: trained on the validation images too; only --split test is left")
    data = load_data(source["source"])
    if data.sha256 != source["sha256"]:
        raise ValueError(f"{run}: {source['source']} has changed since it was trained")
    images, labels = data.split(split)
    found = evaluate(load_model(run), images, labels, data.class_names)
    return {f"{split}_{key}": value for key, value in found.items()}


def newest_run(parent: Path = Path("runs")) -> Path:
    """The run in `parent` whose model is the newest.

    Raises:
        FileNotFoundError: there is none.
    """
    models = sorted(parent.glob("*/model.keras"), key=lambda path: path.stat().st_mtime)
    if not models:
        raise FileNotFoundError(
            f"no model in {parent}/: run `fashion-cnn train` or give --model RUN"
        )
    return models[-1].parent


def predict_files(run: Path | None, paths: list[Path], top: int = 3) -> list[dict[str, Any]]:
    """Classify image files that have the model's own size.

    Args:
        run: a run folder; the newest in `runs/` if None.
        paths: image files, grey or to be made grey, light on black as Fashion-MNIST is.
        top: how many classes to name.

    Returns:
        One dictionary a file: `path`, `label`, `probability`, and `top`, a list of
        `label` and `probability`, likeliest first.

    Raises:
        ValueError: a file is no picture, or not of the model's size.
    """
    run = run or newest_run()
    names, model = read_source(run)["class_names"], load_model(run)
    if len(names) != model.output_shape[-1]:
        raise ValueError(f"{run}: {model.output_shape[-1]} answers for {len(names)} class names")
    height, width, channels = model.input_shape[1:]
    images = np.stack([read_image(path, (height, width), channels) for path in paths])
    rows = []
    for path, probabilities in zip(paths, predict(model, images), strict=True):
        best = np.argsort(-probabilities)[:top]
        guesses = [
            {"label": names[k], "probability": round(float(probabilities[k]), 6)} for k in best
        ]
        rows.append({"path": str(path), **guesses[0], "top": guesses})
    return rows


def read_image(path: Path, size: tuple[int, int], channels: int = 1) -> np.ndarray:
    """An image file of just this size, as uint8 (height, width, channels).

    What is transparent becomes black, the background of Fashion-MNIST.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no picture that can be read, or of another size.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP", "GIF", "BMP")) as picture:
            if picture.size[::-1] != size:
                width, height = picture.size
                raise ValueError(f"{width}x{height} pixels; expected {size[1]}x{size[0]}")
            if picture.mode.startswith("I"):  # 16 bits a pixel
                grey = (np.asarray(picture).astype(np.uint32) >> 8).astype(np.uint8)
                seen = Image.fromarray(grey).convert("RGBA")
            else:
                seen = picture.convert("RGBA")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except (Image.DecompressionBombError, Image.UnidentifiedImageError, SyntaxError) as error:
        raise ValueError(f"{path}: not a picture (PNG, JPEG, WebP, GIF or BMP): {error}") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    black = Image.new("RGBA", seen.size, (0, 0, 0, 255))
    shown = Image.alpha_composite(black, seen).convert("L" if channels == 1 else "RGB")
    return channels_last(np.asarray(shown)[np.newaxis])[0]
