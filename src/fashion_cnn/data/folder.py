"""A folder of class folders in, `Data` out: pictures of any size, decoded once into the cache."""

import hashlib
import json
import os
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.console import progress_bar
from fashion_cnn.data.cache import cached_array, make_cache_folder
from fashion_cnn.data.dataset import Data
from fashion_cnn.data.pictures import ENDINGS, fit_picture, measure_picture
from fashion_cnn.data.split import stratified
from fashion_cnn.files import write_text

SPLITS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
SMALL = 64  # pixels; without a size of the recipe's, larger pictures and mixed ones get this
UNEVEN = 3  # times as many pictures in one class as in another are worth a note
_FORM = "2"  # of what is in the cache; another where pictures are read in another way
_BLOCK = 64  # pictures that are decoded ahead


@dataclass(frozen=True)
class Listing:
    """The pictures of a folder of class folders, by name.

    Attributes:
        folder: the folder.
        class_names: of all splits together, by name.
        files: paths within the folder.
        labels: int64, one a file.
        splits: `train`, `validation` or `test`, one a file.
        facts: of each file `stat`, `sha256`, and `size` and `grey`, or `error`.
        others: how many files are no pictures, or in no class folder.
        made: the splits that the folder does not have, and that were taken from `train`.
    """

    folder: Path
    class_names: tuple[str, ...]
    files: tuple[str, ...]
    labels: np.ndarray
    splits: np.ndarray
    facts: tuple[dict[str, Any], ...]
    others: int
    made: tuple[str, ...]

    @property
    def readable(self) -> np.ndarray:
        """Whether each file is a picture that can be read."""
        return np.array(["error" not in fact for fact in self.facts])


def load_folder(folder: Path, size: int = 0) -> Data:
    """Load class folders, with `train`, `validation` and `test` above them or without.

    Of what is not there, validation or test, a tenth of `train` is taken, stratified, by a fixed
    seed. Files that cannot be read are left out; `notes` of what comes back say so.

    Args:
        folder: where the class folders are, or the splits' folders.
        size: height and width that all pictures get; without, small ones that are all of one size
            stay as they are, and others get 64.

    Returns:
        `Data`, its images mapped from the cache.

    Raises:
        ValueError: there are no class folders, or too few pictures in them.
        OSError: the cache cannot be written.
    """
    listing = list_pictures(folder)
    while True:
        try:
            return _decoded(listing, size)
        except _Unreadable as error:  # whose beginning promised more
            listing = _with_errors(listing, error.args[0])
            facts = dict(zip(listing.files, listing.facts, strict=True))
            _remember(_index_of(folder), facts)


def list_pictures(folder: Path) -> Listing:
    """What is in a folder of class folders.

    Files that are as they were the last time, by size and times, are not read again.

    Raises:
        ValueError: there are no class folders.
    """
    found, others = _walk(folder)
    if len({name for _, name, _ in found}) < 2:
        raise ValueError(
            f"{folder}: expected at least two folders with pictures in them, one a class, in it or "
            "in its train, validation and test; or IDX files; or give an .npz"
        )
    found.sort(key=lambda row: _plain(row[2]))
    class_names = tuple(sorted({name for _, name, _ in found}))
    labels = np.array([class_names.index(name) for _, name, _ in found])
    files = tuple(path for *_, path in found)
    facts = _survey(folder, files)
    splits, made = _split(labels, [split for split, *_ in found], facts)
    return Listing(folder, class_names, files, labels, splits, facts, others, made)


def _plain(name: str) -> str:
    """A name as it sorts on every machine: macOS writes accents apart from their letters."""
    return unicodedata.normalize("NFC", name)


def _walk(folder: Path) -> tuple[list[tuple[str, str, str]], int]:
    """Split, class and path of each picture, and how many files are none."""
    tops = {p: SPLITS[p.name.lower()] for p in _folders(folder) if p.name.lower() in SPLITS}
    parted = any(split == "train" and _folders(top) for top, split in tops.items())
    if parted:
        for top in tops:
            if not _folders(top) and any(p.suffix.lower() in ENDINGS for p in top.iterdir()):
                raise ValueError(f"{top}: has pictures, but no folders of classes as train has")
    others = sum(p.is_file() and p.name[0] != "." for p in folder.iterdir())
    found = []
    for top, split in tops.items() if parted else [(folder, "train")]:
        for of_class in top.iterdir():
            if not of_class.is_dir() or of_class.name[0] == ".":
                others += parted and of_class.is_file() and of_class.name[0] != "."
                continue
            for path in of_class.rglob("*"):
                hidden = any(part[0] == "." for part in path.relative_to(of_class).parts)
                if hidden or not path.is_file():
                    continue
                if path.suffix.lower() in ENDINGS:
                    row = split, _plain(of_class.name), path.relative_to(folder).as_posix()
                    found.append(row)
                else:
                    others += 1
    return found, others


