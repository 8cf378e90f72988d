"""Paths in; what a classifier says of each, line by line, as text for people or for programs."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from fashion_cnn.data.photo import PreparedImage
from fashion_cnn.data.pictures import Picture
from fashion_cnn.inference.classifier import Classifier, Prediction

_HEAD = ("path", "rank", "label", "probability", "verdict", "note", "error")


def ask(
    classifier: Classifier, paths: list[str]
) -> Iterator[tuple[str, PreparedImage | None, Prediction | None, str]]:
    """Read each picture and answer: its path, what was seen, the answer, and why there is none."""
    for path in paths:
        try:
            seen = classifier.prepare(path)
            yield path, seen, classifier.predict_prepared([seen])[0], ""
        except (OSError, ValueError) as error:
            yield path, None, None, str(error).removeprefix(f"{path}: ")


def predict_pictures(
    classifier: Classifier, pictures: Iterable[tuple[str, Picture | Exception]]
) -> list[tuple[str, Prediction | None, str]]:
    """Predict several pictures at once: each one's name, prediction, and error if it has none.

    Args:
        classifier: who answers.
        pictures: names, and what `Classifier.prepare` takes, or the exception that prevented
            reading it. Only one is held in memory as it came.
    """
    seen: list[tuple[str, PreparedImage | str]] = []
    for name, picture in pictures:
        try:
            if isinstance(picture, Exception):
                raise picture
            seen.append((name, classifier.prepare(picture)))
        except (OSError, ValueError) as error:
            seen.append((name, str(error).removeprefix("picture: ").removeprefix(f"{name}: ")))
    answers = iter(
        classifier.predict_prepared([x for _, x in seen if isinstance(x, PreparedImage)])
    )
    return [
        (name, next(answers), "") if isinstance(found, PreparedImage) else (name, None, found)
        for name, found in seen
    ]


def print_head(form: str) -> None:
    """What stands above the answers."""
    if form == "csv":
        csv.writer(sys.stdout, lineterminator="\n").writerow(_HEAD)


def print_answer(path: str, answer: Prediction | None, error: str, top: int, form: str) -> None:
    """Print one picture's answer.

    Args:
        path: of the picture.
        answer: None where it could not be read.
        error: why not.
        top: how many classes.
        form: `table`, `jsonl` or `csv`.
    """
    best = list(answer.probabilities.items())[:top] if answer else []
    verdict, note = (answer.verdict, answer.note) if answer else ("", "")
    if form == "jsonl":
        row: dict[str, Any] = {"path": path}
        if answer:
            row |= {"label": answer.label, "probability": _round(answer.probability)}
            row |= {"verdict": verdict} | ({"note": note} if note else {})
            row["top"] = [{"label": name, "probability": _round(share)} for name, share in best]
        print(json.dumps(row if answer else row | {"error": error}), flush=True)
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        if not answer:
            writer.writerow([path, *[""] * 5, error])
        for k, (name, share) in enumerate(best):
            writer.writerow(
                [path, k + 1, name, _round(share), *([verdict, note] if k == 0 else ["", ""]), ""]
            )
    elif answer is None:
        print(f"{path:<32}  {error}")
    else:
        for k, (name, share) in enumerate(best):
            told = f"{verdict}: {note}" if note else verdict
            shown, told = (path, told) if k == 0 else ("", "")
            print(f"{shown:<32}  {name:<14}{share:>8.2%}  {told}".rstrip())


def review_row(path: str, answer: Prediction | None, error: str) -> dict[str, Any]:
    """A picture's row for the list of those that somebody should look at."""
    if answer is None:
        return {"path": path, "error": error}
    probability = _round(answer.probability)
    return {
        "path": path,
        "label": answer.label,
        "probability": probability,
        "verdict": answer.verdict,
    }


def _round(probability: float) -> float:
    return round(probability, 6)
