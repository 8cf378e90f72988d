"""`Prediction`: what a classifier says about one picture."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Prediction:
    """What a classifier predicts for one picture.

    Attributes:
        label: the most probable class.
        probability: of that class, 0..1, at the model's fitted temperature.
        probabilities: class name -> probability, most probable first.
        sure: whether the probability reaches the model's threshold, the picture is not unknown and
            there is no note; None if the model has no threshold.
        note: a warning about the photo, such as that no garment was found; usually empty.
        similarity: to the training images of that class, -2..1; None if the model measures none.
        unknown: whether the similarity is too low for a picture of any of the classes; None if the
            model has no limit of it.
    """

    label: str
    probability: float
    probabilities: dict[str, float]
    sure: bool | None
    note: str = ""
    similarity: float | None = None
    unknown: bool | None = None

    @property
    def verdict(self) -> str:
        """`sure`, `unsure` or `unknown`; an empty string if the model has no thresholds."""
        return verdict_name(self.sure, self.unknown)


def verdict_name(sure: bool | None, unknown: bool | None) -> str:
    """`sure`, `unsure` or `unknown`; empty without thresholds."""
    if unknown:
        return "unknown"
    return {True: "sure", False: "unsure", None: ""}[sure]
