"""A classifier and pictures in; for each a prediction, or the error why there is none, out."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fashion_cnn.data.photo import PreparedImage
from fashion_cnn.data.pictures import Picture
from fashion_cnn.inference.classifier import Classifier, Prediction


class PictureResult(NamedTuple):
    """A picture's name, the network's input and the prediction, or else why there is none."""

    name: str
    prepared: PreparedImage | None
    prediction: Prediction | None
    error: str


def predict_pictures(
    classifier: Classifier, pictures: Iterable[tuple[str, Picture | Exception]]
) -> list[PictureResult]:
    """Predict several pictures as one batch.

    Args:
        classifier: the model.
        pictures: names, and what `Classifier.prepare` takes, or the exception that prevented
            reading it. Only one is held in memory before it is prepared.
    """
    names: list[str] = []
    errors: dict[int, str] = {}
    prepared: dict[int, PreparedImage] = {}
    for k, (name, picture) in enumerate(pictures):
        names.append(name)
        try:
            if isinstance(picture, Exception):
                raise picture
            prepared[k] = classifier.prepare(picture)
        except (OSError, ValueError) as error:
            errors[k] = str(error).removeprefix("picture: ").removeprefix(f"{name}: ")
    predictions = classifier.predict_prepared(list(prepared.values()))
    by_index = dict(zip(prepared, predictions, strict=True))
    return [
        PictureResult(name, prepared.get(k), by_index.get(k), errors.get(k, ""))
        for k, name in enumerate(names)
    ]


def predict_paths(classifier: Classifier, paths: Iterable[str]) -> Iterator[PictureResult]:
    """Predict the pictures at paths one by one, each as soon as it has been read."""
    for path in paths:
        yield from predict_pictures(classifier, [(path, path)])
