"""List the pictures in a folder of class folders: their labels, splits and metadata.

The metadata is cached; a file is read again only if its size or times have changed.
"""

import hashlib
import json
import os
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.console import printable, progress_bar
from fashion_cnn.data.cache import make_cache_folder
from fashion_cnn.data.decisions import Decisions
from fashion_cnn.data.groups import Groups, read_groups
from fashion_cnn.data.picture_files import SUFFIXES, is_picture, walk
from fashion_cnn.data.pictures import measure_picture
from fashion_cnn.data.split import join_groups, split_groups, stratified
from fashion_cnn.data.split_folders import find_class_folders, split_of
from fashion_cnn.files import write_text
from fashion_cnn.machine import version

CACHE_VERSION = "4"  # changes whenever pictures are read in another way


@dataclass(frozen=True)
class PictureFile:
    """A file in a class folder."""

    path: str  # relative to the folder of the data set
    class_name: str
    split: str  # train, validation or test
    sha256: str = ""  # of the file
    size: tuple[int, int] = (0, 0)  # (height, width) in pixels
    gray: bool = False
    is_picture: bool = True
    error: str | None = None  # why it cannot be read
    group: str = ""  # what belongs together; empty without groups
    decided: str | None = None  # the class that people gave it; empty: leave it out
    is_added: bool = False  # by decisions; `path` is then absolute

    @property
    def label(self) -> str:
        """The class that it has after decisions."""
        return self.decided or self.class_name


@dataclass(frozen=True)
class Listing:
    """What is in a folder of class folders."""

    folder: Path
    class_names: tuple[str, ...]  # of the readable pictures of all splits, sorted
    pictures: tuple[PictureFile, ...]  # sorted by path
    ignored: tuple[str, ...]  # paths of files that are not pictures, or not in a class folder
    without_pictures: tuple[str, ...]  # names of class folders without a readable picture
    missing_splits: tuple[str, ...]  # splits without a folder, which were taken from `train`
    groups: Groups
    decisions: Decisions | None = None  # that were applied
    decisions_note: str = ""  # what they did, for people

    def readable(self) -> list[PictureFile]:
        """The pictures that can be read, those that decisions leave out included."""
        return [picture for picture in self.pictures if picture.error is None]

    def kept(self) -> list[PictureFile]:
        """The pictures that can be read, and that no decision leaves out."""
        return [picture for picture in self.readable() if picture.decided != ""]

    def unreadable(self) -> list[tuple[str, str]]:
        """The path of each picture that cannot be read, as printable text, and the reason."""
        return [(printable(p.path), p.error) for p in self.pictures if p.error is not None]

    def split_like_classes(self) -> list[str]:
        """The class names that look like names of splits."""
        return [name for name in self.class_names if split_of(name)]

    def copies(self) -> list[tuple[str, str]]:
        """The paths of each picture that is the same file as one of another class, and of that."""
        first: dict[str, PictureFile] = {}  # SHA-256 -> first picture with it
        pairs = [(p, first.setdefault(p.sha256, p)) for p in self.kept()]
        return [(p.path, q.path) for p, q in pairs if p.label != q.label]


def list_pictures(folder: Path, groups: str = "") -> Listing:
    """List the pictures in a folder of class folders.

    A missing validation or test split gets a stratified tenth of `train`, always the same one.

    Args:
        folder: holds the class folders, or those of splits.
        groups: what belongs together and goes to the same split, as `read_groups` takes it.
            Default: copies of a file alone.

    Raises:
        FileNotFoundError: there is no such file of groups.
        ValueError: there are no class folders, or the groups do not fit.
    """
    folder_names, files, ignored = _find_files(folder)
    files.sort(key=lambda file: unicodedata.normalize("NFC", file.path))
    files = _read_metadata(folder, files)
    ignored += [file.path for file in files if not file.is_picture]
    ignored.sort()
    pictures = [file for file in files if file.is_picture]
    _require_classes(folder, pictures, ignored)
    grouping = Groups()
    if groups:
        readable = [picture.path for picture in pictures if picture.error is None]
        grouping = read_groups(folder, groups, readable)
        pictures = [replace(p, group=grouping.names.get(p.path, p.path)) for p in pictures]
        ignored = [path for path in ignored if path != grouping.option]
    splits = {picture.split for picture in pictures}
    missing = tuple(name for name in ("test", "validation") if name not in splits)
    pictures = _complete_splits(pictures, missing)
    class_names = {picture.class_name for picture in pictures if picture.error is None}
    return Listing(
        folder,
        tuple(sorted(class_names)),
        tuple(pictures),
        tuple(map(printable, ignored)),
        tuple(map(printable, sorted(folder_names - class_names))),
        missing,
        grouping,
    )


