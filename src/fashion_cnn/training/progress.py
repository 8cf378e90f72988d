"""The terminal's view of a training: one bar an epoch, or one line an epoch without a terminal."""

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from fashion_cnn.keras_setup import keras


class EpochProgress(keras.callbacks.Callback):
    """Draws to standard error: loss, accuracy, validation, and the time left of all epochs."""

    def __init__(self) -> None:
        super().__init__()
        self.console = Console(file=sys.stderr, highlight=False)
        self.bar: Progress | None = None
        self.last = 0  # the epoch that this phase ends with

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Put up the epoch's bar, in place of one that was broken off."""
        self.close()
        if self.last != self.params["epochs"]:  # another phase is as fast as another training
            self.first, self.last = epoch, self.params["epochs"]
            self.began, self.done = time.monotonic(), 0
        self.name, self.step = f"Epoch {epoch + 1:>2}/{self.params['epochs']}", 0
        if self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(12), MofNCompleteColumn())
            self.bar = Progress(*columns, TextColumn("{task.fields[note]}"), console=self.console)
            self.bar.start()
            self.task = self.bar.add_task(self.name, total=self.params["steps"], note="")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Move the bar."""
        steps = min(batch + 1, self.params["steps"])
        self.done, self.step = self.done + steps - self.step, steps
        if self.bar and logs:
            note = f"{_figures(logs)}  {self._left()} left"
            self.bar.update(self.task, completed=steps, note=note)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Leave the epoch's figures standing."""
        if self.bar:
            self.bar.update(self.task, note=_figures(logs))
            self.close()
        else:
            line = f"{self.name}  {_figures(logs)}  {self._left()} left"
            self.console.print(line, soft_wrap=True)

    def close(self) -> None:
        """Give the terminal back, also when training was broken off."""
        if self.bar:
            self.bar.stop()
            self.bar = None

    def _left(self) -> str:
        total = (self.params["epochs"] - self.first) * self.params["steps"]
        seconds = (time.monotonic() - self.began) / max(self.done, 1) * (total - self.done)
        return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


def _figures(logs: dict[str, float]) -> str:
    text = f"loss {logs['loss']:.3f}  accuracy {logs['accuracy']:.2%}"
    if "val_accuracy" in logs:
        text += f"  validation {logs['val_accuracy']:.2%}"
    return text
