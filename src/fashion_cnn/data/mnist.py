"""Other data in the forms of MNIST's family: a folder of IDX files or an `.npz` in, `Data` out."""

import hashlib
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np

from fashion_cnn.data.dataset import Data
from fashion_cnn.data.idx import read_idx

# train-images-idx3-ubyte.gz (MNIST, KMNIST), emnist-letters-train-images-idx3-ubyte.gz (EMNIST)
_IDX = re.compile(r"(.*?)(train|t10k|test)-(images|labels)[-.]idx[134]-ubyte(?:\.gz)?")
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
HANDED = (
    "if left and right differ, as in digits and letters: --set augment=shift1 "
    "--set flip_average=false"
)
MAX_BYTES = 1 << 33  # that an .npz may unpack to


def idx_files(folder: Path) -> dict[str, dict[tuple[str, str], Path]]:
    """The IDX files of a folder: data set's prefix -> (train or test, images or labels) -> path."""
    found: dict[str, dict[tuple[str, str], Path]] = {}
    for path in sorted(folder.iterdir()):  # of two the one with .gz, which has a checksum, stays
        if (match := _IDX.fullmatch(path.name)) and path.is_file():
            prefix, split, kind = match.groups()
            split = "train" if split == "train" else "test"
            found.setdefault(prefix, {})[split, kind] = path
    return {prefix: found[prefix] for prefix in sorted(found)}


def load_idx(folder: Path) -> Data:
    """Load a folder of four IDX files, named as MNIST's, KMNIST's or EMNIST's are, gzipped or not.

    EMNIST's pictures lie on their side in its files and are set upright; its `mapping.txt`, if it
    is there, gives the classes' names. Elsewhere the labels are the names.

    Raises:
        FileNotFoundError: one of the four is missing.
        ValueError: there is more than one data set, or a file is damaged.
    """
    sets = idx_files(folder)
    if len(sets) > 1:
        names = ", ".join(f"{prefix}*" for prefix in sets)
        raise ValueError(f"{folder}: more than one data set ({names}); give each its own folder")
    ((prefix, files),) = sets.items()
    parts = [(split, kind) for split in ("train", "test") for kind in ("images", "labels")]
    if missing := [part for part in parts if part not in files]:
        called = {"train": "train", "test": "t10k"}
        names = ", ".join(f"{prefix}{called[split]}-{kind}" for split, kind in missing)
        raise FileNotFoundError(
            f"{folder}: missing {names} (-idx3-ubyte or -idx1-ubyte, .gz or not)"
        )
    read = {part: read_idx(files[part]) for part in parts}
    arrays = [read[part][0] for part in parts]
    if prefix.startswith("emnist"):
        arrays[0], arrays[2] = (np.ascontiguousarray(x.swapaxes(1, 2)) for x in arrays[::2])
    sha256 = {f"{split}-{kind}": read[split, kind][1] for split, kind in parts}
    return _as_data(folder, arrays, _mapping(folder / f"{prefix}mapping.txt"), sha256)


def load_npz(path: Path) -> Data:
    """Load an `.npz` of `x_train`, `y_train`, `x_test` and `y_test`, as Keras's own data sets are.

    Images are uint8 (n, height, width[, channels]); labels whole numbers or names.

    Raises:
        ValueError: not such a file, or a damaged one; pickles are not read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > MAX_BYTES:
            raise ValueError(f"{size:,} bytes in it; at most {MAX_BYTES:,}")
        with np.load(path, allow_pickle=False) as file:
            if missing := [name for name in ARRAYS if name not in file]:
                raise ValueError(f"has no {', '.join(missing)} but {', '.join(file) or 'nothing'}")
            arrays = [file[name] for name in ARRAYS]
    except (
        EOFError,
        MemoryError,
        ValueError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        said = str(error) or type(error).__name__
        raise ValueError(f"{path}: {said}; expected an .npz of {', '.join(ARRAYS)}") from None
    sha256 = {
        name: hashlib.sha256(f"{x.dtype}{x.shape}".encode() + x.tobytes()).hexdigest()
        for name, x in zip(ARRAYS, arrays, strict=True)
    }
    return _as_data(path, arrays, {}, sha256)


def _as_data(
    path: Path, arrays: list[np.ndarray], names: dict[str, str], sha256: dict[str, str]
) -> Data:
    """`Data` with the labels counted from 0 in the order of what they were."""
    x_train, y_train, x_test, y_test = arrays
    y_train, y_test = (
        y.ravel() if y.ndim == 2 and y.shape[1] == 1 else y for y in (y_train, y_test)
    )
    if y_train.dtype.kind not in "iuU" or y_train.dtype.kind != y_test.dtype.kind:
        raise ValueError(
            f"{path}: labels are {y_train.dtype} and {y_test.dtype}; expected whole numbers, or "
            "names"
        )
    classes = np.unique(np.concatenate([np.unique(y_train), np.unique(y_test)]))
    labels = [np.searchsorted(classes, y) for y in (y_train, y_test)]
    class_names = tuple(names.get(str(name), str(name)) for name in classes)
    place = str(path.resolve())
    try:
        return Data(
            x_train,
            labels[0],
            x_test,
            labels[1],
            class_names,
            source=place,
            location=place,
            sha256=sha256,
            notes=(HANDED,),
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _mapping(path: Path) -> dict[str, str]:
    """EMNIST's names: a line a class, its label and the code points of its characters."""
    if not path.is_file():
        return {}
    try:
        lines = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
        return {
            words[0]: "/".join(chr(int(word)) for word in words[1:]) for words in lines if words
        }
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}: damaged ({error})") from None
