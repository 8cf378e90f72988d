"""Load a folder of class folders as `Data`: pictures of any size, decoded once into the cache."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.console import printable, progress_bar
from fashion_cnn.data.cache import cached_array
from fashion_cnn.data.class_folders import (
    CACHE_VERSION,
    Listing,
    PictureFile,
    join_copies,
    list_pictures,
    record_errors,
)
from fashion_cnn.data.dataset import MIN_TRAIN_IMAGES, Data
from fashion_cnn.data.decided_pictures import decide_listing
from fashion_cnn.data.decisions import Decisions
from fashion_cnn.data.pictures import fit_picture

DEFAULT_SIZE = 64  # pixels
IMBALANCE_RATIO = 3  # between the largest and the smallest class; more is worth a note
MAX_NAMES = 10  # of folders in a note
_BLOCK = 64  # pictures decoded ahead


class _UndecodablePictures(Exception):
    """Pictures whose header is readable, but whose pixels are not: file -> reason."""


def load_folder(
    folder: Path, size: int = 0, groups: str = "", decisions: Decisions | None = None
) -> Data:
    """Load class folders, directly in `folder` or in its `train`, `validation` and `test`."""
    while True:
        listing = list_pictures(folder, groups)
        try:
            return _load_listing(decide_listing(listing, decisions) if decisions else listing, size)
        except _UndecodablePictures as error:
            for path, reason in error.args[0].items():
                if os.path.isabs(path):
                    raise ValueError(
                        f"{path}: {reason}; it was given a label: repair it, or undo that"
                    ) from None
            record_errors(folder, error.args[0])


def _load_listing(listing: Listing, size: int) -> Data:
    """`Data` from the readable files; raises `_UndecodablePictures` if some turn out not to be."""
    recorded = sorted(listing.readable(), key=lambda picture: picture.split == "test")  # test last
    pictures = [picture for picture in recorded if picture.decided != ""]
    splits = np.array([picture.split for picture in pictures], dtype="U10")
    _check_counts(splits, listing)
    labels = np.array([listing.class_names.index(picture.label) for picture in pictures])
    files = tuple(picture.path for picture in pictures)
    test = int((splits != "test").sum())  # index of the first test image
    own = [picture for picture in recorded if not picture.is_added]  # whatever was decided
    image_size = _image_size({picture.size for picture in own}, size)
    shape = (*image_size, 1 if all(picture.gray for picture in own) else 3)
    name = "pictures-" + _sha256([CACHE_VERSION, str(shape), *map(_row, pictures)])[:32]
    decode_all = partial(_decode_all, listing.folder, files)
    images = cached_array(name, (len(files), *shape), "uint8", decode_all)
    location = str(listing.folder.resolve())
    return Data(
        images[:test],
        labels[:test],
        images[test:],
        labels[test:],
        listing.class_names,
        source=location,
        location=location,
        sha256=_checksums(listing, recorded),
        held_out=np.flatnonzero(splits[:test] == "validation"),
        train_files=files[:test],
        test_files=files[test:],
        train_groups=join_copies(pictures[:test]) if listing.groups.option else None,
        groups=listing.groups.option,
        notes=tuple(_notes(listing, labels[splits == "train"])),
        **_before_decisions(listing, recorded),
    )


def _row(picture: PictureFile) -> str:
    return f"{picture.path} {picture.sha256} {picture.split}"


def _checksums(listing: Listing, recorded: Sequence[PictureFile]) -> dict[str, str]:
    """Checksums of the pictures as the folder has them, and of the decisions."""
    sha256 = {}
    for name, splits in (("train", ("train", "validation")), ("test", ("test",))):
        rows = [_row(p) for p in recorded if p.split in splits and not p.is_added]
        sha256[f"{name} pictures"] = _sha256([*listing.class_names, *rows])
    return sha256 | ({"decisions": listing.decisions.sha256} if listing.decisions else {})


def _before_decisions(listing: Listing, recorded: Sequence[PictureFile]) -> dict[str, Any]:
    """The fields of `Data` about decisions; none without them."""
    if not listing.decisions:
        return {}
    tests = [picture for picture in recorded if picture.split == "test"]
    index = [i for i, picture in enumerate(tests) if picture.decided != ""]
    labels = [listing.class_names.index(tests[i].class_name) for i in index]
    return {
        "decisions": listing.decisions.path,
        "kept_test": np.array(index, int),
        "recorded_test_labels": np.array(labels, int),
    }


def _sha256(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _check_counts(splits: np.ndarray, listing: Listing) -> None:
    train, validation, test = ((splits == s).sum() for s in ("train", "validation", "test"))
    reason = ""
    if unreadable := listing.unreadable():
        reason = f" ({len(unreadable)} cannot be read, the first: {': '.join(unreadable[0])})"
    if listing.missing_splits and (names := listing.groups.names):
        reason = f" (in {len(set(names.values()))} groups, each in one split){reason}"
    if train + validation < MIN_TRAIN_IMAGES or min(train, validation, test) == 0:
        raise ValueError(
            f"{listing.folder}: {train} training, {validation} validation and {test} test "
            f"pictures; expected at least {MIN_TRAIN_IMAGES} of the first two together, and 1 of "
            f"each{reason}"
        )
    if len(listing.class_names) == 1:
        raise ValueError(
            f"{listing.folder}: readable pictures only in the class folder "
            f"{listing.class_names[0]}; expected at least two{reason}"
        )


def _image_size(sizes: set[tuple[int, int]], size: int) -> tuple[int, int]:
    """(height, width) that all images get."""
    height, width = max(sizes)
    if size or len(sizes) > 1 or max(height, width) > DEFAULT_SIZE:
        height = width = size or DEFAULT_SIZE
    return height, width


def _decode_all(folder: Path, files: Sequence[str], array: np.ndarray) -> None:
    """Decode each file into its row of `array`."""
    _, height, width, channels = array.shape

    def decode(file: str) -> np.ndarray | str:
        path = folder / file
        try:
            return fit_picture(path, (height, width), channels)
        except (OSError, ValueError) as error:
            return str(error).removeprefix(f"{path}: ")

    errors = {}
    with progress_bar(len(files)) as advance, ThreadPoolExecutor() as pool:
        for start in range(0, len(files), _BLOCK):
            results = pool.map(decode, files[start : start + _BLOCK])
            for i, result in enumerate(results, start):
                advance("decoding pictures")
                if isinstance(result, str):
                    errors[files[i]] = result
                else:
                    array[i] = result
    if errors:
        raise _UndecodablePictures(errors)


def _count_names(names: Sequence[str]) -> str:
    """How many names there are, and the first ones."""
    shown = ", ".join(names[:MAX_NAMES])
    return f"{len(names)} ({shown}{', …' * (len(names) > MAX_NAMES)})"


def _notes(listing: Listing, train_labels: np.ndarray) -> list[str]:
    notes = [
        f"no {split} folder: a tenth of the training pictures is used, always the same ones"
        for split in listing.missing_splits
    ]
    if unreadable := listing.unreadable():
        first = "{} ({})".format(*unreadable[0])
        notes.append(f"unreadable files, left out: {len(unreadable)}; the first: {first}")
    if files := listing.ignored:
        reason = "not pictures, or in no class folder"
        notes.append(f"files left out ({reason}): {len(files)}; the first: {files[0]}")
    if folders := listing.without_pictures:
        notes.append(f"folders without a readable picture, left out: {_count_names(folders)}")
    if classes := listing.split_like_classes():
        reason = "splits need a folder train with class folders in it"
        notes.append(f"classes that are named like splits: {_count_names(classes)}; {reason}")
    if pairs := listing.copies():
        first = " and ".join(map(printable, pairs[0]))
        notes.append(f"the same picture in two classes: {len(pairs)}; the first: {first}")
    pictures = listing.kept()
    test_hashes = {picture.sha256 for picture in pictures if picture.split == "test"}
    if copies := test_hashes & {p.sha256 for p in pictures if p.split != "test"}:
        notes.append(f"{len(copies)} test pictures are also training or validation pictures")
    notes += [*listing.groups.notes, *_shared_groups(pictures)]
    notes += [listing.decisions_note] if listing.decisions else []
    names = listing.class_names
    counts = np.bincount(train_labels, minlength=len(names))
    notes += [f"no training picture of {names[k]}" for k in np.flatnonzero(counts == 0)]
    tested = {picture.label for picture in pictures if picture.split == "test"}
    if untested := [name for name in names if name not in tested]:
        notes.append(f"classes without a test picture: {_count_names(untested)}")
    present = np.flatnonzero(counts)
    largest, smallest = counts.argmax(), present[counts[present].argmin()]
    if counts[largest] > IMBALANCE_RATIO * counts[smallest]:
        notes.append(
            f"{counts[largest]:,} training pictures of {names[largest]}, {counts[smallest]:,} of "
            f"{names[smallest]}: --set class_weights=true gives all classes the same weight"
        )
    return notes


def _shared_groups(pictures: Sequence[PictureFile]) -> list[str]:
    """Notes about groups that folders of splits have in common."""
    groups: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    for picture in pictures:
        groups[picture.split] |= {picture.group} - {""}
    train, notes = groups.pop("train"), []
    for split, names in groups.items():
        if shared := len(names & train):
            counts = f"{shared:,} of {len(names):,} groups in {split} are also in train"
            notes.append(f"{counts}, which makes its accuracy too high")
    return notes
