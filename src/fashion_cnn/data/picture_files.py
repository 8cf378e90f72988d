"""Which files below a folder are pictures: one rule for training and for prediction.

Left out are hidden files and folders, what systems put beside pictures, and folders of runs. A
file is a picture by the ending of its name or else by its first bytes.
"""

import os
from collections.abc import Iterator
from pathlib import Path

FORMAT_NAMES = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC"
SUFFIXES: tuple[str, ...] = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
SUFFIXES += (".tif", ".tiff", ".avif", ".heic", ".heif")
HEADER_BYTES = 64  # of a file, which tell its format
_CLUTTER = {"@eadir", "#recycle", "__macosx", "$recycle.bin", "system volume information"}
_CLUTTER |= {"lost+found", "thumbs.db", "desktop.ini"}
_MAGIC = {
    b"\xff\xd8\xff": "JPEG",  # and MPO
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF"),
}
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1")  # of phones
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")


def picture_format(header: bytes) -> str | None:
    """Pillow's name of a picture's format, by its first `HEADER_BYTES`; None for other files."""
    if header[4:8] == b"ftyp":
        end = min(int.from_bytes(header[:4], "big"), len(header))
        brands = [header[i : i + 4] for i in (8, *range(16, end, 4))]
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        return "HEIF" if brands[0] in _HEIC_BRANDS else None
    if header[:4] == b"RIFF" and header[8:12] == b"WEBP":
        return "WEBP"
    if header[:2] == b"BM" and header[15:18] == bytes(3):  # the second header's size: below 256
        return "BMP"
    return next((name for magic, name in _MAGIC.items() if header.startswith(magic)), None)


def is_picture(path: str | Path) -> bool:
    """Whether a file is a picture; one that cannot be opened counts, so that reading it says why.

    Only of a file whose name has another ending than `SUFFIXES` the first bytes are read.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        return False
    if os.fspath(path).lower().endswith(SUFFIXES):
        return True
    try:
        with open(path, "rb") as file:
            return has_picture(str(path), file.read(HEADER_BYTES))
    except OSError:
        return True


def has_picture(name: str, header: bytes) -> bool:
    """Whether a file with this name and these first bytes is a picture."""
    if name.lower().endswith(SUFFIXES):
        return True
    kind = picture_format(header)  # TIFF under another ending is a camera's raw file
    return kind is not None and (kind != "TIFF" or not os.path.splitext(name)[1])


def is_clutter(name: str) -> bool:
    """Whether a file or folder is hidden, or one that systems put beside pictures."""
    is_hidden = name.startswith(".") and name not in (".", "..")  # those are in names of archives
    return is_hidden or name.lower() in _CLUTTER


def walk(folder: str | Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk`, sorted, without what is left out; OSError if a folder cannot be read."""
    from fashion_cnn.run import holds_run  # only now: a single picture needs nothing of it

    for root, subfolders, names in os.walk(folder, onerror=_raise, followlinks=True):
        if root != os.fspath(folder) and holds_run(names):
            subfolders.clear()
            continue
        kept = [name for name in subfolders if not is_clutter(name)]
        subfolders[:] = sorted(name for name in kept if not _is_loop(Path(root, name)))
        yield root, subfolders, sorted(name for name in names if not is_clutter(name))


def advice_for(path: str | Path) -> str:
    """What to do with an archive or a list, as the end of a message; empty for other files."""
    name = str(path).lower()
    if name.endswith(_ARCHIVES):
        return "; archives are not read: unpack it, and give the folder that comes out"
    is_list = name.endswith((".csv", ".tsv", ".txt"))
    return "; a list of pictures is read from standard input: predict - < LIST" * is_list


def _is_loop(folder: Path) -> bool:
    """Whether a folder is a link to one that it is in."""
    return folder.is_symlink() and folder.resolve() in [p.resolve() for p in folder.parents]


def _raise(error: OSError) -> None:
    raise OSError(f"{error.filename}: {error.strerror}") from None
