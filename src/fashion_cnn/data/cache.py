"""The user's cache of arrays that are slow to compute: limited in size, and memory-mapped."""

import errno
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.files import TEMPORARY, write_atomically

MAX_CACHE_BYTES = 10 * 10**9  # of all arrays together; the least recently used are deleted first


def cache_root() -> Path:
    """The folder of this project in the user's cache; XDG_CACHE_HOME moves it."""
    import platformdirs

    if folder := os.environ.get("XDG_CACHE_HOME"):  # platformdirs reads it on Linux only
        return Path(folder) / "fashion-cnn"
    return Path(platformdirs.user_cache_dir("fashion-cnn", appauthor=False))


def make_cache_folder(name: str) -> Path:
    """Create a folder in the cache if it does not exist."""
    folder = cache_root() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"{folder}: cannot be created ({error.strerror}); set XDG_CACHE_HOME to a writable "
            "folder"
        ) from None
    return folder


def cached_array(
    name: str, shape: tuple[int, ...], dtype: str, fill: Callable[[np.ndarray], Any]
) -> np.ndarray:
    """Return an array from the cache, memory-mapped and read-only; compute it if it is missing.

    Args:
        name: file name without suffix; must identify everything on which the content depends.
        fill: called with the empty array, fills it in place; if it raises, nothing is stored.

    Raises:
        OSError: the cache is not writable, or the disk is full.
        ValueError: the array exceeds the size limit of the cache.
    """
    path = make_cache_folder("arrays") / f"{name}.npy"

    def write(temporary: Path) -> None:
        array = np.lib.format.open_memmap(temporary, "w+", dtype, shape)
        if hasattr(os, "posix_fallocate"):  # a full disk raises here, instead of SIGBUS later
            with open(temporary, "rb+") as file:
                os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
        elif shutil.disk_usage(temporary.parent).free < array.nbytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fill(array)
        array.flush()

    while True:
        if not path.is_file():
            _evict(path.parent, shape, int(np.prod(shape)) * np.dtype(dtype).itemsize)
            try:
                write_atomically(path, write)
            except OSError:
                if not path.is_file():  # Windows: else another process has made and opened it
                    raise
            else:
                path.chmod(0o600)  # the pictures may be private
        with suppress(FileNotFoundError):  # another process has evicted it
            os.utime(path)  # marks it as recently used
            return np.load(path, mmap_mode="r", allow_pickle=False)


def _evict(folder: Path, shape: tuple[int, ...], new_bytes: int) -> None:
    """Delete the least recently used arrays until `new_bytes` more fit into the cache."""
    if new_bytes > MAX_CACHE_BYTES:
        raise ValueError(
            f"{shape[0]:,} images of {'x'.join(map(str, shape[1:]))} need {new_bytes:,} bytes in "
            f"the cache; at most {MAX_CACHE_BYTES:,}; give a smaller --set image_size=…"
        )
    for leftover in folder.glob(f"{TEMPORARY}*"):  # of a process that was killed
        with suppress(OSError):
            if leftover.stat().st_mtime < time.time() - 86_400:  # a day
                leftover.unlink()
    entries = []
    for path in folder.glob("*.npy"):
        with suppress(FileNotFoundError):  # another process has deleted it
            entries.append((path.stat().st_mtime, path.stat().st_size, path))
    total = new_bytes + sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total > MAX_CACHE_BYTES:
            total -= size
            with suppress(OSError):  # Windows: another process has opened it
                path.unlink()
