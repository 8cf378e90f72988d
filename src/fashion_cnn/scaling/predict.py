"""Very many pictures and a model in, a folder of Parquet files out: one row a picture.

The pictures are cut into parts by a plan that is written first. A part's answers are one file that
appears whole, written by this process alone: whoever dies, nothing is lost and nothing is doubled,
and the same command again goes on with the parts that are not there.
"""

import io
import itertools
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from fashion_cnn.answers import see_and_say
from fashion_cnn.inference import Classifier
from fashion_cnn.run import write_whole
from fashion_cnn.scaling.pictures import pictures_of, write_plan
from fashion_cnn.scaling.tasks import TRIES, tasks, work_off

PLAN = "_plan.parquet"  # readers of Parquet folders leave out what begins with _
BATCH = 64  # pictures at a time: what a process holds


def begin(words: list[str], classifier: Classifier, output: Path) -> tuple[list[int], int]:
    """Plan the answers for all pictures that words of the command line stand for.

    Args:
        words: folders, patterns, picture, Parquet and tar files, and addresses of such.
        classifier: who answers.
        output: a folder; with files of other answers in it, it is refused.

    Returns:
        The numbers of the parts that are not there yet, and how many parts there are in all.

    Raises:
        ValueError: no pictures, or `output` is of another task.
    """
    import pyarrow.parquet as pq

    plan, about = output / PLAN, {"model": classifier.sha256, "input": json.dumps(words)}
    if output.exists() and not plan.exists() and (output.is_file() or any(output.iterdir())):
        raise ValueError(f"{output}: something else is there; give --output another name")
    if plan.exists():
        _require_same(plan, about)
    else:
        output.mkdir(parents=True, exist_ok=True)
        write_plan(words, plan, about)
    with pq.ParquetFile(plan) as file:
        parts = file.num_row_groups
    return [i for i in range(parts) if not _path(output, i).exists()], parts


def answer_parts(
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
        The number of each part that is there now.

    Raises:
        RuntimeError: a part's process died again and again.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(output / PLAN) as file, tasks(address) as (submit, room):
        pieces = ((i, (file.read_row_group(i).to_pylist(), classifier.content)) for i in todo)
        for number, future in work_off(pieces, answers_of, submit, room):
            if isinstance(error := future.exception(), BrokenExecutor):
                first = file.read_row_group(number)["name"][0]
                raise RuntimeError(
                    f"part {number}, from {first} on: its process died {TRIES} times ({error})"
                )
            write_whole(_path(output, number), partial(_write, future.result()))
            yield number


def count(output: Path, parts: int) -> tuple[int, int]:
    """How many pictures there are in all parts, and how many of them could not be read."""
    import pyarrow.parquet as pq

    about = [pq.read_metadata(_path(output, i)) for i in range(parts)]
    return sum(x.num_rows for x in about), sum(int(x.metadata[b"errors"]) for x in about)


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _path(output: Path, number: int) -> Path:
    return output / f"part-{number:07d}.parquet"


def _require_same(plan: Path, about: dict[str, str]) -> None:
    import pyarrow.parquet as pq

    then = pq.read_schema(plan).metadata or {}
    for key, value in about.items():
        found = then.get(key.encode(), b"").decode()
        if found != value:
            raise ValueError(
                f"{plan.parent}: begun with another {key}, {found[:100]}, not {value[:100]}; give "
                "--output another name"
            )


def answers_of(part: list[dict[str, Any]], content: bytes) -> bytes:
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
    while batch := list(itertools.islice(pictures, BATCH)):
        rows = []
        for path, answer, error in see_and_say(classifier, batch):
            row: dict[str, Any] = {"path": path, "error": error or None}
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


@lru_cache(maxsize=1)  # a process answers many parts
def _classifier(content: bytes) -> Classifier:
    return Classifier(content, threads=1)  # parts go side by side
