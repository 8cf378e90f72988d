"""The user's cache: what took long to make, bounded; arrays in it are mapped, not read."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.files import TEMPORARY, write_atomically

MAX_BYTES = 10 * 10**9  # of all arrays together; the ones not used for longest go first
_DAY = 86_400


def cache_root() -> Path:
    """The project's own folder in the user's cache; XDG_CACHE_HOME moves it."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("fashion-cnn", appauthor=False))


def make_cache_folder(name: str) -> Path:
    """A folder of the cache.

    Raises:
        OSError: it cannot be made.
    """
    folder = cache_root() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"{folder}: cannot be made ({error.strerror}); set XDG_CACHE_HOME to a folder that can "
            "be written"
        ) from None
    return folder


def cached_array(
    name: str, shape: tuple[int, ...], dtype: str, fill: Callable[[np.ndarray], Any]
) -> np.ndarray:
    """An array from the cache, or made now; read only.

    Args:
        name: of its file, without ending; all that the content depends on must be in it.
        shape: of the array.
        dtype: of the array.
        fill: is given the array to be filled; if it raises, nothing is kept.

    Raises:
        OSError: the cache cannot be written, or the disk is full.
        ValueError: the array would take more than the cache may.
    """
    path = make_cache_folder("arrays") / f"{name}.npy"

    def write(temporary: Path) -> None:
        array = np.lib.format.open_memmap(temporary, "w+", dtype, shape)
        if hasattr(os, "posix_fallocate"):  # a full disk is an error now, and death later
            with open(temporary, "rb+") as file:
                os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
        fill(array)
        array.flush()

    while True:
        if not path.is_file():
            _make_room(path.parent, shape, int(np.prod(shape)) * np.dtype(dtype).itemsize)
            write_atomically(path, write).chmod(0o600)  # the pictures may be private
        with suppress(FileNotFoundError):  # another process has made room
            os.utime(path)  # used just now
            return np.load(path, mmap_mode="r", allow_pickle=False)


def _make_room(folder: Path, shape: tuple[int, ...], size: int) -> None:
    """Delete what has not been used for longest until `size` more bytes are within the bound."""
    if size > MAX_BYTES:
        raise ValueError(
            f"{shape[0]:,} pictures of {'x'.join(map(str, shape[1:]))} take {size:,} bytes in the "
            f"cache, which may have {MAX_BYTES:,}; --set image_size=… makes them smaller"
        )
    for left in folder.glob(f"{TEMPORARY}*"):  # of a process that was killed
        with suppress(OSError):
            if left.stat().st_mtime < time.time() - _DAY:
                left.unlink()
    kept = []
    for path in folder.glob("*.npy"):
        with suppress(FileNotFoundError):  # another process was faster
            kept.append((path.stat().st_mtime, path.stat().st_size, path))
    kept.sort()
    total = size + sum(length for _, length, _ in kept)
    for _, length, old in kept:
        if total > MAX_BYTES:
            total -= length
            with suppress(OSError):  # Windows: somebody has it open
                old.unlink()
