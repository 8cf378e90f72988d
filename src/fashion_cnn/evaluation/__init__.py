"""A model and images in; probabilities and numbers out."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.data import load_data
from fashion_cnn.data.dataset import Data, channels_last
from fashion_cnn.data.split import stratified
from fashion_cnn.evaluation.calibration import apply_temperature, fit_temperature, fit_threshold
from fashion_cnn.evaluation.metrics import classification_metrics
from fashion_cnn.models.loading import load_keras_file
from fashion_cnn.recipe import read_recipe
from fashion_cnn.run import Run

SPLITS = ("test", "validation")
MAPPED = 2000  # test images on the map of embeddings
EXPLAINED = 8  # test images of each class for Grad-CAM


def load_model(run: Run | Path | str) -> Any:
    """The `keras.Model` of a run folder.

    Raises:
        FileNotFoundError: there is no finished run.
        ValueError: its model is damaged.
    """
    path = Run(Path(run)).verified_path("model.keras")
    if not path.is_file():
        raise FileNotFoundError(f"{run}: has no model.keras; expected the folder of a finished run")
    return load_keras_file(path)


def load_run_data(run: Run) -> Data:
    """What a run was trained on, as it was then.

    Raises:
        FileNotFoundError: no run, or its data is gone.
        ValueError: the data has changed since.
    """
    source = run.data_source()
    data = load_data(source["source"], read_recipe(run).image_size)
    if data.sha256 != source["sha256"]:
        raise ValueError(f"{run}: {source['source']} has changed since it was trained")
    return data


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
    from fashion_cnn.models.forward import compile_forward

    images = channels_last(np.asarray(images))
    expected = tuple(model.input_shape[1:])
    if images.dtype != np.uint8 or images.shape[1:] != expected:
        raise ValueError(
            f"images: got {images.dtype} {images.shape}; expected uint8 0..255 (n, {expected[0]}, "
            f"{expected[1]}, {expected[2]}); the model scales them itself"
        )
    return compile_forward(model)(images)


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


def measure_run(run: Run, data: Data) -> dict[str, Any]:
    """Evaluate a trained run on its splits and write `metrics.json` and `predictions.npz`.

    The temperature is fitted on the validation images; without them there is none. What
    `explain_run` found before, maybe in another network, goes.
    """
    run.remove_explanations()
    model, recipe = load_model(run), read_recipe(run)
    history = run.history()
    splits = SPLITS if recipe.validation == "validation" else ("test",)
    arrays: dict[str, Any] = {}
    for split in splits:
        images, labels = data.split(split)
        arrays[f"{split}_probabilities"] = predict(model, images)
        arrays[f"{split}_labels"] = labels
    temperature = threshold = None
    if "validation" in splits:
        answers, labels = arrays["validation_probabilities"], arrays["validation_labels"]
        temperature = fit_temperature(answers, labels)
        threshold = fit_threshold(apply_temperature(answers, temperature), labels)
    metrics: dict[str, Any] = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "parameters": model.count_params(),
        "train_examples": len(data.train_labels) - len(data.validation_index) * (len(splits) > 1),
        "train_seconds": round(sum(history["seconds"]), 3),
        "temperature": temperature,
        "threshold": threshold,
    }
    for split in splits:
        given = arrays[f"{split}_probabilities"], arrays[f"{split}_labels"]
        found = classification_metrics(*given, data.class_names, temperature)
        metrics |= {f"{split}_{key}": value for key, value in found.items()}
    run.write_predictions(arrays)
    run.write_metrics(metrics)
    return metrics


def explain_run(run: Run, data: Data, advance: Callable[[str], Any] = lambda what: None) -> None:
    """Look into a measured run's network and write `robustness.json` and `explanations.npz`.

    `robustness.json` is what `robustness.py` finds on test images. `explanations.npz` has
    `map_index` (of up to 2,000 test images) and `map` (n, 2), the embeddings laid out; and
    `gradcam_index` and `gradcam` uint8 (n, height, width), heat for the predicted class of the
    first images of each class, on TensorFlow.

    Args:
        run: a run folder with a model, and predictions.npz.
        data: what it was trained on.
        advance: called with a word for each of the ten steps as it begins.
    """
    from fashion_cnn.evaluation.explain import embedding_map, embeddings, gradcam
    from fashion_cnn.evaluation.robustness import robustness
    from fashion_cnn.keras_setup import keras

    model = load_model(run)
    answers = run.predictions()["test_probabilities"].argmax(1)
    images, labels = data.split("test")
    found = robustness(partial(predict, model), images, labels, advance)
    advance("embeddings")
    index = stratified(labels, min(MAPPED, len(labels)))
    arrays = {"map_index": index}
    arrays["map"] = embedding_map(embeddings(model, images[index]))
    advance("Grad-CAM")
    of_class = [np.flatnonzero(labels == k)[:EXPLAINED] for k in range(len(data.class_names))]
    chosen = np.concatenate(of_class)
    if keras.backend.backend() == "tensorflow":
        heat = gradcam(model, images[chosen], answers[chosen])
        arrays |= {"gradcam_index": chosen, "gradcam": np.rint(255 * heat).astype(np.uint8)}
    run.write_explanations(found, arrays)


def evaluate_run(run: Run, split: str = "test") -> dict[str, Any]:
    """Read a run's model back and measure it again on a split of its own data.

    Returns:
        The same keys, `test_…` or `validation_…`, as in `metrics.json`.

    Raises:
        FileNotFoundError: no finished run, or its data is gone.
        ValueError: the run was trained on the split asked for, or its data has changed.
    """
    recipe = read_recipe(run)
    if split == "validation" and recipe.validation != "validation":
        raise ValueError(f"{run}: trained on the validation images too; only --split test is left")
    data = load_run_data(run)
    images, labels = data.split(split)
    measured = run.is_measured
    temperature = run.metrics().get("temperature") if measured else None
    answers = predict(load_model(run), images)
    found = classification_metrics(answers, labels, data.class_names, temperature)
    return {f"{split}_{key}": value for key, value in found.items()}
