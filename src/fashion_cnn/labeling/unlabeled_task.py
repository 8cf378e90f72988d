"""Pictures without labels and a model in; the `Task` of deciding what they are out."""

import csv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fashion_cnn.console import print_message, printable, progress_bar
from fashion_cnn.data.pictures import find_pictures
from fashion_cnn.files import read_csv
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.inference.features import normalized, open_features
from fashion_cnn.inference.session import batch_size
from fashion_cnn.labeling.order import order_unlabeled
from fashion_cnn.labeling.task import Item, Task, most_probable

NEIGHBORS = 6  # pictures that are shown beside one
MAX_PICTURES = 5000  # the most doubtful ones of a folder of predictions


def unlabeled_task(source: Path, model: str, doubtful: bool = False) -> Task:
    """Make the task of pictures without labels; the model predicts them first.

    Args:
        source: a folder of pictures, a CSV file of `predict --unsure`, or a folder of
            `predict --output`.
        model: as `Classifier.load` takes it; its classes are those that can be chosen.
        doubtful: whether pictures that are sure are left out. Default: False.

    Raises:
        FileNotFoundError: there is no such source or model.
        ValueError: there are no readable pictures in it.
    """
    classifier = Classifier.load(model, bulk=True)
    paths = [str(Path(path).absolute()) for path in _find_paths(source)]
    paths = list(dict.fromkeys(paths))
    _refuse_class_folders(source, paths, classifier.card["class_names"])
    paths, probabilities, similarities, features = _predict(classifier, paths)
    if not paths:
        raise ValueError(f"{source}: no pictures that can be read")
    classes = tuple(map(str, classifier.card["class_names"]))
    verdicts = []
    for row, similarity in zip(probabilities, similarities, strict=True):
        verdicts.append(classifier.to_prediction(row, float(similarity)).verdict)
    order = order_unlabeled(probabilities, features)
    is_sure = np.array([verdict == "sure" for verdict in verdicts])
    order = np.concatenate([order[~is_sure[order]], order[is_sure[order]]])
    count = int((~is_sure).sum())
    index = {path: i for i, path in enumerate(paths)}
    vectors = normalized(features)

    def describe(name: str) -> Item:
        i = index[name]
        top = most_probable(classes, probabilities[i])
        similar = vectors @ vectors[i]
        similar[i] = -np.inf
        nearest = np.argsort(-similar, kind="stable")[:NEIGHBORS]
        nearest = nearest[similar[nearest] > -np.inf]
        neighbors = [(paths[j], f"{classes[probabilities[j].argmax()]}?") for j in nearest]
        reason = {
            "unknown": "It is unlike the pictures that the model learned from",
            "sure": "The model is sure",
        }.get(verdicts[i], f"The model is not sure: {top[0][0]} or {top[1][0]}")
        return Item(name, "", reason, top, tuple(neighbors))

    return Task(
        title=f"{source.resolve().name}: pictures without labels",
        source="",
        class_names=classes,
        names=[paths[i] for i in (order[:count] if doubtful else order)],
        doubtful=count,
        describe=describe,
        read=Path,
    )


def _find_paths(source: Path) -> list[str]:
    if source.is_dir():
        parts = sorted(source.glob("part-*.parquet"))
        return _doubtful_paths(parts) if parts else find_pictures([str(source)])
    try:
        rows = read_csv(source)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{source}: no such file; expected the folder of an audit or of pictures, or what "
            "predict wrote with --unsure or --output; `fashion-cnn audit` makes an audit"
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{source}: {error}; expected what predict --unsure writes") from None
    if rows and "path" not in rows[0]:
        raise ValueError(
            f"{source}: got the columns {', '.join(rows[0])[:100]}; expected what predict --unsure "
            "writes"
        )
    return [row["path"] for row in rows if not row.get("error")]


def _doubtful_paths(parts: Sequence[Path]) -> list[str]:
    """The pictures in the files of `predict --output` that are not sure, the least probable first.

    Where a model has no verdicts, all pictures.
    """
    import pyarrow.parquet as pq

    rows = []
    for part in parts:
        table = pq.read_table(part, columns=["path", "probability", "verdict", "error"])
        rows += [row for row in table.to_pylist() if not row["error"]]
    rows = [row for row in rows if row["verdict"] != "sure"]
    rows.sort(key=lambda row: row["probability"])
    if len(rows) > MAX_PICTURES:
        print_message(f"{len(rows):,} pictures are not sure; the {MAX_PICTURES:,} least probable")
    return [row["path"] for row in rows[:MAX_PICTURES]]


def _refuse_class_folders(source: Path, paths: Sequence[str], class_names: Sequence[str]) -> None:
    """Raise ValueError if pictures are in folders that are named like classes."""
    parents = {Path(path).parent.name for path in paths}
    if source.is_dir() and len(parents & set(class_names)) > 1:
        raise ValueError(
            f"{source}: its folders are named like classes, so its pictures have labels; to check "
            f"these: `fashion-cnn audit --data {source}`, and then `fashion-cnn label audit`"
        )


def _predict(
    classifier: Classifier, paths: Sequence[str]
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """The readable pictures; their probabilities, similarities and features."""
    outputs, size = open_features(classifier), batch_size(classifier.shape)

    def prepare(path: str) -> np.ndarray | None:
        try:
            if path != printable(path):
                raise ValueError("its name has control characters, or is not UTF-8")
            return classifier.prepare(path).pixels
        except (OSError, ValueError) as error:
            print_message(f"Left out: {printable(f'{path}: {error}')[:300]}")
            return None

    readable: list[str] = []
    columns: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    with progress_bar(len(paths)) as advance, ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), size):
            block, kept = paths[start : start + size], []
            for path, pixels in zip(block, pool.map(prepare, block), strict=True):
                advance("pictures")
                if pixels is not None:
                    readable.append(path)
                    kept.append(pixels)
            if kept:
                columns.append(outputs(np.stack(kept)))
    if not readable:
        return [], *np.zeros((3, 0))
    probabilities, similarities, features = (np.concatenate(x) for x in zip(*columns, strict=True))
    return readable, probabilities, similarities, features
