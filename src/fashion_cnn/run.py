"""`Run`: one training and its folder. No other module knows the names of the files in it."""

import math
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from fashion_cnn import files
from fashion_cnn.console import resume_command

HISTORY_COLUMNS: tuple[str, ...] = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")
HISTORY_COLUMNS += ("learning_rate", "seconds")
_RECIPE, _ENVIRONMENT, _HISTORY = "recipe.json", "environment.json", "history.csv"
_KERAS, _METRICS, _PREDICTIONS = "model.keras", "metrics.json", "predictions.npz"
_ROBUSTNESS, _EXPLANATIONS = EXPLAINED = ("robustness.json", "explanations.npz")
STARTED = (_RECIPE, _ENVIRONMENT)  # files of a run that has not finished an epoch
_DECISIONS = "decisions.csv"
_SEARCH = ("task.json", "trials.csv")  # files of a hyperparameter search, which holds runs
TRAINED = (*STARTED, _HISTORY, _KERAS, "checkpoints/*.npz")
_ONNX = ("model.onnx", "model.onnx.json", "model.onnx.md")
RESULTS = (_KERAS, _METRICS, _PREDICTIONS, *EXPLAINED, *_ONNX, "report.html")


def holds_run(names: Iterable[str]) -> bool:
    """Whether a folder with files of these names is that of a run or of a search."""
    names = set(names)
    return names.issuperset(STARTED) or names.issuperset(_SEARCH)


