"""Pictures in class folders, and decisions about them, in; the listing with the decisions out."""

import os
from dataclasses import replace
from pathlib import Path

from fashion_cnn.console import printable
from fashion_cnn.data.class_folders import Listing, PictureFile
from fashion_cnn.data.decisions import LABEL, NONE, Decision, Decisions, describe, require_class
from fashion_cnn.data.pictures import measure_picture
from fashion_cnn.files import file_sha256


def decide_listing(listing: Listing, decisions: Decisions) -> Listing:
    """Apply decisions to the pictures of a folder, and add those from elsewhere to `train`.

    Every picture stays in its split. A picture from elsewhere is a group of its own.

    Raises:
        ValueError: the decisions are about other data, a picture has changed since, one from
            elsewhere is missing or unreadable, or a label is no class.
    """
    known = {picture.path: picture for picture in listing.pictures}
    about = [x for x in decisions.latest.values() if x.was]  # pictures that had a label
    applied = [x for x in about if x.file in known]
    if about and not applied:
        raise ValueError(
            f"{decisions.path}: none of its pictures, such as {printable(about[0].file)}, is in "
            f"{listing.folder}; expected decisions about {listing.folder}"
        )
    _require_unchanged(applied, known, decisions.path)
    pictures = [_decide(p, listing, decisions) for p in listing.pictures]
    added = _find_added(decisions, listing)
    pictures += [_as_picture(path, x, listing) for path, x in added.items()]
    current = [x for x in applied if known[x.file].sha256 == x.sha256]
    note = describe(decisions, [*current, *added.values()])
    if missing := len(about) - len(applied):
        note += f"; pictures that are not there: {missing:,}"
    return replace(listing, pictures=tuple(pictures), decisions=decisions, decisions_note=note)


def _require_unchanged(decisions: list[Decision], known: dict[str, PictureFile], path: str) -> None:
    """Raise ValueError if a picture has changed, and was not decided again after that."""
    current = {x.file for x in decisions if known[x.file].sha256 == x.sha256}
    for decision in decisions:
        if decision.file not in current:
            raise ValueError(
                f"{path}: {printable(decision.file)} has changed since it was decided; restore it, "
                "or decide again"
            )


def _decide(picture: PictureFile, listing: Listing, decisions: Decisions) -> PictureFile:
    decision = decisions.latest.get((picture.path, picture.sha256))
    if decision is None:
        return picture
    if decision.decision == NONE:
        return replace(picture, decided="")
    require_class(listing.class_names, decision, decisions.path)
    return replace(picture, decided=decision.label)


def _find_added(decisions: Decisions, listing: Listing) -> dict[str, Decision]:
    """Path -> decision of the pictures from elsewhere that were given a label of the data set."""
    present = {picture.sha256 for picture in listing.pictures}
    newest = {  # of a picture that was replaced and decided again
        os.path.join(decision.source, decision.file): decision
        for decision in decisions.latest.values()
        if not decision.was
    }
    added = {}
    for path, decision in newest.items():
        if decision.decision != LABEL or decision.sha256 in present:  # moved there since
            continue
        require_class(listing.class_names, decision, decisions.path)
        if not os.path.isfile(path) or file_sha256(Path(path)) != decision.sha256:
            raise ValueError(
                f"{decisions.path}: {printable(path)} is missing, or has changed since it was "
                "given a label; restore it, decide again, or remove its row"
            )
        added[path] = decision
    return added


def _as_picture(path: str, decision: Decision, listing: Listing) -> PictureFile:
    picture = PictureFile(path, decision.label, "train", decision.sha256, is_added=True)
    facts = measure_picture(Path(path))
    group = path if listing.groups.option else ""
    return replace(picture, size=tuple(facts["size"]), gray=facts["gray"], group=group)