def record_errors(folder: Path, errors: dict[str, str]) -> None:
    """Mark pictures as unreadable in the cached metadata: path -> reason."""
    cache_file, metadata = _load_metadata(folder)
    for path, reason in errors.items():
        metadata.setdefault(path, {})["error"] = reason
    write_text(cache_file, json.dumps(metadata))


def _find_files(folder: Path) -> tuple[set[str], list[PictureFile], list[str]]:
    """The names of the class folders, the files in them, and the paths of all other files."""
    folders, paths = [], []
    for root, _, names in walk(folder):
        parts = Path(root).relative_to(folder).parts
        folders.append(parts)
        paths += [(*parts, name) for name in names]
    class_folders = find_class_folders(folder, folders)
    # macOS decomposes accents
    class_names = {p: unicodedata.normalize("NFC", p[-1]) for p in class_folders}
    split_folders = {parts[:-1] for parts in class_folders}
    files, ignored = [], []
    for parts in paths:
        path, parents = "/".join(parts), [parts[:depth] for depth in range(1, len(parts))]
        if class_folder := next((p for p in parents if p in class_folders), None):
            split = class_folders[class_folder]
            files.append(PictureFile(path, class_names[class_folder], split))
            continue
        is_split = parents and parents[-1] not in split_folders and all(map(split_of, parts[:-1]))
        if is_split and path.lower().endswith(SUFFIXES):
            raise ValueError(
                f"{folder.joinpath(*parts[:-1])}: has pictures, but no class folders as train has"
            )
        ignored.append(path)
    return set(class_names.values()), files, ignored


def _require_classes(folder: Path, pictures: list[PictureFile], ignored: list[str]) -> None:
    """Raise ValueError unless there are pictures in two class folders."""
    names = {picture.class_name for picture in pictures}
    if len(names) > 1:
        return
    message = (
        f"{folder}: expected at least two folders with pictures in them, one per class, in it or "
        f"in its train, validation and test; or IDX files; or give an .npz; got {len(names)}"
    )
    if names:
        message += f" ({printable(names.pop())})"
    subfolders = {Path(picture.path).parent for picture in pictures}
    outer = {subfolder.parent for subfolder in subfolders}
    if len(subfolders) > 1 and len(outer) == 1:
        classes = printable(str(folder / outer.pop()))
        message += f"; if the folders in it are the classes, give {classes}"
    if ignored:
        message += f"; files left out: {len(ignored)}, the first: {printable(ignored[0])}"
    raise ValueError(message)


def _complete_splits(pictures: list[PictureFile], missing: Sequence[str]) -> list[PictureFile]:
    """Move a tenth of `train` to each missing split, copies and groups to the same one."""
    splits = np.array([picture.split for picture in pictures], dtype="U10")
    _, labels = np.unique([picture.class_name for picture in pictures], return_inverse=True)
    train = np.flatnonzero(splits == "train").tolist()
    if missing and pictures[0].group:
        groups = join_copies([pictures[i] for i in train])
        shares = [1 - len(missing) / 10, *[0.1] * len(missing)]
        splits[train] = np.array(["train", *missing])[split_groups(labels[train], groups, shares)]
    else:
        first: dict[str, int] = {}  # SHA-256 -> first picture with it
        originals = [first.setdefault(pictures[i].sha256 or str(i), i) for i in train]
        unique = np.unique(originals).astype(int)
        for name in missing:
            remaining = unique[splits[unique] == "train"]
            splits[remaining[stratified(labels[remaining], round(len(unique) / 10))]] = name
        splits[train] = splits[originals]
    return [replace(p, split=str(split)) for p, split in zip(pictures, splits, strict=True)]


def join_copies(pictures: Sequence[PictureFile]) -> np.ndarray:
    """The number of each picture's group, int64 (n,); groups with copies of a file are one."""
    copies = [picture.sha256 or picture.path for picture in pictures]
    return join_groups(copies, [picture.group for picture in pictures])


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
    if not is_picture(path):
        return {"is_picture": False}
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return {"error": "its name is not UTF-8"}
    try:
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return {"sha256": sha256} | measure_picture(path)
    except (OSError, ValueError) as error:
        return {"error": str(error).removeprefix(f"{path}: ")}


def _decoder_versions() -> str:
    heif = version("pillow-heif")
    return f"pillow {version('pillow')}" + (f", pillow-heif {heif}" if heif else "")
