"""How far a probability can be taken at its word: probabilities and labels in, figures out."""

import numpy as np

BINS = 15
SURE = 0.99  # of the answers that are called sure, so many shall be right
_TINY = np.finfo(np.float32).tiny


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log of the true class's probability, in nats."""
    of_truth = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(of_truth, _TINY)).mean())


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean over images of the squared distance to the truth, 0..2 (Brier, 1950)."""
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - truth) ** 2).sum(1).mean())


def reliability(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS
) -> dict[str, np.ndarray]:
    """Answers in `bins` equally wide bins of the probability they were given with.

    Args:
        probabilities: float (n, classes).
        labels: integers (n,).
        bins: how many.

    Returns:
        `count`, `confidence` (mean probability of the answers) and `accuracy`, each (bins,); the
        last two are NaN in an empty bin.
    """
    confidence = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == labels
    where = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(where, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(where, x, minlength=bins) / count for x in (confidence, right)]
    return {"count": count, "confidence": means[0], "accuracy": means[1]}


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error (arXiv:1706.04599), 0..1: mean |confidence - accuracy|."""
    found = reliability(probabilities, labels, bins)
    gaps = np.abs(found["confidence"] - found["accuracy"])
    return float(np.nansum(gaps * found["count"]) / len(labels))


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The probabilities with the network's last scores divided by a temperature.

    The same answers, less sure above 1 and surer below. For a network that ends in one softmax
    this is that softmax of scores / temperature; it needs no scores, so it also fits a mean of
    several.

    Args:
        probabilities: float (n, classes).
        temperature: above 0.

    Returns:
        float32 (n, classes); each row adds up to 1.
    """
    scores = np.log(np.maximum(probabilities, _TINY), dtype=np.float64) / temperature
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the least log loss on these images (arXiv:1706.04599).

    Returns:
        0.05..20; 1 where the images cannot tell, being all answered right or all wrong.
    """
    if len(set(probabilities.argmax(1) == labels)) == 1:
        return 1.0
    from scipy.optimize import minimize_scalar

    def loss(logarithm: float) -> float:
        return log_loss(apply_temperature(probabilities, np.exp(logarithm)), labels)

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(np.exp(found.x)) if found.fun <= loss(0.0) else 1.0


def fit_threshold(probabilities: np.ndarray, labels: np.ndarray, accuracy: float = SURE) -> float:
    """The least probability from which on the share of right answers is `accuracy`.

    Args:
        probabilities: float (n, classes), as they will be given: at their temperature.
        labels: integers (n,).
        accuracy: 0..1.

    Returns:
        0..1; 1 where no answer is sure enough.
    """
    confidence = probabilities.max(1)
    order = np.argsort(-confidence, kind="stable")
    right = (probabilities.argmax(1) == labels)[order]
    enough = np.flatnonzero(right.cumsum() >= accuracy * np.arange(1, len(right) + 1))
    return float(confidence[order][enough[-1]]) if len(enough) else 1.0
