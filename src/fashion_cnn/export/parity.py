"""Predictions of a Keras model and of its export in; how close they are, for the card, out."""

from collections.abc import Callable
from typing import Any

import numpy as np

COMPARED_IMAGES = 1000  # of the test images
TOLERANCE = 1e-4  # of a probability

Predict = Callable[[Any], Any]  # uint8 (n, height, width, channels) -> float32 (n, classes)


def compare_probabilities(
    keras_model: Predict, exported: Predict, images: Any, labels: Any
) -> dict[str, Any]:
    """Compare the probabilities and classes of the first `COMPARED_IMAGES` test images."""
    images = images[:COMPARED_IMAGES]
    actual, expected = predict_in_batches(exported, images), keras_model(images)
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
    keras_model: Predict, exported: Predict, images: Any, labels: Any, tolerance: float = 0.003
) -> dict[str, Any]:
    """Compare the accuracy on all test images, for formats that round to 8-bit integers.

    A difference of `tolerance`, or of one image if that is more, is accepted.
    """
    expected, actual = (predict_in_batches(predict, images) for predict in (keras_model, exported))
    correct, correct_of_keras = (
        int((probabilities.argmax(1) == labels).sum()) for probabilities in (actual, expected)
    )
    accuracy, accuracy_of_keras = correct / len(labels), correct_of_keras / len(labels)
    if abs(correct - correct_of_keras) > max(1, tolerance * len(labels)):
        raise ValueError(
            f"its accuracy is {accuracy:.2%}, the Keras model's {accuracy_of_keras:.2%}; expected "
            f"a difference of at most {tolerance:.1%} or one image; use the format onnx"
        )
    return {
        "images": len(labels),
        "accuracy": accuracy,
        "accuracy_of_keras": accuracy_of_keras,
        "largest_difference": float(np.abs(actual - expected).max()),
    }


def predict_in_batches(predict: Predict, images: Any) -> Any:
    """The predictions for all images, as many at a time as fit into memory."""
    from fashion_cnn.models.forward import inference_batch_size

    batch = inference_batch_size(images.shape[1:])
    starts = range(0, len(images), batch)
    return np.concatenate([predict(images[start : start + batch]) for start in starts])
