"""Predictions without a deep learning framework: a model file and pictures in, labels out."""

import hashlib
import json
import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.data.photo import MAX_EDGE, SIDE, PreparedImage, prepare_photo
from fashion_cnn.data.pictures import (
    MAX_JPEG_PIXELS,
    Picture,
    fit_picture,
    read_on_white,
    read_picture,
    read_rgba,
)
from fashion_cnn.inference.prediction import Prediction
from fashion_cnn.inference.session import image_shape, open_model

PRESETS = ("clothes", "photo", "textbook", "standard", "thorough")
PRESET_FOLDER = Path(__file__).parents[1] / "presets"
MAX_MODEL_BYTES = 1 << 30
BATCH = 128  # images of 28x28 in one call of the runtime; fewer large ones
FASHION_MNIST_NOTE = (
    "a 28x28 gray picture, like Fashion-MNIST's; --model standard is made for these"
)


def presets() -> dict[str, dict[str, Any]]:
    """The models that ship with the package: name -> card.

    `benchmarks/clothes.py` and `benchmarks/presets.py` make them.
    """
    return {name: _preset_card(name) for name in PRESETS}


def model_name(model: Path | str) -> str:
    """The name of a preset, a run or a model file, for people."""
    return Path(model).resolve().name.removesuffix(".onnx")


def _preset_card(name: str) -> dict[str, Any]:
    return json.loads((PRESET_FOLDER / f"{name}.onnx.json").read_text(encoding="utf-8"))