class Run(os.PathLike[str]):
    """The folder of one training run.

    Attributes:
        folder: where its files are; it need not exist yet.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(os.path.expanduser(folder))

    def __fspath__(self) -> str:
        return str(self.folder)

    def __str__(self) -> str:
        return str(self.folder)

    @classmethod
    def create(cls, name: str, parent: Path = Path("runs")) -> "Run":
        """Make `parent/<name>-<n>` with the first free n, from 1."""
        parent.mkdir(parents=True, exist_ok=True)
        taken = [re.fullmatch(re.escape(name) + r"-(\d+)", p.name) for p in parent.iterdir()]
        n = 1 + max((int(match[1]) for match in taken if match), default=0)
        while True:
            try:
                (parent / f"{name}-{n}").mkdir()
                return cls(parent / f"{name}-{n}")
            except FileExistsError:  # another process was faster
                n += 1

    # State

    @property
    def is_unused(self) -> bool:
        """Whether the folder is empty, or holds only leftovers of a run killed at its start."""
        return files.is_unused(self.folder, (_ENVIRONMENT, _DECISIONS))

    @property
    def is_started(self) -> bool:
        """Whether there is a run to resume."""
        return self.recipe_path.is_file()

    @property
    def is_trained(self) -> bool:
        """Whether all epochs are done and the model is saved."""
        return self.keras_path.is_file()

    @property
    def is_measured(self) -> bool:
        """Whether the model has been evaluated."""
        return (self.folder / _METRICS).is_file()

    @property
    def is_explained(self) -> bool:
        """Whether robustness and explanations have been computed."""
        return all((self.folder / name).is_file() for name in EXPLAINED)

    @property
    def is_finished(self) -> bool:
        """Whether the run is complete: the checksums, which are written last, list the metrics.

        Raises:
            ValueError: the checksum file is damaged.
        """
        return _METRICS in self.read_checksums()

    def lock(self) -> AbstractContextManager[None]:
        """Keep the folder to this process; see `files.lock_folder`."""
        return files.lock_folder(self.folder)

    def require_space(self, size: int) -> None:
        """Raise OSError unless `size` more bytes fit on the disk of the folder."""
        free = shutil.disk_usage(self.folder).free
        if free < size:
            raise OSError(
                f"{self}: {free / 1e6:.0f} MB free; a run of this model needs {size / 1e6:.0f} MB: "
                "make room, or give another --run"
            )

    # Paths

    @property
    def recipe_path(self) -> Path:
        """`recipe.json`, which `train` takes to train in the same way again."""
        return self.folder / _RECIPE

    @property
    def decisions_path(self) -> Path:
        """The decisions about labels that it was trained with, if there were any."""
        return self.folder / _DECISIONS

    @property
    def keras_path(self) -> Path:
        """The trained Keras model; it is never rewritten."""
        return self.folder / _KERAS

    @property
    def onnx_path(self) -> Path:
        """The exported model, which `Classifier.load` reads."""
        return self.folder / "model.onnx"

    @property
    def report_path(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    @property
    def checkpoints(self) -> list[Path]:
        """The files of the checkpoints, oldest first."""
        return sorted((self.folder / "checkpoints").glob("epoch-*.npz"))

    def checkpoint_path(self, epoch: int) -> Path:
        """The checkpoint after `epoch`, counted from 1; makes the folder for it."""
        folder = self.folder / "checkpoints"
        folder.mkdir(exist_ok=True)
        return folder / f"epoch-{epoch:05d}.npz"

    def plot_path(self, name: str, kind: str = "png") -> Path:
        """A plot, as `png` or as `svg` in a folder of its own."""
        if kind == "png":
            return self.folder / f"{name}.png"
        (self.folder / "svg").mkdir(exist_ok=True)
        return self.folder / "svg" / f"{name}.svg"

    # Contents

    def recipe_values(self) -> Any:
        """What `recipe.json` holds; `recipe.read_recipe` makes a `Recipe` of it."""
        return self._read_json(_RECIPE)

    def write_recipe(self, text: str) -> None:
        """Write `recipe.json`."""
        files.write_text(self.recipe_path, text)

    def environment(self) -> dict[str, Any]:
        """What the run was trained on and with: machine, versions, data."""
        return self._read_json(_ENVIRONMENT)

    def write_environment(self, values: dict[str, Any]) -> None:
        """Write `environment.json`."""
        files.write_json(self.folder / _ENVIRONMENT, values)

    def data_source(self) -> dict[str, Any]:
        """The data it was trained on: `source`, `location`, `sha256` and `class_names`.

        Raises:
            FileNotFoundError: there is no run.
            ValueError: `environment.json` is damaged.
        """
        values = self.environment()
        data = values.get("data") if isinstance(values, dict) else None
        if not isinstance(data, dict) or not {"source", "sha256", "class_names"} <= data.keys():
            path = self.folder / _ENVIRONMENT
            raise ValueError(f"{path}: damaged (no data, or no class names in it)")
        return data

    def started_texts(self) -> dict[str, str]:
        """The texts of `recipe.json` and `environment.json`, which a checkpoint keeps as well."""
        return {name: (self.folder / name).read_text(encoding="utf-8") for name in STARTED}

    def restore_started_texts(self, texts: dict[str, str]) -> None:
        """Write back what `started_texts` returned, or one of them, and drop the checksums."""
        for name, text in texts.items():
            files.write_text(self.folder / name, text)
        self.remove(files.CHECKSUMS)

    def history(self) -> dict[str, list[float]]:
        """`history.csv` as column -> values, in the order of epochs."""
        path = self._existing(_HISTORY)
        try:
            rows = files.read_csv(path)
            return {key: [float(row[key] or "nan") for row in rows] for key in HISTORY_COLUMNS}
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path}: damaged ({error})") from None

    def write_history(self, rows: Sequence[dict[str, float]]) -> None:
        """Write one row an epoch, `HISTORY_COLUMNS`; NaN becomes an empty cell."""
        cells = [{key: "" if math.isnan(x) else x for key, x in row.items()} for row in rows]
        cells = [{**row, "epoch": int(row["epoch"])} for row in cells]
        files.write_csv(self.folder / _HISTORY, HISTORY_COLUMNS, cells)

    def train_seconds(self) -> float:
        """How long the epochs took so far."""
        return sum(self.history()["seconds"]) if (self.folder / _HISTORY).exists() else 0.0

    def metrics(self) -> dict[str, Any]:
        """What `evaluation.measure_run` wrote into `metrics.json`."""
        return self._read_json(_METRICS)

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Write `metrics.json`."""
        files.write_json(self.folder / _METRICS, metrics)

    def predictions(self) -> dict[str, Any]:
        """The arrays `<split>_probabilities` and `<split>_labels` of the measured splits."""
        return files.read_npz(self._existing(_PREDICTIONS))

    def write_predictions(self, arrays: dict[str, Any]) -> None:
        """Write `predictions.npz`."""
        files.write_npz(self.folder / _PREDICTIONS, arrays)

    def robustness(self) -> dict[str, Any]:
        """What `evaluation.explain_run` wrote into `robustness.json`."""
        return self._read_json(_ROBUSTNESS)

    def explanations(self) -> dict[str, Any]:
        """The arrays that `evaluation.explain_run` wrote into `explanations.npz`."""
        return files.read_npz(self._existing(_EXPLANATIONS))

    def write_explanations(self, robustness: dict[str, Any], arrays: dict[str, Any]) -> None:
        """Write `robustness.json` and `explanations.npz`."""
        files.write_json(self.folder / _ROBUSTNESS, robustness)
        files.write_npz(self.folder / _EXPLANATIONS, arrays)

    def remove(self, *patterns: str) -> None:
        """Delete files, such as the `RESULTS` of a model before it is trained further."""
        for path in [path for pattern in patterns for path in self.folder.glob(pattern)]:
            path.unlink()

    def _read_json(self, name: str) -> Any:
        return files.read_json(self._existing(name))

    def _existing(self, name: str) -> Path:
        path = self.verified_path(name)
        if not path.is_file():
            raise FileNotFoundError(
                f"{self}: has no {name}; expected the folder of a finished run, such as "
                "runs/textbook-1"
            )
        return path

    # Checksums

    def write_checksums(self, *patterns: str) -> None:
        """Write `SHA256SUMS` over the files that match. Default: all files."""
        files.write_checksums(self.folder, patterns or ("**/*",))

    def read_checksums(self) -> dict[str, str]:
        """File name -> SHA-256, from `SHA256SUMS`; empty where there is none.

        Raises:
            ValueError: the checksum file is damaged.
        """
        try:
            return files.read_checksums(self.folder)
        except ValueError as error:
            raise ValueError(f"{error}; {self._remedy()}") from None

    def verified_path(self, name: str) -> Path:
        """The path of a file, after comparing it with its checksum if it has one.

        Raises:
            ValueError: the file differs, or `SHA256SUMS` is damaged.
        """
        path = self.folder / name
        expected = self.read_checksums().get(name)
        if expected and path.is_file() and files.file_sha256(path) != expected:
            raise ValueError(f"{path}: damaged, or changed since the run ended; {self._remedy()}")
        return path

    def damaged_files(self) -> list[str]:
        """The names of files that are missing or differ from their checksums."""
        return files.damaged_files(self.folder)

    def _remedy(self) -> str:
        return f"`{resume_command(self)}` restores it from the last checkpoint"
