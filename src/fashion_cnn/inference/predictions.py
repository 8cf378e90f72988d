"""A classifier and pictures in; for each a prediction, or the error why there is none, out."""

import io
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from fashion_cnn.data.photo import PreparedImage
from fashion_cnn.data.pictures import Picture
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.inference.prediction import Prediction


class PictureResult(NamedTuple):
    """A picture's name, the network's input and the prediction, or else why there is none.

    Both texts can be written as UTF-8: bytes of a file name that are no text are escaped.
    """

    name: str
    prepared: PreparedImage | None = None
    prediction: Prediction | None = None
    error: str = ""


def predict_pictures(
    classifier: Classifier, pictures: Iterable[tuple[str, Picture | Exception]]
) -> list[PictureResult]:
    """Predict named pictures as one batch; an exception in place of one prevented reading it."""
    results: list[PictureResult] = []
    for name, picture in pictures:  # only one is held in memory before it is prepared
        try:
            if isinstance(picture, Exception):
                raise picture
            results.append(PictureResult(_to_text(name), classifier.prepare(picture)))
        except (OSError, ValueError) as error:
            message = str(error).removeprefix("picture: ").removeprefix(f"{name}: ")
            results.append(PictureResult(_to_text(name), error=_to_text(message)))
    predictions = iter(classifier.predict_prepared([x.prepared for x in results if x.prepared]))
    return [x._replace(prediction=next(predictions)) if x.prepared else x for x in results]


def predict_paths(
    classifier: Classifier, paths: Iterable[str], piped: Mapping[str, bytes] | None = None
) -> Iterator[PictureResult]:
    """Predict the pictures at paths, or with the content in `piped`, one by one as each is read."""
    for path in paths:
        content = (piped or {}).get(path)
        picture = path if content is None else io.BytesIO(content)
        yield from predict_pictures(classifier, [(path, picture)])


def _to_text(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()
