"""Finished runs as rows of a CSV file: what is there need not run again."""

import csv
import sys
from pathlib import Path


def finished_rows(path: Path) -> list[dict[str, str]]:
    """The rows of `path`, none if there is no such file."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def keep(path: Path, row: dict[str, object]) -> None:
    """Add a row; the first one brings the header. Shows it on standard error."""
    rows = finished_rows(path)
    columns = list(rows[0]) if rows else list(row)
    if columns != list(row):
        raise ValueError(
            f"{path}: has the columns {columns}, the new row {list(row)}; move it away"
        )
    with open(path, "a" if rows else "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if not rows:
            writer.writeheader()
        writer.writerow(row)
    print(row, file=sys.stderr, flush=True)
