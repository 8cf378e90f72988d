"""Predictions of a Keras model and of its export in; how close they are, for the card, out."""

from collections.abc import Callable
from typing import Any

import numpy as np

COMPARED_IMAGES = 1000  # of the test images
TOLERANCE = 1e-4  # of a probability
ACCURACY_TOLERANCE = 0.003
BATCH = 250  # small images

Predict = Callable[[Any], Any]  # uint8 (n, height, width, channels) -> float32 (n, classes)


def compare_probabilities(
    keras_model: Predict, exported: Predict, images: Any, labels: Any
) -> dict[str, Any]:
    """Compare the probabilities and classes of the first `COMPARED_IMAGES` test images."""
    images = images[:COMPARED_IMAGES]
    actual, expected = _predict_in_batches(exported, images), keras_model(images)
    difference = float(np.abs(actual - expected).max())
    same_classes = bool((actual.argmax(1) == expected.argmax(1)).all())
    if not difference <= TOLERANCE or not same_classes:
        raise ValueError(
            f"its probabilities differ by up to {difference:.2g} from the Keras model's; expected "
            f"at most {TOLERANCE} and the same classes"
        )
    return {
        "images": len(images),
        "largest_difference": difference,
        "same_predictions": same_classes,
    }


def compare_accuracy(
    keras_model: Predict, exported: Predict, images: Any, labels: Any
) -> dict[str, Any]:
    """Compare the accuracy on all test images, for formats that round to 8-bit integers."""
    expected, actual = (
        float((_predict_in_batches(predict, images).argmax(1) == labels).mean())
        for predict in (keras_model, exported)
    )
    if abs(expected - actual) > ACCURACY_TOLERANCE:
        raise ValueError(
            f"its accuracy is {actual:.2%}, the Keras model's {expected:.2%}; expected a "
            f"difference of at most {ACCURACY_TOLERANCE:.1%}"
        )
    return {"images": len(labels), "accuracy": actual, "accuracy_of_keras": expected}


def _predict_in_batches(predict: Predict, images: Any) -> Any:
    from fashion_cnn.models.forward import inference_batch_size

    batch = min(BATCH, inference_batch_size(images.shape[1:]))
    starts = range(0, len(images), batch)
    return np.concatenate([predict(images[start : start + batch]) for start in starts])
