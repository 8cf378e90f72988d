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
    new = not path.exists()
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(row, file=sys.stderr, flush=True)
