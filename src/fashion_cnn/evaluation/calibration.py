"""How well probabilities match accuracy: probabilities and labels in, calibration metrics out."""

import math

import numpy as np

SURE = 0.99  # accuracy required of the predictions that are reported as sure
CONFIDENCE = 0.95  # with which the validation images must show that accuracy
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


def fit_threshold(
    probabilities: np.ndarray, labels: np.ndarray, accuracy: float = SURE
) -> float | None:
    """The lowest confidence, 0..1, at or above which predictions are shown to have this accuracy.

    Shown with 95 % confidence, by `proportion_lower_bound`. None if there is no such confidence.
    The temperature is already applied to `probabilities`.
    """
    order = np.argsort(-probabilities.max(1), kind="stable")
    confidence, count = probabilities.max(1)[order], np.arange(1, len(order) + 1)
    correct = (probabilities.argmax(1) == labels)[order].cumsum()
    lower_bound = proportion_lower_bound(correct, count)
    is_last_of_equals = np.append(confidence[1:] < confidence[:-1], True)
    reached = np.flatnonzero((lower_bound >= accuracy) & is_last_of_equals)
    return float(confidence[reached[-1]]) if len(reached) else None


def proportion_lower_bound(successes: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """The lower bound of a proportion, one-sided, at `CONFIDENCE` (Clopper and Pearson, 1934).

    NaN where there is no success.
    """
    from scipy.stats import beta

    return beta.ppf(1 - CONFIDENCE, successes, trials - successes + 1)


def why_no_threshold(images: int, accuracy: float = SURE) -> str:
    """Why `fit_threshold` returns None for this number of images, as a note for people."""
    claim = f"that {100 * accuracy:g} % of the sure predictions are correct"
    return why_not_shown(images, accuracy, claim)


def why_not_shown(images: int, proportion: float, claim: str) -> str:
    """Why this number of images does not show, by `proportion_lower_bound`, what a claim says."""
    claim += f", with {100 * CONFIDENCE:g} % confidence"
    at_least = math.ceil(math.log(1 - CONFIDENCE) / math.log(proportion))  # all of them successes
    if images < at_least:
        return f"{images} validation images; at least {at_least} are needed to show {claim}"
    return f"the {images:,} validation images do not show {claim}"
