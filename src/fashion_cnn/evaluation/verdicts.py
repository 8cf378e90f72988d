"""The arrays of `predictions.npz` in; thresholds, and how often each verdict is right, out."""

from typing import Any

import numpy as np

from fashion_cnn.evaluation.calibration import (
    SURE,
    apply_temperature,
    fit_temperature,
    fit_threshold,
    why_no_threshold,
)
from fashion_cnn.evaluation.prediction_sets import fit_prediction_sets, measure_prediction_sets
from fashion_cnn.evaluation.unknown import fit_unknown_below, why_no_unknown


def fit_thresholds(arrays: dict[str, np.ndarray], sure_accuracy: float = SURE) -> dict[str, Any]:
    """Temperature, thresholds and prediction sets from the validation images, if there are any.

    `sure_accuracy` is required of the predictions that are sure, 0..1.
    """
    labels = arrays.get("validation_labels", np.zeros(0, int))
    temperature = threshold = unknown_below = None
    prediction_sets: dict[str, float] = {}
    if len(labels):
        temperature = fit_temperature(arrays["validation_probabilities"], labels)
        calibrated = apply_temperature(arrays["validation_probabilities"], temperature)
        threshold = fit_threshold(calibrated, labels, sure_accuracy)
        prediction_sets = fit_prediction_sets(calibrated, labels)
    if "validation_similarity" in arrays:
        unknown_below = fit_unknown_below(arrays["validation_similarity"])
    clusters = int((arrays.get("cluster_classes", np.zeros(0)) >= 0).sum())  # of training images
    unknown_note = why_no_unknown(len(labels), clusters > 0)
    threshold_note = why_no_threshold(len(labels), sure_accuracy)
    return {
        "temperature": temperature,
        "threshold": threshold,
        "threshold_note": threshold_note if threshold is None else None,
        "sure_accuracy": sure_accuracy,
        "unknown_below": unknown_below,
        "unknown_note": unknown_note if unknown_below is None else None,
        "clusters": clusters,
        "prediction_sets": prediction_sets,
    }


def measure_verdicts(
    arrays: dict[str, np.ndarray], split: str, fitted: dict[str, Any]
) -> dict[str, Any]:
    """Measure the verdicts and prediction sets of a split by what `fit_thresholds` returned.

    Returns:
        `verdicts`: for `sure`, `unsure` and `unknown`, the `examples` and their `accuracy`; without
            a threshold `none` stands for the first two. `prediction_sets`: coverage -> the measured
            `coverage` and `mean_size`.
    """
    probabilities, labels = arrays[f"{split}_probabilities"], arrays[f"{split}_labels"]
    if fitted["temperature"] is not None:
        probabilities = apply_temperature(probabilities, fitted["temperature"])
    threshold, unknown_below = fitted["threshold"], fitted["unknown_below"]
    names = np.full(len(labels), "none", "<U7")
    if threshold is not None:
        names[:] = np.where(probabilities.max(1) >= threshold, "sure", "unsure")
    if unknown_below is not None:
        names[arrays[f"{split}_similarity"] < unknown_below] = "unknown"
    is_correct = probabilities.argmax(1) == labels
    verdicts = {}
    for name in ("none",) if threshold is None else ("sure", "unsure"):
        verdicts[name] = _count(is_correct[names == name])
    if unknown_below is not None:
        verdicts["unknown"] = _count(is_correct[names == "unknown"])
    sets = measure_prediction_sets(probabilities, labels, fitted["prediction_sets"])
    return {"verdicts": verdicts, "prediction_sets": sets}


def _count(is_correct: np.ndarray) -> dict[str, Any]:
    examples = len(is_correct)
    return {"examples": examples, "accuracy": float(is_correct.mean()) if examples else None}