def _folders(place: Path) -> list[Path]:
    return [p for p in place.iterdir() if p.is_dir() and p.name[0] != "."]


def _split(
    labels: np.ndarray, given: Sequence[str], facts: Sequence[dict[str, Any]]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Splits as they are given; of those that are missing a tenth of `train` each.

    Copies of a file go where the first of them goes, or the network would be asked what it learnt.
    """
    splits = np.array(given, dtype="U10")
    made = tuple(name for name in ("test", "validation") if name not in given)
    first: dict[str, int] = {}
    in_train = np.flatnonzero(splits == "train").tolist()
    origin = [first.setdefault(facts[i].get("sha256", str(i)), i) for i in in_train]
    once = np.unique(origin).astype(int)
    for name in made:
        left = once[splits[once] == "train"]
        splits[left[stratified(labels[left], round(len(once) / 10))]] = name
    splits[in_train] = splits[origin]
    return splits, made


def _survey(folder: Path, files: Sequence[str]) -> tuple[dict[str, Any], ...]:
    """`Listing.facts`, kept in the cache."""
    path, known = _index_of(folder), dict[str, Any]()
    with suppress(OSError, ValueError, KeyError, TypeError):  # none yet, or damaged: a cache
        kept = json.loads(path.read_text(encoding="utf-8"))
        same = kept["readers"] == _readers()  # others may read what these could not
        known = {k: v for k, v in kept["facts"].items() if same or "error" not in v}
    facts: dict[str, dict[str, Any]] = {}
    for name in files:
        try:
            about = os.stat(folder / name)
        except OSError as error:
            facts[name] = {"stat": None, "error": error.strerror}
            continue
        stat = [about.st_size, about.st_mtime_ns, about.st_ctime_ns]
        fact = known.get(name)
        facts[name] = fact if fact and fact.get("stat") == stat else {"stat": stat}
    new = [name for name, fact in facts.items() if len(fact) == 1]
    if not new:
        return tuple(facts.values())
    with progress_bar(len(new)) as advance, ThreadPoolExecutor() as pool:
        for name, found in zip(new, pool.map(lambda n: _look(folder / n), new), strict=True):
            advance("looking at pictures")
            facts[name] |= found
    _remember(path, facts)
    return tuple(facts.values())


def _index_of(folder: Path) -> Path:
    place = hashlib.sha256(_bytes(str(folder.resolve()))).hexdigest()
    return make_cache_folder("folders") / f"{place[:32]}-{_FORM}.json"


def _remember(path: Path, facts: dict[str, Any]) -> None:
    write_text(path, json.dumps({"readers": _readers(), "facts": facts}))


def _readers() -> dict[str, str]:
    """The versions of what reads pictures."""
    found = {}
    for name in ("pillow", "pillow-heif"):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _bytes(text: str) -> bytes:
    """UTF-8 of what may hold a file's name, which may be none."""
    return text.encode("utf-8", "surrogateescape")


def _shown(name: str) -> str:
    """A file's name as it can be printed."""
    return name.encode("utf-8", "replace").decode()


def _look(path: Path) -> dict[str, Any]:
    if _shown(str(path)) != str(path):
        return {"error": "its name is not UTF-8"}
    try:
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        height, width, grey = measure_picture(path)
    except (OSError, ValueError) as error:
        return {"error": _reason(path, error)}
    return {"sha256": sha256, "size": [height, width], "grey": grey}


def _reason(path: Path, error: Exception) -> str:
    return str(error).removeprefix(f"{path}: ")


class _Unreadable(Exception):
    """Files that are no whole pictures: name -> why."""


def _with_errors(listing: Listing, errors: dict[str, str]) -> Listing:
    facts = tuple(
        fact | ({"error": errors[name]} if name in errors else {})
        for name, fact in zip(listing.files, listing.facts, strict=True)
    )
    return replace(listing, facts=facts)


def _decoded(listing: Listing, size: int) -> Data:
    """`Data` of the files that can be read.

    Raises:
        _Unreadable: some cannot, of which that was not known before.
    """
    readable = np.flatnonzero(listing.readable)
    order = readable[np.argsort(listing.splits[readable] == "test", kind="stable")]  # test last
    files = tuple(listing.files[i] for i in order)
    facts = [listing.facts[i] for i in order]
    labels, splits = listing.labels[order], listing.splits[order]
    learnt = int((splits != "test").sum())
    train, held_out = (int((splits == name).sum()) for name in ("train", "validation"))
    if learnt < 12 or min(train, held_out, len(files) - learnt) == 0:
        unread = unreadable(listing)
        why = (
            f" ({len(unread)} cannot be read, the first: {': '.join(unread[0])})" if unread else ""
        )
        raise ValueError(
            f"{listing.folder}: {train} pictures to learn from, {held_out} for validation, "
            f"{len(files) - learnt} to test; expected at least 12 of the first two, and 1 of "
            f"each{why}"
        )
    shape = *_side(facts, size), 1 if all(fact["grey"] for fact in facts) else 3
    lines = [f"{a} {b['sha256']} {c}" for a, b, c in zip(files, facts, splits, strict=True)]
    names = "\n".join(listing.class_names)
    parts = {"train": lines[:learnt], "test": lines[learnt:]}
    sha256 = {
        f"{part} pictures": hashlib.sha256(_bytes("\n".join([names, *rows]))).hexdigest()
        for part, rows in parts.items()
    }
    whole = hashlib.sha256(_bytes("\n".join([_FORM, str(shape), *lines]))).hexdigest()
    paths = [listing.folder / name for name in files]
    images = cached_array(
        f"pictures-{whole[:32]}", (len(files), *shape), "uint8", lambda x: _fill(x, files, paths)
    )
    place = str(listing.folder.resolve())
    return Data(
        images[:learnt],
        labels[:learnt],
        images[learnt:],
        labels[learnt:],
        listing.class_names,
        place,
        place,
        sha256,
        np.flatnonzero(splits[:learnt] == "validation"),
        files[:learnt],
        files[learnt:],
        tuple(_notes(listing, labels[splits == "train"])),
    )


def unreadable(listing: Listing) -> list[tuple[str, str]]:
    """Each file that cannot be read, as it can be printed, and why."""
    rows = zip(listing.files, listing.facts, strict=True)
    return [(_shown(name), fact["error"]) for name, fact in rows if "error" in fact]


def _side(facts: Sequence[dict[str, Any]], size: int) -> tuple[int, int]:
    """Height and width of all pictures."""
    if size:
        return size, size
    height, width = facts[0]["size"]
    same = all(fact["size"] == [height, width] for fact in facts)
    return (height, width) if same and max(height, width) <= SMALL else (SMALL, SMALL)


def _fill(array: np.ndarray, files: Sequence[str], paths: Sequence[Path]) -> None:
    """Decode every file into its row."""
    _, height, width, channels = array.shape

    def decode(path: Path) -> np.ndarray | Exception:
        try:
            return fit_picture(path, (height, width), channels)
        except (OSError, ValueError) as error:
            return error

    errors = {}
    with progress_bar(len(paths)) as advance, ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), _BLOCK):
            block = pool.map(decode, paths[start : start + _BLOCK])
            for i, pixels in enumerate(block, start):
                advance("decoding pictures")
                if isinstance(pixels, Exception):
                    errors[files[i]] = _reason(paths[i], pixels)
                else:
                    array[i] = pixels
    if errors:
        raise _Unreadable(errors)


def _notes(listing: Listing, labels: np.ndarray) -> list[str]:
    notes = []
    for name in listing.made:
        notes.append(f"no {name} folder: a tenth of the training pictures, always the same ones")
    if unread := unreadable(listing):
        name, why = unread[0]
        first = f"{name} ({why})"
        notes.append(f"{len(unread)} files cannot be read and are left out, the first: {first}")
    digests = {
        name: {fact.get("sha256") for fact in np.array(listing.facts)[listing.splits == name]}
        for name in ("train", "validation", "test")
    }
    if twice := (digests["train"] | digests["validation"]) & digests["test"] - {None}:
        notes.append(f"{len(twice)} test pictures are training or validation pictures as well")
    counts = np.bincount(labels, minlength=len(listing.class_names))
    for k in np.flatnonzero(counts == 0):
        notes.append(f"no picture of {listing.class_names[k]} to learn from")
    if (most := counts.max()) > UNEVEN * (least := counts[counts > 0].min()):
        many, few = (listing.class_names[np.flatnonzero(counts == n)[0]] for n in (most, least))
        notes.append(
            f"{most:,} pictures of {many} to learn from, {least:,} of {few}: --set "
            "class_weights=true lets all classes count alike"
        )
    return notes
