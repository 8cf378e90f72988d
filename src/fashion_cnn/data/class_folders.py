"""List the pictures in a folder of class folders: their labels, splits and metadata.

The metadata is cached; a file is read again only if its size or times have changed.
"""

import hashlib
import json
import os
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.console import progress_bar
from fashion_cnn.data.cache import make_cache_folder
from fashion_cnn.data.pictures import SUFFIXES, measure_picture
from fashion_cnn.data.split import stratified
from fashion_cnn.files import write_text

SPLIT_FOLDERS = {"train": "train", "test": "test"}  # folder name in lower case -> split
SPLIT_FOLDERS |= {name: "validation" for name in ("validation", "valid", "val")}
CACHE_VERSION = "3"  # changes whenever pictures are read in another way


@dataclass(frozen=True)
class PictureFile:
    """A picture in a class folder."""

    path: str  # relative to the folder of the data set
    class_name: str
    split: str  # train, validation or test
    sha256: str = ""  # of the file
    size: tuple[int, int] = (0, 0)  # (height, width) in pixels
    gray: bool = False
    error: str | None = None  # why it cannot be read


@dataclass(frozen=True)
class Listing:
    """What is in a folder of class folders."""

    folder: Path
    class_names: tuple[str, ...]  # of all splits, sorted
    pictures: tuple[PictureFile, ...]  # sorted by path
    ignored: int  # how many files are not pictures, or not in a class folder
    missing_splits: tuple[str, ...]  # splits without a folder, which were taken from `train`

    def readable(self) -> list[PictureFile]:
        return [picture for picture in self.pictures if picture.error is None]

    def unreadable(self) -> list[tuple[str, str]]:
        """The path of each picture that cannot be read, as printable text, and the reason."""
        return [(_printable(p.path), p.error) for p in self.pictures if p.error is not None]


def list_pictures(folder: Path) -> Listing:
    """List the pictures in a folder of class folders.

    A missing validation or test split gets a stratified tenth of `train`, always the same one.

    Raises:
        ValueError: there are no class folders.
    """
    pictures, ignored = _find_files(folder)
    class_names = tuple(sorted({picture.class_name for picture in pictures}))
    if len(class_names) < 2:
        raise ValueError(
            f"{folder}: expected at least two folders with pictures in them, one per class, in it "
            "or in its train, validation and test; or IDX files; or give an .npz"
        )
    pictures.sort(key=lambda picture: unicodedata.normalize("NFC", picture.path))
    pictures = _read_metadata(folder, pictures)
    splits = {picture.split for picture in pictures}
    missing = tuple(name for name in ("test", "validation") if name not in splits)
    pictures = _complete_splits(pictures, missing)
    return Listing(folder, class_names, tuple(pictures), ignored, missing)


def record_errors(folder: Path, errors: dict[str, str]) -> None:
    """Mark pictures as unreadable in the cached metadata: path -> reason."""
    cache_file, metadata = _load_metadata(folder)
    for path, reason in errors.items():
        metadata.setdefault(path, {})["error"] = reason
    write_text(cache_file, json.dumps(metadata))