class Classifier:
    """An exported model on ONNX Runtime, without a deep learning framework.

    Attributes:
        card (dict[str, Any]): what the export wrote into the file: `class_names`, `input`,
            `threshold`, `unknown_below`, `test`, …
        content (bytes): the bytes of the `.onnx` file.
        sha256 (str): the SHA-256 of `content`.
        shape (tuple[int, int, int]): (height, width, channels) of its input images.
    """

    def __init__(self, content: bytes, name: str = "model", threads: int = 0) -> None:
        """Create an ONNX Runtime session.

        Args:
            content: the bytes of an `.onnx` file.
            name: for error messages.
            threads: that compute one batch. Default: 0, all cores.

        Raises:
            ValueError: not a valid model, or not one that `fashion-cnn export` wrote.
        """
        self._session, self.card = open_model(content, name, threads)
        self._class_names = tuple(map(str, self.card["class_names"]))
        self.shape = image_shape(self.card)
        self._input_name = self._session.get_inputs()[0].name
        self.content, self.sha256 = content, hashlib.sha256(content).hexdigest()

    @classmethod
    def load(cls, model: Path | str = "clothes", threads: int = 0) -> "Classifier":
        """Load a preset, the model of a run folder, or an `.onnx` file.

        Args:
            model: the preset's name, or the path of a run folder or a file. Default: `clothes`.
            threads: that compute one batch. Default: 0, all cores.

        Returns:
            A `Classifier`.

        Raises:
            FileNotFoundError: there is no such model.
            ValueError: not a valid model.
        """
        path = Path(os.path.expanduser(model))
        if model in PRESETS:
            path = PRESET_FOLDER / f"{model}.onnx"
        if path.is_dir():
            from fashion_cnn.run import Run  # only now: a preset or a file needs nothing of it

            path = Run(path).onnx_path
        if not path.is_file():
            raise FileNotFoundError(
                f"{model}: no model; expected a run folder with model.onnx, an .onnx file, or one "
                f"of the presets {', '.join(PRESETS)}"
            )
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise ValueError(f"{path}: not a valid model (more than {MAX_MODEL_BYTES:,} bytes)")
        content = path.read_bytes()
        expected = _preset_card(str(model))["sha256"] if model in PRESETS else None
        if expected and hashlib.sha256(content).hexdigest() != expected:
            raise ValueError(f"{path}: damaged (its SHA-256 is not its card's); install again")
        return cls(content, str(path), threads)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Class probabilities of images that have the network's shape.

        Args:
            images: raw pixels, uint8 (n, height, width, channels), 0..255.

        Returns:
            float32 (n, classes), in the order of `card["class_names"]`; each row adds up to 1.
        """
        return self.outputs(images)[0]

    def outputs(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Class probabilities, and similarities to the training images of the predicted classes.

        Args:
            images: as of `probabilities`.

        Returns:
            What `probabilities` returns, and float32 (n,), -2..1; NaN if the model measures none.
        """
        batch = max(4, BATCH * SIDE**2 // max(SIDE**2, self.shape[0] * self.shape[1]))
        rows = [np.zeros((0, len(self._class_names)), np.float32)]
        similarities = [np.zeros(0, np.float32)]
        for start in range(0, len(images), batch):
            inputs = {self._input_name: images[start : start + batch]}
            probabilities, *others = self._session.run(None, inputs)
            rows.append(probabilities)
            similarities += others or [np.full(len(probabilities), np.nan, np.float32)]
        return np.concatenate(rows), np.concatenate(similarities)

    def predict(self, pictures: Picture | Sequence[Picture]) -> Any:
        """Predict the class of one picture, or of each in a list.

        Args:
            pictures: one or a list of: path, binary file object, Pillow image, or uint8 array of
                shape (height, width) or (height, width, 1, 3 or 4), 0..255. An array with four
                axes is a list, and so is one of shape (n, height, width) if height and width are
                those of the model's input.

        Returns:
            A `Prediction`, or a list of them in the same order.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: not a readable picture, more than 64 million pixels (200 million in a
                baseline JPEG), or, for a model without a preparation, not of the model's size.
                One such picture fails the list.
        """
        if isinstance(pictures, np.ndarray):
            is_list = pictures.ndim == 4 or pictures.shape[1:] == self.shape[:2]
            pictures = list(pictures) if is_list else pictures
        if not isinstance(pictures, list | tuple):
            return self.predict([pictures])[0]
        return self.predict_prepared([self.prepare(picture) for picture in pictures])

    def prepare(self, picture: Picture, max_pixels: int = MAX_JPEG_PIXELS) -> PreparedImage:
        """Turn a picture into the network's input.

        An array of the network's shape is left as it is. Otherwise the card's `preparation`
        decides: `photo` finds the garment and converts it to the format of Fashion-MNIST, `fit`
        resizes to the network's size, and models without one take only pictures of their size. The
        preset `clothes` notes a picture that is in the format of Fashion-MNIST.

        Args:
            picture: one picture, as for `predict`.
            max_pixels: of a baseline JPEG; other files have at most 64 million. Default: 200
                million.

        Returns:
            A `PreparedImage`, whose `pixels` are uint8 (height, width, channels).

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: as for `predict`.
        """
        if isinstance(picture, str | Path):
            picture = os.path.expanduser(picture)
        height, width, channels = self.shape
        shapes = ((height, width), (height, width, channels))
        is_prepared = isinstance(picture, np.ndarray) and picture.shape in shapes
        preparation = None if is_prepared else self.card.get("preparation")
        if preparation == "photo":
            return prepare_photo(read_rgba(picture, 4 * MAX_EDGE, max_pixels))
        if preparation == "fit":
            photo = read_on_white(picture, 2 * max(height, width), max_pixels)
            is_clothes = self.card.get("preset") == "clothes"
            note = FASHION_MNIST_NOTE if is_clothes and _is_gray_28x28(photo) else ""
            return PreparedImage(photo, fit_picture(photo, (height, width), channels), note=note)
        pixels = read_picture(picture, (height, width), channels)
        return PreparedImage(np.broadcast_to(pixels, (height, width, 3)), pixels)

    def predict_prepared(self, prepared: Sequence[PreparedImage]) -> list[Prediction]:
        """Predict the classes of pictures that `prepare` returned.

        Args:
            prepared: what `prepare` returned for each picture.

        Returns:
            A list of `Prediction`, in the same order.
        """
        if not prepared:
            return []
        rows, similarities = self.outputs(np.stack([image.pixels for image in prepared]))
        notes = [image.note for image in prepared]
        return list(map(self.to_prediction, rows, similarities, notes))

    def to_prediction(self, row: np.ndarray, similarity: float, note: str = "") -> Prediction:
        """The prediction for one row of probabilities.

        Args:
            row: float (classes,), one row of the probabilities that `outputs` returns.
            similarity: of the same picture; NaN if the model measures none.
            note: a warning about the picture; with one, the prediction is not sure.

        Returns:
            A `Prediction`.
        """
        order = np.argsort(-row, kind="stable")
        probabilities = {self._class_names[k]: float(row[k]) for k in order}
        label = self._class_names[order[0]]
        sure, unknown = self.judge(probabilities[label], similarity, note)
        known = None if np.isnan(similarity) else float(similarity)
        return Prediction(label, probabilities[label], probabilities, sure, note, known, unknown)

    def judge(
        self, probability: float, similarity: float, note: str = ""
    ) -> tuple[bool | None, bool | None]:
        """`sure` and `unknown` of a `Prediction` with this probability, similarity and note."""
        threshold, limit = self.card.get("threshold"), self.card.get("unknown_below")
        unknown = None if limit is None else bool(similarity < limit)
        is_sure = bool(threshold is not None and probability >= threshold)
        return None if threshold is None else is_sure and not note and not unknown, unknown

    def prediction_set(self, prediction: Prediction, coverage: float) -> dict[str, float]:
        """The classes that together contain the true one with a probability of `coverage`.

        This holds for pictures like the validation pictures of the training (split conformal
        prediction).

        Args:
            prediction: by this classifier.
            coverage: one of those in `card["prediction_sets"]`, such as 0.95.

        Returns:
            Class name -> probability, most probable first; at least one class.

        Raises:
            ValueError: the card lacks that coverage.
        """
        limits = {float(k): p for k, p in (self.card.get("prediction_sets") or {}).items()}
        if coverage not in limits:
            images = self.card.get("split", {}).get("validation", 0)
            available = ", ".join(map(str, sorted(limits))) or "none"
            raise ValueError(
                f"coverage of prediction sets: got {coverage}; available: {available} (the model "
                f"has {images} validation pictures; 0.8 needs 4, 0.95 needs 19, 0.99 needs 99)"
            )
        likely = {k: p for k, p in prediction.probabilities.items() if p >= limits[coverage]}
        return likely or {prediction.label: prediction.probability}

    def occlusion_map(self, prepared: PreparedImage) -> np.ndarray:
        """How much each pixel contributes to the prediction (occlusion, arXiv:1311.2901).

        Args:
            prepared: what `prepare` returned.

        Returns:
            float (height, width): the mean drop of the predicted class's probability over all
                black squares that cover the pixel. A square is a fifth of the width wide; the
                squares are a fourteenth of the width apart.
        """
        height, width, _ = self.shape
        side, step = max(2, width // 5), max(2, width // 14)
        corners = list(product(range(1 - side, height, step), range(1 - side, width, step)))
        masks = np.zeros((len(corners), height, width), bool)
        for mask, (y, x) in zip(masks, corners, strict=True):
            mask[max(0, y) : y + side, max(0, x) : x + side] = True
        baseline = self.probabilities(prepared.pixels[np.newaxis])[0]
        images = np.where(masks[..., np.newaxis], np.uint8(0), prepared.pixels)
        occluded = self.probabilities(images)
        drops = baseline.max() - occluded[:, baseline.argmax()]
        return np.tensordot(drops, masks, 1) / masks.sum(0)


def _is_gray_28x28(photo: np.ndarray) -> bool:
    """Whether a picture, uint8 (height, width, 3), has the format of Fashion-MNIST."""
    return photo.shape[:2] == (SIDE, SIDE) and bool((photo == photo[..., :1]).all())
