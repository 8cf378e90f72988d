"""`Data`: the images and labels of one source, with the split that every stage shares."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fashion_cnn.data.split import split_groups, stratified

ARRAYS = "arrays"  # the source of data that was loaded from nowhere
MIN_TRAIN_IMAGES = 12  # of which one is held out for validation
CHANNELS = (1, 3)  # gray and color


@dataclass(frozen=True, eq=False)
class Data:
    """Training and test images with labels; the validation split is an index into training.

    Attributes:
        train_images: uint8 (n, height, width) or (n, height, width, 1 or 3), 0..255; those for
            validation included.
        train_labels: integers (n,), 0..classes-1.
        test_images: uint8 (m, …), of the same height, width and channels.
        test_labels: integers (m,).
        class_names: in label order.
        source: what `load_data` loads the same data from, or `arrays`.
        location: where the data was found, for people.
        sha256: file or array name -> SHA-256.
        held_out: indices into the training images, for validation. Default: None, a stratified
            twelfth of them, whole groups of `train_groups`.
        train_files: the path of each training image, if it has a file of its own.
        test_files: the path of each test image, likewise.
        notes: warnings for whoever trains on the data.
        train_groups: (n,), what belongs together, such as the number of the person on each
            training image; validation and `audit` take whole groups. Default: None.
        groups: how `load_data` finds these groups.
        decisions: the path of the decisions that were applied; empty without.
        kept_train, kept_test: (n,) and (m,), where each image is among those before decisions left
            some out. Default: None, all are there.
        recorded_test_labels: (m,), the labels before decisions. Default: None, the same.

    Raises:
        ValueError: images are not uint8, shapes or counts do not fit, labels are out of range, or
            there are fewer than 12 training images, two classes or two groups.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    source: str = ARRAYS
    location: str = ARRAYS
    sha256: dict[str, str] = field(default_factory=dict)
    held_out: np.ndarray | None = None
    train_files: tuple[str, ...] = ()
    test_files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    train_groups: np.ndarray | None = None
    groups: str = ""
    decisions: str = ""
    kept_train: np.ndarray | None = None
    kept_test: np.ndarray | None = None
    recorded_test_labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        classes = len(self.class_names)
        _check_split("train", self.train_images, self.train_labels, classes)
        _check_split("test", self.test_images, self.test_labels, classes)
        train, test = self.train_images.shape[1:], self.test_images.shape[1:]
        if train != test:
            raise ValueError(f"training and test images differ in shape: {train} and {test}")
        if classes < 2:
            raise ValueError(f"classes: got only {self.class_names[0]}; expected at least two")
        if self.train_groups is not None:
            shape, groups = np.shape(self.train_groups), len(np.unique(self.train_groups))
            if shape != self.train_labels.shape or groups < 2:
                raise ValueError(
                    f"train_groups: got {shape}, {groups} different; expected one per training "
                    f"image, {self.train_labels.shape}, and at least two different"
                )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one image."""
        height, width, *channels = self.train_images.shape[1:]
        return height, width, channels[0] if channels else 1

    @property
    def origin(self) -> dict[str, str]:
        """What `reload_data` loads the same data from."""
        origin = {"source": self.source, "groups": self.groups}
        if self.decisions:
            sha256 = self.sha256["decisions"]
            origin |= {"decisions": self.decisions, "decisions_sha256": sha256}
        return origin

    @cached_property
    def validation_index(self) -> np.ndarray:
        """int64: indices of the training images that are held out for validation."""
        if self.held_out is not None:
            return self.held_out
        if self.train_groups is not None:
            shares = (11 / 12, 1 / 12)
            return np.flatnonzero(split_groups(self.train_labels, self.train_groups, shares))
        return stratified(self.train_labels, round(len(self.train_labels) / 12))

    @property
    def train_index(self) -> np.ndarray:
        """int64: indices of the training images that are not held out."""
        return np.delete(np.arange(len(self.train_labels)), self.validation_index)

    def split(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The images and labels of a split.

        Args:
            name: `train` (without the images held out), `validation` or `test`.

        Returns:
            uint8 (n, height, width[, channels]) and integers (n,).

        Raises:
            ValueError: there is no such split.
        """
        if name == "test":
            return self.test_images, self.test_labels
        if name not in ("train", "validation"):
            raise ValueError(f"split: got {name!r}; expected train, validation or test")
        index = self.train_index if name == "train" else self.validation_index
        return self.train_images[index], self.train_labels[index]


