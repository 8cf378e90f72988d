"""Other data sets in the formats of MNIST: a folder of IDX files or an `.npz`, loaded as `Data`."""

import re
import zipfile
import zlib
from pathlib import Path

import numpy as np

from fashion_cnn.data.dataset import Data, arrays_sha256, rank_labels
from fashion_cnn.data.idx import read_idx
from fashion_cnn.data.picture_files import advice_for

# train-images-idx3-ubyte.gz (MNIST, KMNIST), emnist-letters-train-images-idx3-ubyte.gz (EMNIST)
_IDX_NAME = re.compile(r"(.*?)(train|t10k|test)-(images|labels)[-.]idx[134]-ubyte(?:\.gz)?")
NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
MAX_NPZ_BYTES = 1 << 33  # decompressed
_NPZ_ERRORS = (EOFError, MemoryError, ValueError, NotImplementedError, zlib.error)
FLIP_NOTE = "if left and right differ, as in digits and letters: --set augment=shift1 "
FLIP_NOTE += "--set flip_average=false"


def idx_files(folder: Path) -> dict[str, dict[tuple[str, str], Path]]:
    """The IDX files in a folder: name prefix -> (train or test, images or labels) -> path."""
    files: dict[str, dict[tuple[str, str], Path]] = {}
    for path in sorted(folder.iterdir()):  # sorted: a .gz, which has a checksum, takes precedence
        if (match := _IDX_NAME.fullmatch(path.name)) and path.is_file():
            prefix, split, kind = match.groups()
            split = "train" if split == "train" else "test"
            files.setdefault(prefix, {})[split, kind] = path
    return dict(sorted(files.items()))


def idx_folder(folder: Path) -> Path | None:
    """`folder` if it has IDX files, else the folder in it where torchvision stores them, `raw`."""
    if idx_files(folder):
        return folder
    candidates = [folder / "raw", *sorted(folder.glob("*/raw"))]
    with_files = [path for path in candidates if path.is_dir() and idx_files(path)]
    if len(with_files) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in with_files[:10])
        raise ValueError(f"{folder}: more than one data set ({names}); give the folder of one")
    return with_files[0] if with_files else None


def load_idx(folder: Path) -> Data:
    """Load a folder of four IDX files, named as in MNIST, KMNIST or EMNIST, gzipped or not."""
    data_sets = idx_files(folder)
    if len(data_sets) > 1:
        names = ", ".join(f"{prefix}*" for prefix in data_sets)
        raise ValueError(f"{folder}: more than one data set ({names}); give each its own folder")
    ((prefix, paths),) = data_sets.items()
    parts = [(split, kind) for split in ("train", "test") for kind in ("images", "labels")]
    if missing := [part for part in parts if part not in paths]:
        usual_name = {"train": "train", "test": "t10k"}
        names = ", ".join(f"{prefix}{usual_name[split]}-{kind}" for split, kind in missing)
        raise FileNotFoundError(
            f"{folder}: missing {names} (-idx3-ubyte or -idx1-ubyte, .gz or not)"
        )
    arrays, sha256 = [], {}
    for split, kind in parts:
        array, sha256[f"{split}-{kind}"] = read_idx(paths[split, kind])
        if kind == "images" and array.ndim > 2 and prefix.startswith("emnist"):  # transposed
            array = np.ascontiguousarray(array.swapaxes(1, 2))
        arrays.append(array)
    return _as_data(folder, arrays, _read_mapping(folder / f"{prefix}mapping.txt"), sha256)


def load_npz(path: Path) -> Data:
    """Load an `.npz` of `NPZ_KEYS`, like those of Keras; labels are integers or names."""
    _refuse_other_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > MAX_NPZ_BYTES:
            raise ValueError(f"{size:,} bytes in it; at most {MAX_NPZ_BYTES:,}")
        with np.load(path, allow_pickle=False) as file:
            if missing := [name for name in NPZ_KEYS if name not in file]:
                raise ValueError(_describe_missing(missing, list(file)))
            arrays = [file[name] for name in NPZ_KEYS]
    except (*_NPZ_ERRORS, zipfile.BadZipFile) as error:
        message = str(error) or type(error).__name__
        raise ValueError(f"{path}: {message}; expected an .npz of {', '.join(NPZ_KEYS)}") from None
    sha256 = arrays_sha256(**dict(zip(NPZ_KEYS, arrays, strict=True)))
    return _as_data(path, arrays, {}, sha256)


def _refuse_other_file(path: Path) -> None:
    """Raise ValueError for a file of a known kind that is no `.npz`, saying what to do with it."""
    expected = f"expected an .npz of {', '.join(NPZ_KEYS)}"
    if _IDX_NAME.fullmatch(path.name):
        raise ValueError(f"{path}: one of four IDX files; give the folder that holds them")
    if path.suffix.lower() in (".csv", ".tsv", ".parquet", ".json", ".pkl", ".mat"):
        raise ValueError(
            f"{path}: {path.suffix[1:].upper()} is not read; {expected}, which numpy.savez writes "
            "(Fashion-MNIST itself is loaded without --data)"
        )
    if advice := advice_for(path):
        raise ValueError(f"{path}: {expected}, or a folder{advice}")


def _describe_missing(missing: list[str], names: list[str]) -> str:
    shown = f"{', '.join(names[:5])}{', …' * (len(names) > 5)}"
    return f"has no {', '.join(missing)} but {shown[:200] or 'nothing'}"


def _as_data(
    path: Path, arrays: list[np.ndarray], mapping: dict[str, str], sha256: dict[str, str]
) -> Data:
    """`Data` with numbered labels; `mapping` has names for some of them."""
    x_train, y_train, x_test, y_test = arrays
    source = str(path.resolve())
    try:
        y_train, y_test, labels = rank_labels(y_train, y_test)
        names = tuple(mapping.get(label, label) for label in labels)
        return Data(
            x_train, y_train, x_test, y_test, names, source, source, sha256, notes=(FLIP_NOTE,)
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read_mapping(path: Path) -> dict[str, str]:
    """EMNIST's class names; each line has a label and the code points of its characters."""
    if not path.is_file():
        return {}
    names = {}
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            if words := line.split():
                names[words[0]] = "/".join(chr(int(word)) for word in words[1:])
        return names
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}: damaged ({error})") from None