def _printable(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def _find_files(folder: Path) -> tuple[list[PictureFile], int]:
    """The pictures, without metadata, and the number of other files."""
    ignored = _count_files(folder)
    class_folders = [("train", path) for path in _subfolders(folder)]
    split_folders = [p for _, p in class_folders if p.name.lower() in SPLIT_FOLDERS]
    if any(p.name.lower() == "train" and _subfolders(p) for p in split_folders):
        class_folders = []
        for path in split_folders:
            subfolders = _subfolders(path)
            if not subfolders and any(p.suffix.lower() in SUFFIXES for p in path.iterdir()):
                raise ValueError(f"{path}: has pictures, but no class folders as train has")
            ignored += _count_files(path)
            split = SPLIT_FOLDERS[path.name.lower()]
            class_folders += [(split, subfolder) for subfolder in subfolders]
    pictures = []
    for split, class_folder in class_folders:
        class_name = unicodedata.normalize("NFC", class_folder.name)  # macOS decomposes accents
        for path in class_folder.rglob("*"):
            parts = path.relative_to(class_folder).parts
            if any(part[0] == "." for part in parts) or not path.is_file():
                continue
            if path.suffix.lower() in SUFFIXES:
                pictures.append(PictureFile(path.relative_to(folder).as_posix(), class_name, split))
            else:
                ignored += 1
    return pictures, ignored


def _subfolders(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if p.is_dir() and p.name[0] != "."]


def _count_files(folder: Path) -> int:
    return sum(p.is_file() and p.name[0] != "." for p in folder.iterdir())


def _complete_splits(pictures: list[PictureFile], missing: Sequence[str]) -> list[PictureFile]:
    """Move a tenth of `train` to each missing split, copies of a file to the same one."""
    splits = np.array([picture.split for picture in pictures], dtype="U10")
    _, labels = np.unique([picture.class_name for picture in pictures], return_inverse=True)
    train = np.flatnonzero(splits == "train").tolist()
    first: dict[str, int] = {}  # SHA-256 -> first picture with it
    originals = [first.setdefault(pictures[i].sha256 or str(i), i) for i in train]
    unique = np.unique(originals).astype(int)
    for name in missing:
        remaining = unique[splits[unique] == "train"]
        splits[remaining[stratified(labels[remaining], round(len(unique) / 10))]] = name
    splits[train] = splits[originals]
    return [replace(p, split=str(split)) for p, split in zip(pictures, splits, strict=True)]


def _read_metadata(folder: Path, pictures: list[PictureFile]) -> list[PictureFile]:
    """Fill in the metadata, from the cache where a file has not changed."""
    cache_file, cached = _load_metadata(folder)
    metadata: dict[str, dict[str, Any]] = {}
    changed = []
    for picture in pictures:
        try:
            status = os.stat(folder / picture.path)
        except OSError as error:
            metadata[picture.path] = {"stat": None, "error": error.strerror}
            continue
        stat = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        metadata[picture.path] = cached.get(picture.path, {})
        if metadata[picture.path].get("stat") != stat:
            metadata[picture.path] = {"stat": stat}
            changed.append(picture.path)
    if changed:
        with progress_bar(len(changed)) as advance, ThreadPoolExecutor() as pool:
            results = pool.map(lambda path: _measure(folder / path), changed)
            for path, result in zip(changed, results, strict=True):
                advance("reading pictures")
                metadata[path] |= result
        write_text(cache_file, json.dumps(metadata))
    complete = []
    for picture in pictures:
        fields = {k: v for k, v in metadata[picture.path].items() if k != "stat"}
        fields["size"] = tuple(fields.get("size", (0, 0)))
        complete.append(replace(picture, **fields))
    return complete


def _load_metadata(folder: Path) -> tuple[Path, dict[str, dict[str, Any]]]:
    """The cache file of a folder, and its content: path -> `stat` and metadata, or `error`."""
    # other decoders, which may read more files, have other cache files
    key = str(folder.resolve()).encode("utf-8", "surrogateescape") + _decoder_versions().encode()
    name = f"{hashlib.sha256(key).hexdigest()[:32]}-{CACHE_VERSION}.json"
    cache_file = make_cache_folder("folders") / name
    try:
        return cache_file, json.loads(cache_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # there is none yet, or it is damaged
        return cache_file, {}


def _measure(path: Path) -> dict[str, Any]:
    if _printable(str(path)) != str(path):
        return {"error": "its name is not UTF-8"}
    try:
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return {"sha256": sha256} | measure_picture(path)
    except (OSError, ValueError) as error:
        return {"error": str(error).removeprefix(f"{path}: ")}


def _decoder_versions() -> str:
    versions = f"pillow {version('pillow')}"
    with suppress(PackageNotFoundError):
        versions += f", pillow-heif {version('pillow-heif')}"
    return versions
