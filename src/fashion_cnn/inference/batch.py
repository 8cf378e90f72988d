"""Very many pictures and a model in, a folder of Parquet files out: one row a picture.

The pictures are cut into parts by a plan that is written first. A part's answers are one file that
appears whole, written by this process alone: whoever dies, nothing is lost and nothing is doubled,
and the same command again goes on with the parts that are not there.
"""

import hashlib
import io
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from fashion_cnn.files import is_unused, lock_folder, write_atomically
from fashion_cnn.inference.batch_plan import PLAN, read_plan, write_plan
from fashion_cnn.inference.batch_sources import pictures_of
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.inference.output import predict_pictures
from fashion_cnn.parallel.pool import ATTEMPTS, Task, open_pool, run_tasks

BATCH = 64  # pictures at a time
SHORT = 1000  # characters of the command line that are kept as they are


@contextmanager
def begin(
    words: list[str], classifier: Classifier, output: Path
) -> Iterator[tuple[list[int], int]]:
    """Plan the answers for all pictures that words of the command line stand for.

    Args:
        words: folders, patterns, picture, Parquet and tar files, and addresses of such.
        classifier: who answers.
        output: a folder, kept to this process; with files of other answers in it, it is refused.

    Yields:
        The numbers of the parts that are not there yet, and how many parts there are in all.

    Raises:
        ValueError: no pictures, or `output` is of another task, or another process is at it.
    """
    import pyarrow.parquet as pq

    words = [word if "://" in word else os.path.abspath(word) for word in words]
    plan, about = output / PLAN, {"model": classifier.sha256, "input": _short(json.dumps(words))}
    if output.exists() and not plan.exists() and (output.is_file() or not is_unused(output)):
        raise ValueError(f"{output}: something else is there; give --output another name")
    output.mkdir(parents=True, exist_ok=True)
    with lock_folder(output):
        if plan.exists():
            _require_same_recipe(plan, about)
        else:
            write_plan(words, plan, about)
        with pq.ParquetFile(plan) as file:
            parts = int(file.metadata.metadata[b"parts"])
        there = {path.name for path in output.iterdir()}
        yield [i for i in range(parts) if _path(output, i).name not in there], parts


def _short(text: str) -> str:
    return text if len(text) < SHORT else "SHA-256 " + hashlib.sha256(text.encode()).hexdigest()


def predict_parts(
    todo: Iterable[int], classifier: Classifier, output: Path, address: str | None = None
) -> Iterator[int]:
    """Write the parts of a plan that `begin` has made.

    Args:
        todo: their numbers.
        classifier: who answers.
        output: the folder.
        address: of a Ray cluster, all of whose machines see the pictures by the same names; the
            cores of this machine without.

    Yields:
        The number of each part, when it is there, or cannot be had.

    Raises:
        RuntimeError: at the end, if there were parts that could not be had: a process died of them
            again and again, or a file was out of reach.
    """
    failed, why, plan = 0, "", output / PLAN
    with open_pool(address) as pool:
        tasks = (Task(i, (part, classifier.content)) for i, part in read_plan(plan, todo))
        for number, future in run_tasks(tasks, predict_part, pool):
            error = future.exception()
            if isinstance(error, BrokenExecutor | OSError):
                failed, why = failed + 1, why or _why(error, plan, number)
            else:
                write_atomically(_path(output, number), partial(_write, future.result()))
            yield number
    if failed:
        raise RuntimeError(
            f"{output}: {failed} parts are missing ({why}); the same command tries them again"
        )


def _why(error: BaseException, plan: Path, number: int) -> str:
    died = f"its process died {ATTEMPTS} times: " * isinstance(error, BrokenExecutor)
    ((_, part),) = read_plan(plan, [number])
    return f"part {number}, from {os.fsdecode(part[0]['name'])} on: {died}{error}"


def count(output: Path, parts: int) -> tuple[int, int]:
    """How many pictures there are in all parts, and how many of them could not be read."""
    import pyarrow.parquet as pq

    pictures = failed = 0
    for number in range(parts):
        about = pq.read_metadata(_path(output, number))
        pictures, failed = pictures + about.num_rows, failed + int(about.metadata[b"errors"])
    return pictures, failed


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _path(output: Path, number: int) -> Path:
    return output / f"part-{number:07d}.parquet"


def _require_same_recipe(plan: Path, about: dict[str, str]) -> None:
    import pyarrow.parquet as pq

    then = pq.read_schema(plan).metadata or {}
    for key, value in about.items():
        found = then.get(key.encode(), b"").decode()
        if found != value:
            raise ValueError(
                f"{plan.parent}: begun with another {key}, {found[:100]}, not {value[:100]}; give "
                "--output another name"
            )


def predict_part(part: list[dict[str, Any]], content: bytes) -> bytes:
    """A part's answers.

    Args:
        part: of a plan.
        content: of the model file.

    Returns:
        A Parquet file: path, label, probability, verdict, note, error, and all probabilities in
        the order of `class_names`, which the file's metadata has.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    classifier = _classifier(content)
    names = classifier.card["class_names"]
    text = [(x, pa.string()) for x in ("path", "label", "verdict", "note", "error")]
    numbers = [("probability", pa.float32()), ("probabilities", pa.list_(pa.float32()))]
    schema = pa.schema([text[0], text[1], numbers[0], *text[2:], numbers[1]])
    answered, errors = [], 0
    pictures = pictures_of(part)
    while batch := predict_pictures(classifier, itertools.islice(pictures, BATCH)):
        rows = []
        for path, answer, error in batch:
            row: dict[str, Any] = {"path": _text(path), "error": _text(error) or None}
            if answer:
                row |= {"label": answer.label, "verdict": answer.verdict or None}
                row["note"] = answer.note or None
                row["probability"] = answer.probability
                row["probabilities"] = [answer.probabilities[name] for name in names]
            rows.append(row)
        answered.append(pa.Table.from_pylist(rows, schema))
        errors += sum(row["error"] is not None for row in rows)
    about = {"model": classifier.sha256, "class_names": json.dumps(names), "errors": str(errors)}
    table = pa.concat_tables(answered or [schema.empty_table()])
    file = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(about), file)
    return file.getvalue()


def _text(name: str) -> str:
    """A file's name may hold bytes that are no text."""
    return name.encode("utf-8", "backslashreplace").decode()


@lru_cache(maxsize=1)  # a process answers many parts
def _classifier(content: bytes) -> Classifier:
    return Classifier(content, threads=1)  # parts go side by side
