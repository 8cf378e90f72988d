"""Which folders are classes and which are splits: paths of folders in, class folders out."""

import re
from collections.abc import Iterable
from pathlib import Path

SPLITS = dict.fromkeys(("train", "training", "trainset"), "train")  # word of a name -> split
SPLITS |= dict.fromkeys(("test", "testing", "testset", "evaluation"), "test")
SPLITS |= dict.fromkeys(("val", "valid", "validation", "dev"), "validation")
# words that may stand beside it, as in `seg_train`, `test-images` and `training_set`
_OTHER_WORDS = {"seg", "set", "data", "dataset", "split", "image", "images", "img", "imgs"}
_OTHER_WORDS |= {"picture", "pictures", "photo", "photos"}

Parts = tuple[str, ...]  # of a path relative to the folder of the data set


def split_of(name: str) -> str | None:
    """The split that the name of a folder means: train, validation or test; None for others."""
    words = re.split(r"[-_ ]+", name.lower())
    splits = [SPLITS[word] for word in words if word in SPLITS]
    return splits[0] if len(splits) == 1 and _OTHER_WORDS.issuperset({*words} - {*SPLITS}) else None


def find_class_folders(folder: Path, folders: Iterable[Parts]) -> dict[Parts, str]:
    """The class folders among all folders below `folder`, each with its split.

    Where there is a folder for training with folders in it, those in the folders of splits are
    the classes; else all are, and their split is `train`. The only folder in one of the same
    name or split takes the place of that one; so does the only one in `folder` if it has splits.

    Raises:
        ValueError: there are only folders named like splits.
    """
    children: dict[Parts, list[Parts]] = {}
    for parts in sorted(folders):
        if parts:
            children.setdefault(parts[:-1], []).append(parts)

    def innermost(parts: Parts) -> Parts:
        while len(inner := children.get(parts, [])) == 1:
            name = parts[-1] if parts else folder.resolve().name
            if not _same(inner[0][-1], name) and (parts or not holds_train(inner[0])):
                break
            parts = inner[0]
        return parts

    def holds_train(parts: Parts) -> bool:
        return any(split_of(p[-1]) == "train" and p in children for p in children.get(parts, []))

    candidates = children.get(innermost(()), [])
    splits = [(split_of(parts[-1]), innermost(parts)) for parts in candidates]
    if any(split == "train" and parts in children for split, parts in splits):
        return {p: split for split, parts in splits if split for p in children.get(parts, ())}
    if candidates and all(split for split, _ in splits):
        names = ", ".join(parts[-1] for parts in candidates)
        raise ValueError(
            f"{folder}: expected class folders, or a folder train with class folders in it; got "
            f"only folders named like splits ({names})"
        )
    return dict.fromkeys(candidates, "train")


def _same(name: str, other: str) -> bool:
    return name.lower() == other.lower() or (split_of(name) or "") == split_of(other)
