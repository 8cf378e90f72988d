"""Predictions without a deep learning framework: a model file and pictures in, labels out."""

import hashlib
import logging
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
    read_on_white,
    read_picture,
    read_rgba,
    resize,
)
from fashion_cnn.inference.model_files import read_model
from fashion_cnn.inference.prediction import Prediction
from fashion_cnn.inference.session import batch_size, image_shape, open_model

FASHION_MNIST_NOTE = (
    "a 28x28 gray picture, like Fashion-MNIST's; the preset standard is made for these"
)


class Classifier:
    """An exported model on ONNX Runtime or OpenVINO, without a deep learning framework.

    Attributes:
        card (dict[str, Any]): what the export wrote into the file: `class_names`, `input`,
            `threshold`, `unknown_below`, `test`, …
        content (bytes): the bytes of the `.onnx` file.
        sha256 (str): the SHA-256 of `content`.
        shape (tuple[int, int, int]): (height, width, channels) of its input images.
        runtime (str): the name and version of the runtime, and the precision that it computes in.
        requested (tuple[str, str]): the arguments `runtime` and `precision`.
    """

    def __init__(
        self,
        content: bytes,
        name: str = "model",
        threads: int = 0,
        runtime: str = "auto",
        precision: str = "auto",
        bulk: bool = False,
    ) -> None:
        """Load the network into a runtime.

        Args:
            content: the bytes of an `.onnx` file.
            name: for error messages.
            threads: as of `load`.
            runtime: as of `load`.
            precision: as of `load`.
            bulk: as of `load`.

        Raises:
            ModuleNotFoundError, ValueError: as `load` does.
        """
        network = open_model(content, name, threads, runtime, precision, bulk)
        self._run, self.card, self.runtime = network
        self.requested = (runtime, precision)
        logging.getLogger(__name__).debug("%s: %s", name, self.runtime)
        self._class_names = tuple(map(str, self.card["class_names"]))
        self.shape = image_shape(self.card)
        self.content, self.sha256 = content, hashlib.sha256(content).hexdigest()

    @classmethod
    def load(
        cls,
        model: Path | str = "clothes",
        threads: int = 0,
        runtime: str = "auto",
        precision: str = "auto",
        bulk: bool = False,
    ) -> "Classifier":
        """Load a preset, the model of a run folder, or an `.onnx` file.

        Args:
            model: the preset's name, or the path of a run folder or a file. Default: `clothes`.
            threads: that compute one batch. Default: 0, all cores; with OpenVINO and `bulk` one,
                and a batch on each core.
            runtime: `onnxruntime`, `openvino` or `auto`, which is ONNX Runtime unless OpenVINO
                is to compute in bfloat16. Default: `auto`.
            precision: `float32`; `bfloat16`, with OpenVINO on processors that have it; or `auto`,
                which is bfloat16 only with `bulk`, and only for models that lost at most 0.15
                points of test accuracy in it when they were exported. Default: `auto`.
            bulk: whether very many images are to be predicted, so that speed matters more than
                the seconds that OpenVINO takes to load. Default: False.

        Returns:
            A `Classifier`.

        Raises:
            FileNotFoundError: there is no such model.
            ModuleNotFoundError: OpenVINO is requested, but not installed.
            ValueError: not a valid model, or one that cannot be computed as requested.
        """
        content, name = read_model(model)
        return cls(content, name, threads, runtime, precision, bulk)

    @property
    def min_edge(self) -> int:
        """Pixels that the longest edge of a photo keeps at least while it is read."""
        return 4 * MAX_EDGE if self.card.get("preparation") == "photo" else 2 * max(self.shape[:2])

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
        batch = batch_size(self.shape)
        rows = [np.zeros((0, len(self._class_names)), np.float32)]
        similarities = [np.zeros(0, np.float32)]
        batches = [images[start : start + batch] for start in range(0, len(images), batch)]
        for probabilities, *others in self._run(batches):
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
        shapes = [self.shape] + [(height, width)] * (channels == 1)
        is_prepared = isinstance(picture, np.ndarray) and picture.shape in shapes
        preparation = None if is_prepared else self.card.get("preparation")
        if preparation == "photo":
            return prepare_photo(read_rgba(picture, self.min_edge, max_pixels))
        if preparation == "fit":
            photo = read_on_white(picture, self.min_edge, max_pixels)
            is_clothes = self.card.get("preset") == "clothes"
            note = FASHION_MNIST_NOTE if is_clothes and _is_gray_28x28(photo) else ""
            return PreparedImage(photo, resize(photo, (height, width), channels), note=note)
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
