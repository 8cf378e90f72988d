"""Fashion-MNIST: find it on this machine or fetch it, verify every byte, hand out `Data`."""

import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np

from fashion_cnn.data.cache import cache_root
from fashion_cnn.data.dataset import Data
from fashion_cnn.data.idx import read_idx

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
# file -> (shape, SHA-256 of the decompressed bytes)
FILES = {
    "train-images-idx3-ubyte": (
        (60000, 28, 28),
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "train-labels-idx1-ubyte": (
        (60000,),
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "t10k-images-idx3-ubyte": (
        (10000, 28, 28),
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    "t10k-labels-idx1-ubyte": (
        (10000,),
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}
MIRRORS = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("usr/share/datasets/fashion-mnist")


def load_fashion_mnist(source: str = "fashion-mnist") -> Data:
    """Load Fashion-MNIST from `source`, or look for it, or download it.

    The order: `source` if it is a folder, the folder in `FASHION_CNN_DATA`, the project's cache,
    Keras's cache, Debian's package, then the mirrors and, where apt is, Debian's package fetched
    into the cache. Only verified files are used or kept.
    """
    given = source if source != "fashion-mnist" else os.environ.get("FASHION_CNN_DATA", "")
    if given:
        arrays = _read_folder(_given_folder(given))
        return _as_data(arrays, Path(given).resolve(), str(Path(given).resolve()))
    for folder in (cache_folder(), _keras_folder(), Path("/") / DEBIAN_FOLDER):
        if any(_file(folder, name) for name in FILES):
            try:
                return _as_data(_read_folder(folder), folder, "fashion-mnist")
            except (ValueError, FileNotFoundError) as error:
                warnings.warn(f"{error}; looking elsewhere", stacklevel=2)
    return _as_data(_fetch(cache_folder()), cache_folder(), "fashion-mnist")


def is_fashion_mnist(folder: Path) -> bool:
    """Whether a folder has at least one of Fashion-MNIST's files; then all of them must be."""
    for name, (_, expected) in FILES.items():
        if path := _file(folder, name):
            with suppress(ValueError):
                if read_idx(path)[1] == expected:
                    return True
    return False


def cache_folder() -> Path:
    """The project's own folder for data, in the user's cache."""
    return cache_root() / "fashion-mnist"


def _keras_folder() -> Path:
    home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    return Path(home) / "datasets" / "fashion-mnist"


def _given_folder(given: str) -> Path:
    if Path(given).is_dir():
        return Path(given)
    raise FileNotFoundError(
        f"FASHION_CNN_DATA: no folder {given!r}; expected one with "
        + ", ".join(f"{name}[.gz]" for name in FILES)
    )


def _file(folder: Path, name: str) -> Path | None:
    # os.path's answers no where it may not look; Path's would raise
    return next((p for p in (folder / f"{name}.gz", folder / name) if os.path.isfile(p)), None)


def _read_folder(folder: Path) -> list[np.ndarray]:
    missing = [name for name in FILES if not _file(folder, name)]
    if missing:
        raise FileNotFoundError(f"{folder}: missing {', '.join(missing)} (.gz or not)")
    return [_read_verified(path, name) for name in FILES if (path := _file(folder, name))]


def _read_verified(path: Path, name: str) -> np.ndarray:
    shape, expected = FILES[name]
    array, found = read_idx(path)
    if array.shape != shape:
        raise ValueError(f"{path}: shape {array.shape}; Fashion-MNIST has {shape}")
    if found != expected:
        raise ValueError(
            f"{path}: right shape but not Fashion-MNIST (SHA-256 {found}, expected {expected}); "
            "the digits of plain MNIST have the same shape and file names"
        )
    return array


def _as_data(arrays: list[np.ndarray], folder: Path, source: str) -> Data:
    sha256 = {name: digest for name, (_, digest) in FILES.items()}
    train_images, train_labels, test_images, test_labels = arrays
    return Data(
        train_images,
        train_labels,
        test_images,
        test_labels,
        CLASS_NAMES,
        source=source,
        location=str(folder),
        sha256=sha256,
    )


def _fetch(cache: Path) -> list[np.ndarray]:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        into = tempfile.TemporaryDirectory(dir=cache)
    except OSError as error:
        raise OSError(
            f"{cache}: cannot be written ({error.strerror}), and Fashion-MNIST is not on this "
            "machine; set XDG_CACHE_HOME to a folder that can, or give --data a folder of its files"
        ) from None
    failures = []
    with into as scratch:
        for get in (*(lambda into, m=m: _from_mirror(m, into) for m in MIRRORS), _from_debian):
            try:
                folder = get(Path(scratch))
                arrays = _read_folder(folder)
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                failures.append(" ".join(str(error).replace(f"{scratch}/", "").split())[:240])
                continue
            for name in FILES:
                if path := _file(folder, name):
                    os.replace(path, cache / path.name)
            return arrays
    raise FileNotFoundError(
        "Fashion-MNIST: not on this machine, and no mirror gave it: "
        + "; ".join(failures)
        + ". Put its four files into a folder and give it with --data"
    )


def _from_mirror(mirror: str, scratch: Path) -> Path:
    import pooch

    get = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=15)
    pooch.get_logger().setLevel("ERROR")
    for name in FILES:
        file = f"{name}.gz"
        print(f"Downloading {mirror}{file}", file=sys.stderr)
        _retried(lambda file=file: get(mirror + file, str(scratch / file), None))
        _read_verified(scratch / file, name)
    return scratch


def _retried(get, attempts: int = 2) -> None:  # type: ignore[no-untyped-def]
    import requests

    for attempt in range(attempts):
        try:
            return get()
        except requests.Timeout:
            if attempt + 1 == attempts:
                raise


def _from_debian(scratch: Path) -> Path:
    """Debian's package, fetched by apt-get into `scratch`; nothing of the system changes."""
    apt, dpkg = shutil.which("apt-get"), shutil.which("dpkg-deb")
    if not apt or not dpkg:
        raise FileNotFoundError("apt-get and dpkg-deb are not here")
    print(f"Downloading Debian's package {DEBIAN_PACKAGE} with apt-get", file=sys.stderr)
    for folder in ("lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True, exist_ok=True)
    private = [f"-oDir::State::Lists={scratch}/lists", f"-oDir::Cache={scratch}/cache"]
    private += ["-oDebug::NoLocking=1", "-oAPT::Sandbox::User=", "-oAcquire::Retries=2"]
    for command in ("update", "download"):
        package = [DEBIAN_PACKAGE] if command == "download" else []
        done = subprocess.run(  # noqa: S603 (a fixed command, no shell)
            [apt, "-qq", *private, command, *package],
            cwd=scratch,
            capture_output=True,
            text=True,
            timeout=300,
        )
        if done.returncode:
            raise OSError(f"apt-get {command}: {done.stderr.strip()}")
    archives = list(scratch.glob(f"{DEBIAN_PACKAGE}_*.deb"))
    if not archives:
        raise OSError(f"apt-get download: no package {DEBIAN_PACKAGE}")
    subprocess.run([dpkg, "-x", archives[0], scratch / "deb"], check=True, timeout=60)  # noqa: S603
    return scratch / "deb" / DEBIAN_FOLDER
