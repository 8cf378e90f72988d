"""A trained model and images in; class probabilities, metrics and explanations out."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from fashion_cnn.data import load_data, reload_data
from fashion_cnn.data.dataset import Data, channels_last
from fashion_cnn.data.decisions import read_decisions
from fashion_cnn.data.recorded import find_origin, require_same_data
from fashion_cnn.data.split import stratified
from fashion_cnn.evaluation.calibration import SURE
from fashion_cnn.evaluation.metrics import classification_metrics
from fashion_cnn.evaluation.unknown import measure_similarity
from fashion_cnn.evaluation.verdicts import fit_thresholds, measure_verdicts
from fashion_cnn.models.loading import load_keras_file
from fashion_cnn.recipe import read_recipe
from fashion_cnn.run import EXPLAINED, Run

MAX_EMBEDDINGS = 2000  # test images on the map of embeddings
GRADCAM_PER_CLASS = 8  # test images of each class with a Grad-CAM heat map
EXPLAIN_STEPS = 10  # calls of `advance` by `explain_run`


def load_model(run: str | os.PathLike[str]) -> Any:
    """The `keras.Model` of a run; FileNotFoundError without one, ValueError if it is damaged."""
    run = Run(run)
    path = run.verified_path(run.keras_path.name)
    if not path.is_file():
        raise FileNotFoundError(f"{run}: has no model.keras; expected the folder of a finished run")
    return load_keras_file(path)


def load_run_data(run: Run, source: str | None = None) -> Data:
    """Load the data that a run was trained on.

    Args:
        run: a run.
        source: where the data is now. Default: where it was during the training.

    Raises:
        FileNotFoundError: there is no run, or its data is no longer there.
        ValueError: it is other data, or has changed since, or the run was trained on arrays.
    """
    data = reload_data(find_origin(run, source), read_recipe(run).image_size)
    require_same_data(run, data)
    return data


def predict(model: Any, images: np.ndarray) -> np.ndarray:
    """Class probabilities of images.

    Args:
        model: a `keras.Model` that takes raw pixels, or the path of a run.
        images: uint8 (n, height, width) or (n, height, width, channels), 0..255.

    Returns:
        float32 (n, classes); each row adds up to 1.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: the images are not raw pixels, or not of the model's shape; or the run's model
            is damaged.
    """
    if isinstance(model, str | os.PathLike):
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
    """Evaluate a model on images and labels.

    Args:
        model: a `keras.Model` that takes raw pixels, or the path of a run.
        images: uint8 (n, height, width) or (n, height, width, channels), 0..255.
        labels: integers (n,), 0..classes-1: the numbers of the classes in the sorted order of the
            labels that the model was trained on.
        class_names: names for the per-class metrics. Default: the class indices.

    Returns:
        A dictionary: `accuracy` (0..1), `loss`, `per_class` and more, see docs/metrics.md. The
            metrics of a class without images are None.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: the images are not raw pixels or not of the model's shape, images and labels
            differ in number, or there is no class for a label.
    """
    return classification_metrics(predict(model, images), labels, class_names)


def measure_run(
    run: Run,
    data: Data,
    held_out: Mapping[str, np.ndarray] | None = None,
    sure_accuracy: float = SURE,
) -> dict[str, Any]:
    """Evaluate a trained run on its splits and write `metrics.json` and `predictions.npz`.

    Temperature and thresholds are fitted on the validation images, if there are any. Deletes the
    results of `explain_run`, which may belong to an earlier model.

    Args:
        run: a trained run.
        data: what it was trained on.
        held_out: for a run that trained on the validation images, too: what to fit on instead, the
            `validation_probabilities`, `validation_labels` and `validation_similarity` of a
            cross-validation.
        sure_accuracy: required of the predictions that are sure, 0..1. Default: 0.99.
    """
    run.remove(*EXPLAINED)
    model, recipe = load_model(run), read_recipe(run)
    has_validation = recipe.validation == "validation"
    splits = ["test", "validation"] if has_validation else ["test"]
    index = data.train_index if has_validation else np.arange(len(data.train_labels))
    arrays: dict[str, Any] = {}
    for split in splits:
        images, labels = data.split(split)
        arrays |= {f"{split}_probabilities": predict(model, images), f"{split}_labels": labels}
    if data.kept_test is not None and data.recorded_test_labels is not None:
        arrays |= {"test_index": data.kept_test}
        arrays |= {"recorded_test_labels": data.recorded_test_labels}
    predicted = {split: arrays[f"{split}_probabilities"].argmax(1) for split in splits}
    arrays |= measure_similarity(model, data, index, predicted)
    if held_out:
        splits.append("validation")
        arrays |= held_out
    thresholds = fit_thresholds(arrays, sure_accuracy)
    metrics: dict[str, Any] = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "parameters": model.count_params(),
        "train_examples": len(index),
        "train_seconds": round(sum(run.history()["seconds"]), 3),
        **thresholds,
    }
    for split in splits:
        probabilities, labels = arrays[f"{split}_probabilities"], arrays[f"{split}_labels"]
        temperature = thresholds["temperature"]
        split_metrics = classification_metrics(probabilities, labels, data.class_names, temperature)
        metrics |= _with_prefix(split, split_metrics)
        metrics |= _with_prefix(split, measure_verdicts(arrays, split, thresholds))
    run.write_predictions(arrays)
    run.write_metrics(metrics)
    return metrics


def evaluate_run(
    run: Run, split: str = "test", source: str | None = None, decisions: str = ""
) -> dict[str, Any]:
    """Evaluate the model of a run again on a split of its data, as in `metrics.json`.

    Args:
        run: a run whose training is finished.
        split: `test` or `validation`.
        source: where the data is now. Default: where it was during the training.
        decisions: also measure the accuracy on the labels that people decided in this file,
            `decided_accuracy` with its interval, as of `load_data`. Default: none.

    Raises:
        FileNotFoundError: no finished run, or its data is missing.
        ValueError: the run was trained on the requested split, or its data has changed.
    """
    recipe, decided = read_recipe(run), read_decisions(decisions) if decisions else None
    if split == "validation" and recipe.validation != "validation":
        raise ValueError(f"{run}: trained on the validation images too; only --split test is left")
    data = load_run_data(run, source)
    images, labels = data.split(split)
    temperature = run.metrics().get("temperature") if run.is_measured else None
    model = load_model(run)
    metrics = classification_metrics(predict(model, images), labels, data.class_names, temperature)
    result = _with_prefix(split, metrics)
    if decided:
        origin = find_origin(run, source)
        data = load_data(origin["source"], recipe.image_size, origin["groups"], decided)
        images, labels = data.split(split)
        corrected = classification_metrics(predict(model, images), labels)
        result |= {f"decided_{key}": corrected[key] for key in ("accuracy", "accuracy_interval")}
    return result


def explain_run(run: Run, data: Data, advance: Callable[[str], Any] = lambda step: None) -> None:
    """Explain the model of a measured run: write `robustness.json` and `explanations.npz`.

    The second holds `map_index` (indices of up to 2,000 test images) and `map` (n, 2), their
    embeddings in two dimensions; on TensorFlow also `gradcam_index` and `gradcam` uint8 (n, height,
    width), heat maps for the predicted class of the first test images of each class. `advance` is
    called with the name of each of the `EXPLAIN_STEPS` steps as it begins.
    """
    from fashion_cnn.evaluation.explain import embedding_map, embeddings, gradcam
    from fashion_cnn.evaluation.robustness import robustness
    from fashion_cnn.keras_setup import keras

    model = load_model(run)
    predicted = run.predictions()["test_probabilities"].argmax(1)
    images, labels = data.split("test")
    robustness_metrics = robustness(partial(predict, model), images, labels, advance)
    advance("embeddings")
    index = stratified(labels, min(MAX_EMBEDDINGS, len(labels)))
    arrays = {"map_index": index, "map": embedding_map(embeddings(model, images[index]))}
    advance("Grad-CAM")
    if keras.backend.backend() == "tensorflow":
        classes = range(len(data.class_names))
        index = np.concatenate([np.flatnonzero(labels == k)[:GRADCAM_PER_CLASS] for k in classes])
        heat = gradcam(model, images[index], predicted[index])
        arrays |= {"gradcam_index": index, "gradcam": np.rint(255 * heat).astype(np.uint8)}
    run.write_explanations(robustness_metrics, arrays)


def _with_prefix(split: str, metrics: dict[str, Any]) -> dict[str, Any]:
    return {f"{split}_{key}": value for key, value in metrics.items()}
