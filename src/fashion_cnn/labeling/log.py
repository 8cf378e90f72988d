"""`DecisionLog`: a file of decisions that one process appends to, each row on disk at once."""

import os
import sys
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from fashion_cnn.data.decisions import (
    HEADER,
    SKIP,
    UNDO,
    Decision,
    read_decisions,
    to_csv,
)
from fashion_cnn.files import lock_file, sync_folder

RECENT = 50  # decisions, of which the yield is shown
LOW_YIELD = 0.05  # share of these that were corrections; below it, stopping is reasonable


class DecisionLog:
    """An open file of decisions.

    Attributes:
        path: of the file.
        made: the decisions that were not taken back, in their order; skipped pictures, too.
    """

    def __init__(self, path: Path) -> None:
        """Open a file of decisions to continue it, or make it.

        Raises:
            ValueError: another process has it open, or it is another kind of file.
            OSError: it cannot be written.
        """
        self.path = path.absolute()
        try:
            self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115 (until `close`)
        except OSError as error:
            raise OSError(
                f"{path}: cannot be written ({error.strerror}); give --decisions another file"
            ) from None
        if not lock_file(self._file):
            self._file.close()
            raise ValueError(
                f"{path}: another `fashion-cnn label` has it open; open that one's page, or give "
                "--decisions another file"
            )
        self.made: list[Decision] = []
        self._by_picture: dict[tuple[str, str], list[Decision]] = defaultdict(list)
        try:
            content = self.path.read_bytes()
            if HEADER.encode().startswith(content):  # new, or its process was killed at once
                self._file.truncate(0)
                self._write(HEADER)
                sync_folder(self.path.parent)
            else:
                for row in read_decisions(self.path).rows:
                    self._remember(row)
                # a row that a killed process has not finished
                self._file.truncate(content.rfind(b"\n") + 1)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file, which another process may open then; one without rows is removed."""
        if self._file.closed:
            return
        is_empty = self._is_in_place() and self.path.read_bytes() == HEADER.encode()
        if sys.platform == "win32":  # which removes no open file
            self._file.close()
        if is_empty:
            self.path.unlink()
        self._file.close()

    def append(self, decision: Decision) -> None:
        """Write a decision to the disk.

        Raises:
            OSError: the disk is full; the file is as it was before.
        """
        decision = replace(decision, time=datetime.now(UTC).isoformat(timespec="milliseconds"))
        self._write(to_csv([decision], header=False))
        self._remember(decision)

    def undo(self, by: str) -> Decision | None:
        """Take back the last decision of one person, and return it; None if there is none."""
        for decision in reversed(self.made):
            if (
                decision.by == by
                and self._by_picture[decision.file, decision.sha256][-1] is decision
            ):
                self.append(replace(decision, decision=UNDO, label=""))
                return decision
        return None

    def latest(self, file: str, sha256: str) -> Decision | None:
        """What was decided about a picture, or that it was skipped; None if nothing was."""
        made = self._by_picture.get((file, sha256))
        return made[-1] if made else None

    @property
    def decided(self) -> list[Decision]:
        """The last decision about each picture that gives a label or says that there is none."""
        last: dict[tuple[str, str], Decision] = {}
        for decision in filter(is_decided, self.made):
            last.pop((decision.file, decision.sha256), None)  # so that the newest one is last
            last[decision.file, decision.sha256] = decision
        return list(last.values())

    def advice(self) -> str:
        """How many of the last decisions were corrections, and whether it is time to stop."""
        recent = self.decided[-RECENT:]
        corrections = sum(decision.is_correction for decision in recent)
        text = f"{corrections} of the last {len(recent)} decisions were corrections"
        if len(recent) < RECENT:
            return text
        if corrections < LOW_YIELD * RECENT:
            return f"{text}: few errors are left, you can stop"
        return f"{text}: it is worth going on"

    def _remember(self, decision: Decision) -> None:
        made = self._by_picture[decision.file, decision.sha256]
        if decision.decision != UNDO:
            made.append(decision)
            self.made.append(decision)
        elif made:
            undone = made.pop()
            self.made = [x for x in self.made if x is not undone]

    def _is_in_place(self) -> bool:
        """Whether the open file is still the one of its name."""
        opened = os.fstat(self._file.fileno())
        return self.path.exists() and os.path.samestat(opened, os.stat(self.path))

    def _write(self, text: str) -> None:
        end = os.fstat(self._file.fileno()).st_size
        content = text.encode()
        if not self._is_in_place():
            raise OSError(
                f"{self.path}: was deleted or replaced by another program; stop, and start "
                "`fashion-cnn label` again"
            )
        try:
            if self._file.write(content) != len(content):
                raise OSError("the disk is full")
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(end)
            raise OSError(f"{self.path}: could not be written ({error})") from error


def is_decided(decision: Decision | None) -> bool:
    """Whether a picture needs no decision any more."""
    return decision is not None and decision.decision != SKIP
