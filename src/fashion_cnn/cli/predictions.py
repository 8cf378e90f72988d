"""Predictions in; lines on standard output out, as a table, JSON Lines or CSV."""

import csv
import json
import sys
from typing import Any

from fashion_cnn.console import printable
from fashion_cnn.inference.predictions import PictureResult

PATH_WIDTH = 32  # of the column in a table
Classes = list[tuple[str, float]]  # the most probable ones and their probabilities


def print_header(output_format: str) -> None:
    """Print what precedes the predictions: the column names of CSV."""
    if output_format == "csv":
        _write_csv_row("path", "rank", "label", "probability", "verdict", "note", "error")


def print_result(result: PictureResult, classes: Classes, output_format: str) -> None:
    """Print classes of a picture, most probable first, as `table`, `jsonl` or `csv`."""
    printers = {"table": _print_table, "jsonl": _print_jsonl, "csv": _print_csv}
    printers[output_format](result, classes)


def to_row(result: PictureResult) -> dict[str, Any]:
    """A picture's name, most probable class and note, if there is one; or the error."""
    if (prediction := result.prediction) is None:
        return {"path": result.name, "error": result.error}
    probability = round(prediction.probability, 6)
    row = {"path": result.name, "label": prediction.label, "probability": probability}
    row["verdict"] = prediction.verdict
    return row | ({"note": prediction.note} if prediction.note else {})


def _print_table(result: PictureResult, classes: Classes) -> None:
    path, prediction = printable(result.name), result.prediction
    if len(path) > PATH_WIDTH:  # on a line of its own, so that the columns stay below each other
        print(path)
        path = ""
    if prediction is None:
        print(f"{path:<{PATH_WIDTH}}  {printable(result.error)}")
        return
    remark = ": ".join(filter(None, (prediction.verdict, prediction.note)))
    for label, probability in classes:
        print(f"{path:<{PATH_WIDTH}}  {label:<15}{probability:>8.2%}  {remark}".rstrip())
        path = remark = ""  # only on the first line


def _print_jsonl(result: PictureResult, classes: Classes) -> None:
    row = to_row(result)
    if result.prediction:
        if result.prediction.similarity is not None:
            row["similarity"] = round(result.prediction.similarity, 6)
        row["top"] = [{"label": label, "probability": round(p, 6)} for label, p in classes]
    print(json.dumps(row), flush=True)


def _print_csv(result: PictureResult, classes: Classes) -> None:
    if result.prediction is None:
        _write_csv_row(result.name, "", "", "", "", "", result.error)
        return
    verdict, note = result.prediction.verdict, result.prediction.note
    for k, (label, probability) in enumerate(classes):
        _write_csv_row(result.name, k + 1, label, round(probability, 6), verdict, note, "")
        verdict = note = ""  # only in the first row


def _write_csv_row(*cells: str | int | float) -> None:
    csv.writer(sys.stdout, lineterminator="\n").writerow(cells)
