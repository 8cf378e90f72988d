"""Answers without a deep learning framework: a model file and pictures in, labels out."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.data.photo import MAX_EDGE, SIDE, PreparedImage, prepare_photo
from fashion_cnn.data.pictures import (
    Picture,
    fit_picture,
    read_on_white,
    read_picture,
    read_rgba,
)

PRESETS = ("photo", "textbook", "standard", "thorough")
DEFAULT = "photo"
PRESET_FOLDER = Path(__file__).parents[1] / "presets"
MAX_BYTES = 1 << 30  # of a model file
BATCH = 128  # images of 28x28 at a time; of large ones fewer


def presets() -> dict[str, dict[str, Any]]:
    """The models that come with the package: name -> card. `benchmarks/presets.py` made them."""
    return {name: _card(name) for name in PRESETS}


def model_name(model: Path | str) -> str:
    """What a preset, a run or a model file is called."""
    return Path(model).resolve().name.removesuffix(".onnx")


def _card(name: str) -> dict[str, Any]:
    return json.loads((PRESET_FOLDER / f"{name}.onnx.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one picture.

    Attributes:
        label: the likeliest class.
        probability: of that class, 0..1.
        probabilities: class name -> probability, likeliest first.
        sure: whether the probability reaches the model's threshold, and there is nothing to note;
            None where the model has no threshold.
        note: what the user of a photo should know, or nothing.
    """

    label: str
    probability: float
    probabilities: dict[str, float]
    sure: bool | None
    note: str = ""

    @property
    def verdict(self) -> str:
        """`sure`, `unsure`, or nothing where the model has no threshold."""
        return {True: "sure", False: "unsure", None: ""}[self.sure]


