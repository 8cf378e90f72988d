"""`LabelSession`: who is shown which picture, and what becomes of a decision."""

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fashion_cnn.data.decisions import LABEL, NONE, SKIP, Decision
from fashion_cnn.labeling.log import DecisionLog, is_decided
from fashion_cnn.labeling.task import Item, Task

LEASE_SECONDS = 300.0  # for which a picture that one person looks at is not shown to another


class AlreadyDecided(ValueError):
    """Somebody else has decided about the picture in the meantime."""


class LabelSession:
    """A task, its decisions, and the pictures that people are looking at."""

    def __init__(self, task: Task, log: DecisionLog, blind: bool = False) -> None:
        """Begin, or continue, a task.

        Args:
            task: the pictures.
            log: where decisions go.
            blind: whether nobody is shown a label, what the model predicts, or how many decisions
                were corrections. Default: False.
        """
        self.task, self.log, self.blind = task, log, blind
        self.positions = {name: i for i, name in enumerate(task.names)}
        self._lock = threading.Lock()
        self._keys: dict[str, tuple[str, str, str]] = {}  # name -> source, file, SHA-256
        self._leases: dict[str, tuple[str, float]] = {}  # name -> who looks at it, since when
        self._skipped: set[tuple[str, str]] = set()  # who and name, since the start
        self._neighbors = {name for names in task.examples.values() for name in names}
        self._start = 0  # all pictures before this one are decided

    def next_item(self, by: str) -> dict[str, Any]:
        """The next picture for a person, who is called `by`, and the progress."""
        with self._lock:
            return self._next(by)

    def decide(self, by: str, name: str, decision: str, label: str = "") -> dict[str, Any]:
        """Write a decision; returns what `next_item` does.

        Raises:
            AlreadyDecided: by somebody else.
            ValueError: there is no such picture, decision or class.
            OSError: the decision could not be written.
        """
        if name not in self.positions:
            raise ValueError(f"no picture {name[:200]!r} in this task")
        if decision not in (LABEL, NONE, SKIP):
            raise ValueError(f"decision: got {decision[:50]!r}; expected label, none or skip")
        if (decision == LABEL) != (label in self.task.class_names):
            raise ValueError(f"label: got {label[:100]!r}; expected one of the classes")
        with self._lock:
            source, file, sha256 = self._key(name)
            before = self.log.latest(file, sha256)
            if before is not None and is_decided(before) and before.by != by:
                outcome = before.label or "none of these"
                raise AlreadyDecided(f"Somebody else has decided it meanwhile: {outcome}")
            item = self.task.describe(name)
            was, predicted = item.label, item.top[0][0]
            row = Decision(file, sha256, decision, label, was, predicted, source, by)
            if before is None or replace(before, time="") != row:  # else sent twice
                self.log.append(row)
            self._leases.pop(name, None)
            if decision == SKIP:
                self._skipped.add((by, name))
            return self._next(by)

    def undo(self, by: str) -> dict[str, Any]:
        """Take back a person's last decision; shows that picture again."""
        with self._lock:
            undone = self.log.undo(by)
            if undone is None:
                return {**self._next(by), "message": "There is nothing to undo"}
            for name in (undone.file, os.path.join(undone.source, undone.file)):
                if name in self.positions:
                    self._start = min(self._start, self.positions[name])
                    self._skipped.discard((by, name))
                    return self._show(by, name)
            return {**self._next(by), "message": "Undone; the picture is not in this task"}

    def is_shown(self, name: str) -> bool:
        """Whether a picture is one of the task, a neighbor of one, or an example."""
        return name in self.positions or name in self._neighbors

    def progress(self) -> dict[str, Any]:
        """How many pictures are decided, and what the last decisions were worth."""
        decided = self.log.decided
        counts = {"total": len(self.task.names), "decided": len(decided)}
        if self.blind:
            return {**counts, "doubtful": 0, "corrected": None, "advice": ""}
        return {
            **counts,
            "doubtful": self.task.doubtful,
            "corrected": sum(decision.is_correction for decision in decided),
            "advice": self.log.advice() if decided else "",
        }

    def _next(self, by: str) -> dict[str, Any]:
        names: Sequence[str] = self.task.names
        while self._start < len(names) and self._is_decided(names[self._start]):
            self._start += 1
        remaining = 0  # skipped, or shown to somebody else
        for position in range(self._start, len(names)):
            name = names[position]
            holder, since = self._leases.get(name, (by, 0.0))
            is_held = holder != by and time.monotonic() < since + LEASE_SECONDS
            if self._is_decided(name):
                continue
            if not is_held and (by, name) not in self._skipped:
                return self._show(by, name)
            remaining += 1
        return {"item": None, "remaining": remaining, "progress": self.progress()}

    def _show(self, by: str, name: str) -> dict[str, Any]:
        for held in [held for held, (holder, _) in self._leases.items() if holder == by]:
            del self._leases[held]
        self._leases[name] = (by, time.monotonic())
        item = Item(name) if self.blind else self.task.describe(name)
        self._neighbors.update(neighbor for neighbor, _ in item.neighbors)
        shown = {
            "name": name,
            "label": item.label,
            "reason": item.reason,
            "top": [{"label": label, "probability": p} for label, p in item.top],
            "neighbors": [{"name": n, "label": label} for n, label in item.neighbors],
            "position": self.positions[name] + 1,
        }
        return {"item": shown, "progress": self.progress()}

    def _is_decided(self, name: str) -> bool:
        """Whether a picture is decided, or can no longer be read."""
        try:
            return is_decided(self.log.latest(*self._key(name)[1:]))
        except OSError:
            return True

    def _key(self, name: str) -> tuple[str, str, str]:
        """`source`, `file` and `sha256` of a picture in the decisions."""
        if name not in self._keys:
            self._keys[name] = (*self.task.locate(name), self.task.sha256(name))
        return self._keys[name]
