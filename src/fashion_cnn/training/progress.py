"""Progress of a training: a bar an epoch on a terminal, a line an epoch elsewhere."""

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from fashion_cnn.keras_setup import keras


class EpochProgress(keras.callbacks.Callback):
    """Shows loss, accuracy, validation accuracy and the time left on standard error."""

    def __init__(self) -> None:
        super().__init__()
        self.console = Console(file=sys.stderr, highlight=False)
        self.bar: Progress | None = None
        self.last_epoch = 0  # of the current phase of the training

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Show a new bar, in place of one that was interrupted."""
        self.close()
        if self.last_epoch != self.params["epochs"]:  # a new phase has a speed of its own
            self.last_epoch = self.params["epochs"]
            self.start_time, self.steps_done = time.monotonic(), 0
        self.name, self.step = f"Epoch {epoch + 1:>2}/{self.params['epochs']}", 0
        if self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(12), MofNCompleteColumn())
            self.bar = Progress(*columns, TextColumn("{task.fields[note]}"), console=self.console)
            self.bar.start()
            self.task = self.bar.add_task(self.name, total=self.params["steps"], note="")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Advance the bar."""
        step = min(batch + 1, self.params["steps"])
        self.steps_done, self.step = self.steps_done + step - self.step, step
        if self.bar and logs:
            note = f"{_format_logs(logs)}  {self._time_left()} left"
            self.bar.update(self.task, completed=step, note=note)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Leave the epoch's metrics on the screen."""
        if self.bar:
            self.bar.update(self.task, note=_format_logs(logs))
            self.close()
        else:
            line = f"{self.name}  {_format_logs(logs)}  {self._time_left()} left"
            self.console.print(line, soft_wrap=True)

    def close(self) -> None:
        """Remove the live bar, also when the training was interrupted."""
        if self.bar:
            self.bar.stop()
            self.bar = None

    def _time_left(self) -> str:
        steps_left = self.params["steps"] - self.step + self.params["later_steps"]
        per_step = (time.monotonic() - self.start_time) / max(self.steps_done, 1)
        seconds = per_step * steps_left
        return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


def _format_logs(logs: dict[str, float]) -> str:
    text = f"loss {logs['loss']:.3f}  accuracy {logs['accuracy']:.2%}"
    if "val_accuracy" in logs:
        text += f"  val_accuracy {logs['val_accuracy']:.2%}"
    return text
