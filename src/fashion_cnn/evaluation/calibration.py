"""How well probabilities match accuracy: probabilities and labels in, calibration metrics out."""

import numpy as np

SURE = 0.99  # accuracy required of the predictions that are reported as sure
_TINY = np.finfo(np.float32).tiny


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy: -log of the true class's probability, in nats."""
    # not scikit-learn's, which clips at another value
    of_true_class = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(of_true_class, _TINY)).mean())


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean squared distance of the probabilities from the one-hot labels, 0..2 (Brier, 1950)."""
    one_hot = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - one_hot) ** 2).sum(1).mean())


def reliability(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = 15
) -> dict[str, np.ndarray]:
    """Predictions grouped into `bins` equally wide bins of their confidence.

    Returns:
        `count`, `confidence` (mean probability of the predicted class) and `accuracy`, each
        (bins,); the last two are NaN in an empty bin.
    """
    confidence = probabilities.max(1).astype(np.float64)
    correct = probabilities.argmax(1) == labels
    bin_index = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(bin_index, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(bin_index, confidence, minlength=bins) / count
        accuracy = np.bincount(bin_index, correct, minlength=bins) / count
    return {"count": count, "confidence": mean_confidence, "accuracy": accuracy}


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error (arXiv:1706.04599), 0..1: mean |confidence - accuracy|."""
    table = reliability(probabilities, labels)
    gaps = np.abs(table["confidence"] - table["accuracy"])
    return float(np.nansum(gaps * table["count"]) / len(labels))


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Temperature scaling (arXiv:1706.04599) of probabilities; predicted classes stay the same.

    Equals softmax(logits / temperature) for a network that ends in a softmax, but needs no logits,
    so it also applies to an average of several networks. A temperature above 1 lowers the
    confidence. Float (n, classes) -> float32 (n, classes).
    """
    logits = np.log(np.maximum(probabilities, _TINY), dtype=np.float64) / temperature
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature, 0.05..20, with the lowest log loss on these images (arXiv:1706.04599).

    1 if all predictions are correct or all are wrong, which has no minimum.
    """
    if len(set(probabilities.argmax(1) == labels)) == 1:
        return 1.0
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return log_loss(apply_temperature(probabilities, np.exp(log_temperature)), labels)

    result = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(np.exp(result.x)) if result.fun <= loss(0.0) else 1.0


def fit_threshold(probabilities: np.ndarray, labels: np.ndarray, accuracy: float = SURE) -> float:
    """The lowest confidence, 0..1, at or above which predictions have this accuracy; 1 if none.

    The temperature is already applied to `probabilities`.
    """
    confidence = probabilities.max(1)
    order = np.argsort(-confidence, kind="stable")
    correct = (probabilities.argmax(1) == labels)[order]
    reached = np.flatnonzero(correct.cumsum() >= accuracy * np.arange(1, len(correct) + 1))
    return float(confidence[order][reached[-1]]) if len(reached) else 1.0