class Classifier:
    """An exported model on ONNX Runtime.

    Attributes:
        card: what the export wrote about it: `class_names`, `input`, `threshold`, `test`, …
        content: the file.
        sha256: of the file.
        shape: (height, width, channels) of the images that it takes.
    """

    def __init__(self, content: bytes, name: str = "model", threads: int = 0) -> None:
        """Start a runtime on the bytes of an `.onnx` file.

        Args:
            content: the file.
            name: what it is called when something is wrong with it.
            threads: how many work at one batch; 0 is all cores.

        Raises:
            ValueError: not a valid model, or not one that `fashion-cnn export` wrote.
        """
        import onnxruntime

        reject_external_data(content, name)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
            about = self._session.get_modelmeta().custom_metadata_map
            self.card: dict[str, Any] = json.loads(about["fashion_cnn"])
            self._names = tuple(map(str, self.card["class_names"]))
            place = self.card["input"]
            self.shape = int(place["height"]), int(place["width"]), int(place["channels"])
            threshold = self.card.get("threshold")
            if threshold is not None and not 0 <= float(threshold) <= 1:
                raise ValueError(f"threshold {threshold}; expected 0..1")
            (pixels,), (answers,) = self._session.get_inputs(), self._session.get_outputs()
            self.content, self.sha256 = content, hashlib.sha256(content).hexdigest()
            self._input = pixels.name
            if (pixels.type, tuple(pixels.shape[1:])) != ("tensor(uint8)", self.shape):
                raise ValueError(f"takes {pixels.type} {pixels.shape}, its card says otherwise")
            if answers.shape[1:] != [len(self._names)]:
                raise ValueError(f"gives {answers.shape} for {len(self._names)} classes")
        except KeyError as error:
            raise ValueError(f"{name}: no card of fashion-cnn in it (no {error})") from None
        except Exception as error:  # the runtime raises its own kinds for damaged bytes
            reason = str(error).splitlines()[0][:200]
            raise ValueError(f"{name}: not a valid model ({reason})") from None

    @classmethod
    def load(cls, model: Path | str = DEFAULT, threads: int = 0) -> "Classifier":
        """A classifier from a preset's name, a run folder, or an `.onnx` file.

        Args:
            model: that name or path.
            threads: how many work at one batch; 0 is all cores.

        Raises:
            FileNotFoundError: none of these is there.
            ValueError: not a valid model.
        """
        path = PRESET_FOLDER / f"{model}.onnx" if model in PRESETS else Path(model)
        if path.is_dir():
            path = path / "model.onnx"
        if not path.is_file():
            raise FileNotFoundError(
                f"{model}: no model; expected a run folder with model.onnx, an .onnx file, or one "
                f"of the presets {', '.join(PRESETS)}"
            )
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path}: not a valid model (more than {MAX_BYTES:,} bytes)")
        content = path.read_bytes()
        if model in PRESETS and hashlib.sha256(content).hexdigest() != _card(model)["sha256"]:
            raise ValueError(f"{path}: damaged (another SHA-256 than its card's); install again")
        return cls(content, str(path), threads)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Probabilities of raw pixels, uint8 (n, height, width, channels): float32 (n, classes)."""
        batch = max(4, BATCH * SIDE**2 // max(SIDE**2, self.shape[0] * self.shape[1]))
        parts = range(0, len(images), batch)
        found = [self._session.run(None, {self._input: images[i : i + batch]})[0] for i in parts]
        return np.concatenate(found) if found else np.zeros((0, len(self._names)), np.float32)

    def predict(self, pictures: Picture | Sequence[Picture]) -> Any:
        """Say what is on pictures.

        Args:
            pictures: one or a list of: path, file object, PIL image, or uint8 array (height,
                width[, channels]). An array with one axis more is a list.

        Returns:
            An `Prediction`, or a list of them.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: no picture, or not of the model's size.
        """
        if isinstance(pictures, np.ndarray) and pictures.ndim == 4:
            pictures = list(pictures)
        if not isinstance(pictures, list | tuple):
            return self.predict([pictures])[0]
        return self.predict_prepared([self.prepare(picture) for picture in pictures])

    def prepare(self, picture: Picture) -> PreparedImage:
        """What the network gets of a picture, and how it came to that.

        An array of the network's own shape is left as it is. Else the model's card decides: photos
        go through `data/photo.py` (`photo`) or are scaled to the network's size (`fit`, of models
        that learnt from class folders); other models want pictures of just their size.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: no picture, or not of the model's size.
        """
        height, width, channels = self.shape
        ready = isinstance(picture, np.ndarray) and (
            picture.shape in ((height, width), (height, width, channels))
        )
        preparation = None if ready else self.card.get("preparation")
        if preparation == "photo":
            return prepare_photo(read_rgba(picture, 4 * MAX_EDGE))
        if preparation == "fit":
            photo = read_on_white(picture, 2 * max(height, width))
            return PreparedImage(photo, fit_picture(photo, (height, width), channels))
        pixels = read_picture(picture, (height, width), channels)
        return PreparedImage(np.broadcast_to(pixels, (height, width, 3)), pixels)

    def predict_prepared(self, seen: Sequence[PreparedImage]) -> list[Prediction]:
        """Say what is on pictures that `see` has prepared."""
        none = np.zeros((0, *self.shape), np.uint8)
        rows = self.probabilities(np.stack([x.pixels for x in seen]) if seen else none)
        return [self.to_prediction(row, x.note) for row, x in zip(rows, seen, strict=True)]

    def occlusion_map(self, seen: PreparedImage) -> np.ndarray:
        """How much less probable the answer is without each place (occlusion, arXiv:1311.2901).

        Args:
            seen: what `see` gave.

        Returns:
            float (height, width): the mean drop of the answer's probability over all black squares
            of a fifth of the width, a fourteenth of it apart, that cover the pixel.
        """
        height, width, _ = self.shape
        side, step = max(2, width // 5), max(2, width // 14)
        corners = [
            (y, x) for y in range(1 - side, height, step) for x in range(1 - side, width, step)
        ]
        covers = np.zeros((len(corners), height, width), bool)
        for cover, (y, x) in zip(covers, corners, strict=True):
            cover[max(0, y) : y + side, max(0, x) : x + side] = True
        before = self.probabilities(seen.pixels[np.newaxis])[0]
        after = self.probabilities(np.where(covers[..., np.newaxis], np.uint8(0), seen.pixels))
        drops = before.max() - after[:, before.argmax()]
        return np.tensordot(drops, covers, 1) / covers.sum(0)

    def to_prediction(self, row: np.ndarray, note: str = "") -> Prediction:
        """The answer that probabilities, (classes,), amount to."""
        order = np.argsort(-row, kind="stable")
        named = {self._names[k]: float(row[k]) for k in order}
        label, threshold = self._names[order[0]], self.card.get("threshold")
        sure = None if threshold is None else bool(named[label] >= threshold and not note)
        return Prediction(label, named[label], named, sure, note)


# Protocol Buffers' wire format of ONNX: (message, field) -> the message in it. Only what can hold
# a tensor. https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_INSIDE = {
    ("model", 7): "graph",
    ("model", 20): "training",
    ("model", 25): "function",
    ("training", 1): "graph",
    ("training", 2): "graph",
    ("function", 7): "node",
    ("function", 11): "attribute",
    ("graph", 1): "node",
    ("graph", 5): "tensor",
    ("graph", 15): "sparse",
    ("sparse", 1): "tensor",
    ("sparse", 2): "tensor",
    ("node", 5): "attribute",
    ("attribute", 5): "tensor",
    ("attribute", 6): "graph",
    ("attribute", 10): "tensor",
    ("attribute", 11): "graph",
    ("attribute", 22): "sparse",
    ("attribute", 23): "sparse",
}
_EXTERNAL = {("tensor", 13), ("tensor", 14)}  # external_data, data_location
_DEEPEST = 20


def reject_external_data(content: bytes, name: str) -> None:
    """Raise ValueError if a model would have the runtime read other files.

    ONNX Runtime follows such links even from bytes, relative to the working folder.
    """
    try:
        found = any(_external(memoryview(content), "model", 0))
    except (IndexError, RecursionError) as error:
        raise ValueError(f"{name}: not a valid model ({error or 'cut short'})") from None
    if found:
        raise ValueError(f"{name}: not a valid model (it has weights in other files)")


def _external(content: memoryview, kind: str, depth: int) -> Iterable[bool]:
    if depth > _DEEPEST:
        raise RecursionError("nested too deep")
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        field, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(content, at)
            if (kind, field) in _EXTERNAL and value:
                yield True
            continue
        length = {1: 8, 5: 4}.get(wire, 0)
        if wire == 2:
            length, at = _varint(content, at)
        elif not length:
            raise IndexError(f"wire type {wire}")
        if at + length > len(content):
            raise IndexError("cut short")
        if (kind, field) in _EXTERNAL:
            yield True
        if inner := _INSIDE.get((kind, field)):
            yield from _external(content[at : at + length], inner, depth + 1)
        at += length


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise IndexError("a number of more than 64 bits")
