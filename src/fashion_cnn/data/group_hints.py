"""Where the pictures in a folder seem to belong together: a line that says how to use it."""

import re
from pathlib import Path

from fashion_cnn.console import printable, shell_command
from fashion_cnn.data.class_folders import list_pictures
from fashion_cnn.data.split_folders import split_of

GROUPS_FILE = "groups.csv"
PATTERN = r"([^/]+)[-_ .][0-9]+\.[^/.]+$"  # such as anna in train/coat/anna_003.jpg
MIN_MATCHES = 0.8  # of all pictures
MIN_GROUP_SIZE = 3  # on average
# what cameras and programs write before a number, also with a date
_GENERIC = r"(img|imgp|cimg|mvimg|dsc|dscn|dscf|pxl|dji|gopr|sam|wp|p|vid|image|photo|picture|pic"
_GENERIC += r"|whatsapp image|screenshot|frame|scan|file)?[\W\d_]*"


def suggest_groups(folder: Path, duplicates: int) -> str:
    """What suggests groups in a folder of class folders, and the option that uses it.

    Args:
        folder: of the pictures.
        duplicates: how many test images are nearly identical to a training image.

    Returns:
        One line; empty if nothing does.
    """
    effect = "keeps what belongs together on one side of every split"
    if (folder / GROUPS_FILE).is_file():
        return f"{GROUPS_FILE} is in the folder: --groups {GROUPS_FILE} {effect}"
    listing = list_pictures(folder)
    pairs = []  # class and prefix
    for picture in listing.readable():
        match = re.search(PATTERN, picture.path)
        if match and not _is_generic(match[1], picture.class_name):
            pairs.append((picture.class_name, match[1]))
    pictures, prefixes = len(listing.readable()), {prefix for _, prefix in pairs}
    # one prefix a class is its name once more
    names_classes = len({*pairs}) == len(prefixes) <= len(listing.class_names)
    is_frequent = len(pairs) >= MIN_MATCHES * pictures
    if is_frequent and not names_classes and 2 <= len(prefixes) <= pictures / MIN_GROUP_SIZE:
        names = f"file names suggest {len(prefixes):,} groups, such as {printable(pairs[0][1])}"
        return f"{names}: --groups {shell_command([PATTERN])} {effect}"
    if duplicates and "test" in listing.missing_splits:
        return f"test pictures have near-duplicates in training: --groups FILE.csv {effect}"
    return ""


def _is_generic(prefix: str, class_name: str) -> bool:
    """Whether a prefix says nothing about what belongs together."""
    prefix = prefix.lower()
    named = prefix == class_name.lower() or split_of(prefix) is not None
    return named or re.fullmatch(_GENERIC, prefix) is not None
