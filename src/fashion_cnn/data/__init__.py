"""Load a data set: a source goes in; uint8 images, labels and a fixed split come out."""

import os
from collections.abc import Mapping
from pathlib import Path

from fashion_cnn.data.dataset import Data, as_data
from fashion_cnn.data.decisions import Decisions, decide_arrays, read_decisions
from fashion_cnn.data.fashion_mnist import is_fashion_mnist, load_fashion_mnist
from fashion_cnn.data.mnist import idx_folder, load_idx, load_npz

__all__ = ["Data", "as_data", "load_data", "reload_data"]


def load_data(
    source: str | Path = "fashion-mnist",
    image_size: int = 0,
    groups: str = "",
    decisions: str | Path | Decisions = "",
) -> Data:
    """Load a data set.

    Args:
        source: `fashion-mnist`; a folder with one folder of pictures per class; a folder of IDX
            files, as in MNIST, KMNIST and EMNIST, or one with torchvision's `raw` below it; or an
            `.npz` with the arrays `x_train`, `y_train`, `x_test` and `y_test`. Default:
            `fashion-mnist`.
        image_size: height and width in pixels to which pictures in class folders are resized.
            Default: 0, which keeps those of one size up to 64x64 and resizes all others to 64x64.
        groups: which pictures in class folders belong together and go to the same split: a CSV file
            with the columns `file` (relative to the folder) and `group`, by its path or its name in
            the folder; or a regular expression, whose first parenthesis in the path of a picture is
            its group. Default: copies of a file alone.
        decisions: the path of a `decisions.csv`, which `fashion-cnn label` writes, or what
            `read_decisions` returns: labels that people have corrected, pictures to leave out, and
            pictures to add. Default: none.

    Returns:
        `Data`; for Fashion-MNIST 60,000 training images, of which 5,000 (500 per class, always the
            same) are held out for validation, and 10,000 test images, uint8 (n, 28, 28).

    Raises:
        FileNotFoundError: the source, or the file of groups or decisions, does not exist, or
            Fashion-MNIST cannot be downloaded.
        ValueError: a file is damaged, the source cannot be used for training, or the decisions are
            about other data.
    """
    decided = decisions if isinstance(decisions, Decisions) else None
    if decisions and not decided:
        decided = read_decisions(str(decisions))
    path = Path(os.path.expanduser(source))
    is_default = str(source) == "fashion-mnist"
    idx_path = idx_folder(path) if path.is_dir() and not is_default else None
    if is_default or path.is_file() or idx_path:
        if groups:
            raise ValueError(
                f"--groups: got {source}; expected a folder of class folders; from Python, give "
                "Data(…, train_groups=…) the group of each training image"
            )
        data = _load_arrays(path, idx_path, is_default)
        return decide_arrays(data, decided) if decided else data
    if not path.is_dir():
        raise FileNotFoundError(
            f"--data: no folder {str(source)!r}; expected fashion-mnist, a folder of class folders "
            "or of IDX files, or an .npz"
        )
    from fashion_cnn.data.folder import load_folder  # slow to import

    return load_folder(path, image_size, groups, decided)


def reload_data(origin: Mapping[str, str | None], image_size: int = 0) -> Data:
    """Load data again, as it was when `Data.origin` was read, also if more has been decided since.

    Args:
        origin: `source`, `groups`, `decisions` and `decisions_sha256`. Default of each that is
            missing, empty or None: that of `load_data`, and for the last all decisions.
        image_size: as of `load_data`.

    Raises:
        FileNotFoundError, ValueError: as `load_data` does.
    """
    decisions: str | Decisions = ""
    if path := origin.get("decisions"):
        decisions = read_decisions(path, origin.get("decisions_sha256") or "")
    source = origin.get("source") or "fashion-mnist"
    return load_data(source, image_size, origin.get("groups") or "", decisions)


def _load_arrays(path: Path, idx_path: Path | None, is_default: bool) -> Data:
    """Load Fashion-MNIST, a folder of IDX files or an `.npz`."""
    if is_default:
        return load_fashion_mnist()
    if idx_path:
        return (load_fashion_mnist if is_fashion_mnist(idx_path) else load_idx)(idx_path)
    return load_npz(path)
