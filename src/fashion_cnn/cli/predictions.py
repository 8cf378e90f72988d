"""Predictions in; lines on standard output out, as a table, JSON Lines or CSV."""

import csv
import json
import sys
from typing import Any

from fashion_cnn.inference.classifier import Prediction

_COLUMNS = ("path", "rank", "label", "probability", "verdict", "note", "error")


def print_header(output_format: str) -> None:
    """Print what precedes the predictions: the column names of CSV."""
    if output_format == "csv":
        _write_csv_row(*_COLUMNS)


def print_prediction(
    path: str, prediction: Prediction | None, error: str, top: int, output_format: str
) -> None:
    """Print one picture's prediction.

    Args:
        path: of the picture.
        prediction: None if the picture could not be read.
        error: why it could not be read.
        top: how many classes to print.
        output_format: `table`, `jsonl` or `csv`.
    """
    printers = {"table": _print_table, "jsonl": _print_jsonl, "csv": _print_csv}
    printers[output_format](path, prediction, error, top)


def review_row(path: str, prediction: Prediction | None, error: str) -> dict[str, Any]:
    """A picture's row in the list of those that a person should check."""
    if prediction is None:
        return {"path": path, "error": error}
    return {
        "path": path,
        "label": prediction.label,
        "probability": _round(prediction.probability),
        "verdict": prediction.verdict,
    }


def _print_table(path: str, prediction: Prediction | None, error: str, top: int) -> None:
    if prediction is None:
        print(f"{path:<32}  {error}")
        return
    remark = ": ".join(filter(None, (prediction.verdict, prediction.note)))
    for label, probability in list(prediction.probabilities.items())[:top]:
        print(f"{path:<32}  {label:<14}{probability:>8.2%}  {remark}".rstrip())
        path = remark = ""  # only on the first line


def _print_jsonl(path: str, prediction: Prediction | None, error: str, top: int) -> None:
    row: dict[str, Any] = {"path": path}
    if prediction is None:
        row["error"] = error
    else:
        row["label"], row["probability"] = prediction.label, _round(prediction.probability)
        row["verdict"] = prediction.verdict
        if prediction.note:
            row["note"] = prediction.note
        row["top"] = [
            {"label": label, "probability": _round(probability)}
            for label, probability in list(prediction.probabilities.items())[:top]
        ]
    print(json.dumps(row), flush=True)


def _print_csv(path: str, prediction: Prediction | None, error: str, top: int) -> None:
    if prediction is None:
        _write_csv_row(path, "", "", "", "", "", error)
        return
    verdict, note = prediction.verdict, prediction.note
    for k, (label, probability) in enumerate(list(prediction.probabilities.items())[:top]):
        _write_csv_row(path, k + 1, label, _round(probability), verdict, note, "")
        verdict = note = ""  # only in the first row


def _write_csv_row(*cells: str | int | float) -> None:
    csv.writer(sys.stdout, lineterminator="\n").writerow(cells)


def _round(probability: float) -> float:
    return round(probability, 6)
