"""Fashion-MNIST as `Data`: found on this machine or downloaded, and verified by checksum."""

import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from fashion_cnn.data.cache import cache_root
from fashion_cnn.data.dataset import Data
from fashion_cnn.data.idx import read_idx

CLASS_NAMES: tuple[str, ...] = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")
CLASS_NAMES += ("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
FILES = {  # file name -> shape
    "train-images-idx3-ubyte": (60000, 28, 28),
    "train-labels-idx1-ubyte": (60000,),
    "t10k-images-idx3-ubyte": (10000, 28, 28),
    "t10k-labels-idx1-ubyte": (10000,),
}
SHA256 = {  # of the decompressed bytes
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
MIRRORS = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("usr/share/datasets/fashion-mnist")


def load_fashion_mnist(folder: Path | None = None) -> Data:
    """Load Fashion-MNIST from `folder` or FASHION_CNN_DATA; otherwise find or download it."""
    if folder is None and (variable := os.environ.get("FASHION_CNN_DATA")):
        folder = Path(os.path.expanduser(variable))
        if not folder.is_dir():
            raise FileNotFoundError(
                f"FASHION_CNN_DATA: no folder {variable!r}; expected one with "
                + ", ".join(f"{name}[.gz]" for name in FILES)
            )
    if folder is not None:
        location = str(folder.resolve())
        return replace(_read_folder(folder), source=location, location=location)
    cache = cache_root() / "fashion-mnist"
    keras = Path(os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras"), "datasets")
    for candidate in (cache, keras / "fashion-mnist", Path("/") / DEBIAN_FOLDER):
        if any(find_file(candidate, name) for name in FILES):
            try:
                return _read_folder(candidate)
            except (ValueError, FileNotFoundError) as error:
                warnings.warn(f"{error}; looking elsewhere", stacklevel=2)
    return _download(cache)


def is_fashion_mnist(folder: Path) -> bool:
    """Whether at least one file in a folder is one of Fashion-MNIST, by its checksum."""
    for name in FILES:
        if path := find_file(folder, name):
            with suppress(ValueError):
                if read_idx(path)[1] == SHA256[name]:
                    return True
    return False


def find_file(folder: Path, name: str) -> Path | None:
    """The path of one of `FILES` in a folder, gzipped or not; None if it is missing."""
    paths = (folder / f"{name}.gz", folder / name)
    # os.path.isfile is False in an unreadable folder, where Path.is_file raises
    return next((path for path in paths if os.path.isfile(path)), None)


def _read_folder(folder: Path) -> Data:
    """Read and verify the four files in a folder."""
    paths = {name: find_file(folder, name) for name in FILES}
    if missing := [name for name, path in paths.items() if path is None]:
        raise FileNotFoundError(f"{folder}: missing {', '.join(missing)} (.gz or not)")
    arrays = [_read_verified(path, name) for name, path in paths.items() if path]
    x_train, y_train, x_test, y_test = arrays
    source, location = "fashion-mnist", str(folder)
    return Data(x_train, y_train, x_test, y_test, CLASS_NAMES, source, location, dict(SHA256))


def _read_verified(path: Path, name: str) -> np.ndarray:
    array, digest = read_idx(path)
    if array.shape != FILES[name]:
        raise ValueError(f"{path}: shape {array.shape}; Fashion-MNIST has {FILES[name]}")
    if digest != SHA256[name]:
        raise ValueError(
            f"{path}: right shape but not Fashion-MNIST (SHA-256 {digest}, expected "
            f"{SHA256[name]}); the digits of plain MNIST have the same shape and file names"
        )
    return array


def _download(cache: Path) -> Data:
    """Download the files from the first source that works, verify them, move them to `cache`."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(dir=cache)
    except OSError as error:
        raise OSError(
            f"{cache}: cannot be written ({error.strerror}), and Fashion-MNIST is not on this "
            "machine; set XDG_CACHE_HOME to a writable folder, or give --data a folder with its "
            "files"
        ) from None
    downloads = [partial(_from_mirror, url) for url in MIRRORS] + [partial(_from_debian)]
    errors = []
    with temporary as scratch:
        for download in downloads:
            try:
                folder = download(Path(scratch))
                data = _read_folder(folder)
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                errors.append(" ".join(str(error).replace(f"{scratch}/", "").split())[:240])
                continue
            for name in FILES:
                if path := find_file(folder, name):
                    os.replace(path, cache / path.name)
            return replace(data, location=str(cache))
    raise FileNotFoundError(
        f"Fashion-MNIST: not on this machine, and no download succeeded: {'; '.join(errors)}. "
        "Put its four files into a folder and pass the folder as --data"
    )


def _from_mirror(url: str, scratch: Path) -> Path:
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    download = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=15)
    for name in FILES:
        address, path = f"{url}{name}.gz", str(scratch / f"{name}.gz")
        print(f"Downloading {address}", file=sys.stderr)
        try:
            download(address, path, None)
        except requests.Timeout:  # try once more
            download(address, path, None)
    return scratch


def _from_debian(scratch: Path) -> Path:
    """Download and unpack the Debian package in `scratch`; nothing is installed."""
    apt, dpkg = shutil.which("apt-get"), shutil.which("dpkg-deb")
    if not apt or not dpkg:
        raise FileNotFoundError("apt-get and dpkg-deb are not installed")
    print(f"Downloading the Debian package {DEBIAN_PACKAGE} with apt-get", file=sys.stderr)
    for folder in ("lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True, exist_ok=True)
    options = ["-qq", f"-oDir::State::Lists={scratch}/lists", f"-oDir::Cache={scratch}/cache"]
    options += ["-oDebug::NoLocking=1", "-oAPT::Sandbox::User=", "-oAcquire::Retries=2"]
    for command in (["update"], ["download", DEBIAN_PACKAGE]):
        result = subprocess.run(  # noqa: S603 (a fixed command, no shell)
            [apt, *options, *command], cwd=scratch, capture_output=True, text=True, timeout=300
        )
        if result.returncode:
            raise OSError(f"apt-get {command[0]}: {result.stderr.strip()}")
    archives = list(scratch.glob(f"{DEBIAN_PACKAGE}_*.deb"))
    if not archives:
        raise OSError(f"apt-get download: no package {DEBIAN_PACKAGE}")
    subprocess.run([dpkg, "-x", archives[0], scratch / "deb"], check=True, timeout=60)  # noqa: S603
    return scratch / "deb" / DEBIAN_FOLDER
