"""Pictures in class folders, and decisions about them, in; the listing with the decisions out."""

from dataclasses import replace
from pathlib import Path

from fashion_cnn.data.class_folders import Listing, PictureFile
from fashion_cnn.data.decisions import NONE, Decisions, find_added, require_unchanged
from fashion_cnn.data.pictures import measure_picture


def decide_listing(listing: Listing, decisions: Decisions) -> Listing:
    """Apply decisions to the pictures of a folder, and add those from elsewhere to `train`.

    Every picture stays in its split. A picture from elsewhere is a group of its own.

    Raises:
        ValueError: a picture has changed since, is missing or unreadable, or a label is no class.
    """
    known = {picture.path for picture in listing.pictures}
    added = find_added(decisions, known, listing.class_names)
    pictures = [_decide(picture, listing, decisions) for picture in listing.pictures]
    for path, decision in added:
        picture = PictureFile(path, decision.label, "train", decision.sha256, is_added=True)
        facts = measure_picture(Path(path))
        group = path if listing.groups.option else ""
        pictures.append(
            replace(picture, size=tuple(facts["size"]), gray=facts["gray"], group=group)
        )
    return replace(listing, pictures=tuple(pictures), decisions=decisions)


def _decide(picture: PictureFile, listing: Listing, decisions: Decisions) -> PictureFile:
    decision = decisions.latest.get((picture.path, picture.sha256))
    if decision is None:
        require_unchanged(decisions, picture.path, picture.sha256)
        return picture
    if decision.decision == NONE:
        return replace(picture, decided="")
    if decision.label not in listing.class_names:
        raise ValueError(
            f"{decisions.path}: {picture.path} is decided to be {decision.label!r}; expected one "
            f"of the classes {', '.join(listing.class_names)[:300]}"
        )
    return replace(picture, decided=decision.label)
