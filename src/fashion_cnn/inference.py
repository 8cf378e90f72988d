"""Answers without a deep learning framework: a model file and pictures in, labels out."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.data.pictures import Picture, read_picture

MOST_BYTES = 1 << 28  # of a model file
BATCH = 64


@dataclass(frozen=True)
class Answer:
    """What a classifier says of one picture.

    Attributes:
        label: the likeliest class.
        probability: of that class, 0..1.
        probabilities: class name -> probability, likeliest first.
        sure: whether the probability reaches the model's threshold; None where it has none.
    """

    label: str
    probability: float
    probabilities: dict[str, float]
    sure: bool | None

    @property
    def verdict(self) -> str:
        """`sure`, `unsure`, or nothing where the model has no threshold."""
        return {True: "sure", False: "unsure", None: ""}[self.sure]


class Classifier:
    """An exported model on ONNX Runtime.

    Attributes:
        card: what the export wrote about it: `class_names`, `input`, `threshold`, `test`, …
    """

    def __init__(self, content: bytes, name: str = "model") -> None:
        """Start a runtime on the bytes of an `.onnx` file.

        Raises:
            ValueError: not a valid model, or not one that `fashion-cnn export` wrote.
        """
        import onnxruntime

        refuse_external_data(content, name)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
            about = self._session.get_modelmeta().custom_metadata_map
            self.card: dict[str, Any] = json.loads(about["fashion_cnn"])
            self._names = tuple(map(str, self.card["class_names"]))
            place = self.card["input"]
            self._shape = int(place["height"]), int(place["width"]), int(place["channels"])
            (pixels,), (answers,) = self._session.get_inputs(), self._session.get_outputs()
            if (pixels.type, tuple(pixels.shape[1:])) != ("tensor(uint8)", self._shape):
                raise ValueError(f"takes {pixels.type} {pixels.shape}, its card says otherwise")
            if answers.shape[1:] != [len(self._names)]:
                raise ValueError(f"gives {answers.shape} for {len(self._names)} classes")
        except KeyError as error:
            raise ValueError(f"{name}: no card of fashion-cnn in it (no {error})") from None
        except Exception as error:  # the runtime raises its own kinds for damaged bytes
            reason = str(error).splitlines()[0][:200]
            raise ValueError(f"{name}: not a valid model ({reason})") from None

    @classmethod
    def load(cls, model: Path | str) -> "Classifier":
        """A classifier from a run folder or an `.onnx` file.

        Raises:
            FileNotFoundError: neither is there.
            ValueError: not a valid model.
        """
        path = Path(model)
        if path.is_dir():
            path = path / "model.onnx"
        if not path.is_file():
            raise FileNotFoundError(
                f"{model}: no model; expected a run folder with model.onnx, or an .onnx file"
            )
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"{path}: not a valid model (more than {MOST_BYTES:,} bytes)")
        return cls(path.read_bytes(), str(path))

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Probabilities of raw pixels, uint8 (n, height, width, channels): float32 (n, classes)."""
        name = self._session.get_inputs()[0].name
        parts = range(0, len(images), BATCH)
        found = [self._session.run(None, {name: images[i : i + BATCH]})[0] for i in parts]
        return np.concatenate(found) if found else np.zeros((0, len(self._names)), np.float32)

    def predict(self, pictures: Picture | Sequence[Picture]) -> Any:
        """Say what is on pictures.

        Args:
            pictures: one or a list of: uint8 array (height, width[, channels]), path, file object,
                or PIL image. An array with one axis more is a list.

        Returns:
            An `Answer`, or a list of them.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: no picture, or not of the model's size.
        """
        if isinstance(pictures, np.ndarray) and pictures.ndim == 4:
            pictures = list(pictures)
        if not isinstance(pictures, list | tuple):
            return self.predict([pictures])[0]
        height, width, channels = self._shape
        images = [read_picture(picture, (height, width), channels) for picture in pictures]
        stacked = np.stack(images) if images else np.zeros((0, *self._shape), np.uint8)
        return [self._answer(row) for row in self.probabilities(stacked)]

    def _answer(self, row: np.ndarray) -> Answer:
        order = np.argsort(-row, kind="stable")
        named = {self._names[k]: float(row[k]) for k in order}
        label, threshold = self._names[order[0]], self.card.get("threshold")
        sure = None if threshold is None else bool(named[label] >= threshold)
        return Answer(label, named[label], named, sure)


# Protocol Buffers' wire format of ONNX: (message, field) -> the message in it. Only what can hold
# a tensor. https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_INSIDE = {
    ("model", 7): "graph",
    ("model", 25): "function",
    ("function", 7): "node",
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


def refuse_external_data(content: bytes, name: str) -> None:
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
