"""Benchmark results: finished runs as rows of a CSV file, statistics, and Markdown tables."""

import csv
import importlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path

Row = dict[str, str]
KERAS = ("keras", "tensorflow-cpu", "tensorflow")  # packages, of which those installed are named


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a CSV file. A missing file has none."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append_row(path: Path, row: Mapping[str, object]) -> None:
    """Append a row, with a header if it is the first, and print it to standard error."""
    rows = read_rows(path)
    columns = list(rows[0]) if rows else list(row)
    if columns != list(row):
        raise ValueError(f"{path}: got the columns {list(row)}; expected {columns}; move it away")
    with open(path, "a" if rows else "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if not rows:
            writer.writeheader()
        writer.writerow(row)
    print(row, file=sys.stderr, flush=True)


def select(rows: Iterable[Row], **values: object) -> list[Row]:
    """Return the rows that have these values, which are compared as text."""
    return [row for row in rows if all(row[name] == str(x) for name, x in values.items())]


def is_finished(path: Path, **values: object) -> bool:
    """Return whether a row with these values exists, so that its run can be skipped."""
    return bool(select(read_rows(path), **values))


def run_missing(
    path: Path, keys: Iterable[dict[str, object]], run: Callable[..., dict[str, object]]
) -> list[Row]:
    """Append a row for each key that has none: the key and what `run(**key)` returns."""
    for key in keys:
        if not is_finished(path, **key):
            append_row(path, key | run(**key))
    return read_rows(path)


def machine_columns(packages: Iterable[str] = KERAS) -> dict[str, object]:
    """Return columns for a row: the processor, its cores, and the versions of packages."""
    from fashion_cnn.machine import cpu_facts, environment

    machine = environment("tensorflow")
    versions = [f"Python {platform.python_version()}"]
    for name in packages:
        with suppress(metadata.PackageNotFoundError):
            versions.append(f"{name} {metadata.version(name)}")
    processor, facts = machine["processor"], cpu_facts()
    if "cpu family" in facts:  # the generation, which not every name tells
        processor += f" (family {facts['cpu family']}, model {facts['model']})"
    columns = {"processor": processor, "cores": machine["cores"]}
    return columns | {"versions": ", ".join(versions)}


def describe_machine(row: Row) -> str:
    """Format the columns of `machine_columns`."""
    return f"{row['cores']} cores of {row['processor']}, {row['versions']}"


def numbers(rows: Iterable[Row], column: str, scale: float = 1.0) -> list[float]:
    """Return the numbers of a column, each times `scale`."""
    return [scale * float(row[column]) for row in rows]


def ratios(runs: Iterable[Row], others: Iterable[Row], column: str, by: str) -> list[float]:
    """Return the values of a column divided by those of the other rows with the same `by`."""
    values = {row[by]: float(row[column]) for row in others}
    return [float(row[column]) / values[row[by]] for row in runs if row[by] in values]


def mean_sd(rows: Iterable[Row], column: str, scale: float = 1.0, decimals: int = 2) -> str:
    """Format the mean and, of two rows or more, the sample standard deviation of a column."""
    values = numbers(rows, column, scale)
    mean = f"{round(statistics.mean(values), 6):.{decimals}f}"  # 95.575 is 95.58
    return f"{mean} ± {statistics.stdev(values):.{decimals}f}" if len(values) > 1 else mean


def median(rows: Iterable[Row], column: str, decimals: int = 2) -> str:
    """Format the median of a column, which is empty if there are no rows."""
    values = numbers(rows, column)
    return f"{statistics.median(values):,.{decimals}f}" if values else ""


def median_quartiles(values: Sequence[float], decimals: int = 2) -> str:
    """Format the median and, of two values or more, the quartiles."""
    middle = f"{statistics.median(values):,.{decimals}f}"
    if len(values) < 2:
        return middle
    low, _, high = statistics.quantiles(values, n=4)
    return f"{middle} ({low:,.{decimals}f} to {high:,.{decimals}f})"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Format rows of cells as a Markdown table, in which `1 ± 2` is not broken into lines."""
    lines = [header, ["---"] * len(header), *rows]
    text = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
    return text.replace(" ± ", "\u00a0±\u00a0")


def tables_of(benchmark: str) -> str:
    """Return the Markdown tables of a benchmark, made from its rows, with blank lines around."""
    module = importlib.import_module(benchmark)
    rows = read_rows(module.ROWS)
    tables = module.tables(rows) if hasattr(module, "tables") else [module.table(rows)]
    return "\n" + "\n\n".join(tables) + "\n"


def time_call(call: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def median_seconds(call: Callable[[], object], repeats: int) -> float:
    """Return the median seconds of a call after one call to warm up."""
    call()
    return statistics.median(time_call(call) for _ in range(repeats))


_MEASURE = """
import os, subprocess, sys, time
start, silent = time.perf_counter(), subprocess.DEVNULL
with subprocess.Popen(sys.argv[1:], stdout=silent, stderr=silent) as process:
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
print(time.perf_counter() - start, usage.ru_maxrss, process.returncode)
"""


def run_command(call: Sequence[str], environment: Mapping[str, str]) -> tuple[float, int]:
    """Run a command without its output; return its seconds and its peak memory in bytes.

    A small process starts it: the system counts the memory of whoever starts a process as its own.
    """
    starter = [sys.executable, "-c", _MEASURE, *call]
    result = subprocess.run(starter, env=environment, capture_output=True, text=True, check=True)
    seconds, peak, status = result.stdout.split()
    if status != "0":
        raise SystemExit(f"{' '.join(call)}: exit status {status}")
    return float(seconds), int(peak) * (1 if sys.platform == "darwin" else 1024)