def as_data(data: Any) -> Data:
    """Return `Data` unchanged, or make it from `((x_train, y_train), (x_test, y_test))`.

    Raises:
        ValueError: it is neither, or images are not uint8, or labels are not integers or names.
    """
    if isinstance(data, Data):
        return data
    try:
        (x_train, y_train), (x_test, y_test) = data
    except (TypeError, ValueError):
        raise ValueError(
            f"data: got {type(data).__name__}; expected the result of load_data, or arrays as "
            "((x_train, y_train), (x_test, y_test))"
        ) from None
    sha256 = arrays_sha256(x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    y_train, y_test, names = rank_labels(y_train, y_test)
    return Data(x_train, y_train, x_test, y_test, names, sha256=sha256)


def rank_labels(y_train: Any, y_test: Any) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Number the labels that occur from 0, in their sorted order: 1..26 become 0..25.

    Args:
        y_train: integers or names, (n,) or (n, 1).
        y_test: the same, (m,) or (m, 1).

    Returns:
        The numbers of both, (n,) and (m,), and the labels as class names in that order.

    Raises:
        ValueError: labels are neither integers nor names.
    """
    labels = [np.asarray(y) for y in (y_train, y_test)]
    kinds = {y.dtype.kind for y in labels}
    if not kinds <= {"i", "u"} and kinds != {"U"}:
        raise ValueError(
            f"labels: got {labels[0].dtype} and {labels[1].dtype}; expected one integer per image, "
            "or one name"
        )
    labels = [y.ravel() if y.shape[1:] == (1,) else y for y in labels]
    classes = sorted(set().union(*(np.unique(y).tolist() for y in labels)))
    train, test = (np.searchsorted(classes, y) for y in labels)
    return train, test, tuple(map(str, classes))


def arrays_sha256(**arrays: Any) -> dict[str, str]:
    """The SHA-256 of each array: the same before it is saved as `.npz` and after loading it."""
    named = {name: np.asarray(array) for name, array in arrays.items()}
    return {
        name: hashlib.sha256(f"{x.dtype}{x.shape}".encode() + x.tobytes()).hexdigest()
        for name, x in named.items()
    }


def channels_last(images: np.ndarray) -> np.ndarray:
    """(n, height, width) -> (n, height, width, 1); arrays with four axes are returned unchanged."""
    return images[..., np.newaxis] if images.ndim == 3 else images


def _check_split(name: str, images: Any, labels: Any, classes: int) -> None:
    _check_images(name, images)
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{name} labels: got {labels.dtype} {labels.shape}; expected one integer per image, "
            f"({len(images)},)"
        )
    if name == "train" and len(labels) < MIN_TRAIN_IMAGES:
        raise ValueError(
            f"train labels: got {len(labels)}; expected at least {MIN_TRAIN_IMAGES}, because some "
            "are held out for validation"
        )
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"{name} labels: expected at least one, each within 0..{classes - 1}")


def _check_images(name: str, images: Any) -> None:
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim not in (3, 4):
        got = f"{getattr(images, 'dtype', type(images).__name__)} {getattr(images, 'shape', '')}"
        raise ValueError(
            f"{name} images: got {got}; expected raw pixels, uint8 0..255, (n, height, width[, "
            "channels]); the first layer of the model does the scaling"
        )
    channels = images.shape[3] if images.ndim == 4 else 1
    if channels not in CHANNELS and images.shape[1] in CHANNELS:
        raise ValueError(
            f"{name} images: got {images.shape}, channels first; expected (n, height, width, "
            "channels): use np.moveaxis(x, 1, -1)"
        )
    if channels not in CHANNELS or 0 in images.shape[1:]:
        raise ValueError(
            f"{name} images: got {images.shape}; expected (n, height, width) or (n, height, width, "
            "channels) with 1 or 3 channels"
        )
