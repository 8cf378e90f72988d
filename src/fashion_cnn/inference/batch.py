"""Many pictures and a model in; a folder of Parquet files with one row a picture out.

A plan, written first, divides the pictures into parts; each gives one file, which this process
writes atomically. If any process dies, the same command continues with the missing parts.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fashion_cnn.files import (
    lock_folder,
    require_same_task,
    require_unused,
    write_atomically,
)
from fashion_cnn.inference.batch_plan import PLAN, read_plan, write_plan
from fashion_cnn.inference.batch_sources import read_pictures
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.inference.predictions import PictureResult, predict_pictures
from fashion_cnn.parallel.pool import ATTEMPTS, Task, open_pool, run_tasks

BATCH = 64  # pictures
MAX_INPUT_CHARACTERS = 1000  # of the command line's words; of longer ones the SHA-256 is stored


@contextmanager
def open_batch(
    words: list[str], classifier: Classifier, output: Path
) -> Iterator[tuple[list[int], int]]:
    """Lock `output` and plan, or continue, there; the missing parts, and how many there are."""
    words = [word if "://" in word else os.path.abspath(word) for word in words]
    plan, text = output / PLAN, json.dumps(words)
    if len(text) >= MAX_INPUT_CHARACTERS:
        text = "SHA-256 " + hashlib.sha256(text.encode()).hexdigest()
    metadata = {"model": classifier.sha256, "input": text}
    metadata["runtime and precision"] = ", ".join(classifier.requested)
    if not plan.exists():
        require_unused(output)
    output.mkdir(parents=True, exist_ok=True)
    with lock_folder(output):
        if plan.exists():
            planned = pq.read_schema(plan).metadata or {}
            recorded = {key.decode(): value.decode() for key, value in planned.items()}
            require_same_task(output, recorded, metadata)
        else:
            write_plan(words, plan, metadata)
        with pq.ParquetFile(plan) as file:
            count = int(file.metadata.metadata[b"parts"])
        written = {path.name for path in output.iterdir()}
        yield [i for i in range(count) if _part_path(output, i).name not in written], count


def predict_parts(
    numbers: Iterable[int], classifier: Classifier, output: Path, address: str | None = None
) -> Iterator[int]:
    """Predict and write parts, here or on a Ray cluster; the number of each that is over."""
    failed, reason, plan = 0, "", output / PLAN
    with open_pool(address) as pool:
        settings = (classifier.content, *classifier.requested)
        tasks = (Task(n, (part, *settings)) for n, part in read_plan(plan, numbers))
        for number, future in run_tasks(tasks, predict_part, pool):
            error = future.exception()
            if isinstance(error, BrokenExecutor | OSError):
                failed, reason = failed + 1, reason or _reason(error, plan, number)
            else:
                _write_part(output, number, future.result())
            yield number
    if failed:
        raise RuntimeError(
            f"{output}: {failed} parts are missing ({reason}); the same command tries them again"
        )


def _reason(error: BaseException, plan: Path, number: int) -> str:
    died = f"its process died {ATTEMPTS} times: " * isinstance(error, BrokenExecutor)
    ((_, part),) = read_plan(plan, [number])
    return f"part {number}, which starts with {os.fsdecode(part[0]['name'])}: {died}{error}"


def count_pictures(output: Path, parts: int) -> tuple[int, int, set[str]]:
    """The number of pictures in all parts, how many could not be read, and the runtimes."""
    pictures, failed, runtimes = 0, 0, set()
    for number in range(parts):
        metadata = pq.read_metadata(_part_path(output, number))
        pictures += metadata.num_rows
        failed += int(metadata.metadata[b"errors"])
        runtimes.add(metadata.metadata[b"runtime"].decode())
    return pictures, failed, runtimes


def _write_part(output: Path, number: int, content: bytes) -> None:
    write_atomically(_part_path(output, number), lambda path: path.write_bytes(content))


def _part_path(output: Path, number: int) -> Path:
    return output / f"part-{number:07d}.parquet"


def predict_part(
    part: list[dict[str, Any]], content: bytes, runtime: str = "auto", precision: str = "auto"
) -> bytes:
    """The bytes of the Parquet file of a part, by the model with the bytes `content`."""
    classifier = _load_classifier(content, runtime, precision)
    class_names = classifier.card["class_names"]
    text, number = pa.string(), pa.float32()
    columns = [("path", text), ("label", text), ("probability", number), ("verdict", text)]
    columns += [("similarity", number), ("note", text), ("error", text)]
    columns.append(("probabilities", pa.list_(number)))
    schema = pa.schema(columns)  # probabilities are in the order of `class_names` in the metadata
    tables, errors, pictures = [schema.empty_table()], 0, read_pictures(part)
    while results := predict_pictures(classifier, islice(pictures, BATCH)):
        rows = [_to_row(result, class_names) for result in results]
        tables.append(pa.Table.from_pylist(rows, schema))
        errors += sum(row["error"] is not None for row in rows)
    metadata = {"model": classifier.sha256, "errors": str(errors), "runtime": classifier.runtime}
    metadata["class_names"] = json.dumps(class_names)
    file = io.BytesIO()
    pq.write_table(pa.concat_tables(tables).replace_schema_metadata(metadata), file)
    return file.getvalue()


def _to_row(result: PictureResult, class_names: list[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"path": result.name, "error": result.error or None}
    if prediction := result.prediction:
        row["label"], row["probability"] = prediction.label, prediction.probability
        row["similarity"] = prediction.similarity
        row["verdict"], row["note"] = prediction.verdict or None, prediction.note or None
        row["probabilities"] = [prediction.probabilities[name] for name in class_names]
    return row


@lru_cache(maxsize=1)  # a process predicts many parts
def _load_classifier(content: bytes, runtime: str, precision: str) -> Classifier:
    # one thread, because parts run side by side
    return Classifier(content, "model", 1, runtime, precision, bulk=True)
