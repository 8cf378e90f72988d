"""Messages and progress on standard error, signals, and the error of a wrong request."""

import os
import re
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

WAIT_SECONDS = 0.5 if sys.platform == "win32" else None  # Ctrl-C ends no longer wait there
SHUTDOWN_SECONDS = 1.5  # in which Python has to react to a signal
MAX_ERROR = 450  # characters
LINE_INTERVAL = 10  # seconds between two lines of progress where there is no terminal


class UsageError(ValueError):
    """A request that makes no sense, such as options that exclude each other."""


@contextmanager
def usage_errors(prefix: str = "") -> Iterator[None]:
    """Turn a ValueError into a `UsageError`."""
    try:
        yield
    except ValueError as error:
        raise UsageError(f"{prefix}{error}") from None


def shell_command(words: Sequence[str]) -> str:
    """A command as text that the shell of this system understands."""
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)


def resume_command(run: object, *options: str) -> str:
    """The command that continues the training of a run, or restores its files."""
    return shell_command(["fashion-cnn", "train", "--run", str(run), "--resume", *options])


def print_message(text: str = "") -> None:
    """Print a line on standard error."""
    print(text, file=sys.stderr, flush=True)


def plural(count: int, one: str, many: str) -> str:
    """`one` of a single thing, else `many`."""
    return one if count == 1 else many


def printable(text: str) -> str:
    """Text in one line: control characters, and bytes of file names that are no text, escaped."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", lambda x: ascii(x[0])[1:-1], text)


def shorten_error(text: str) -> str:
    """Text as one printable line; of one longer than `MAX_ERROR` the middle is left out."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= MAX_ERROR else f"{line[:300]} … {line[303 - MAX_ERROR :]}"


def error_line(error: BaseException, line: int = 0) -> str:
    """A line of an error's text, at most 200 characters; the error's type where it has no text."""
    return (str(error).strip() or type(error).__name__).splitlines()[line][:200]


def format_seconds(seconds: float) -> str:
    """A duration in seconds, or from two minutes on in minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


@contextmanager
def silence_stderr() -> Iterator[None]:
    """Discard what is written to file descriptor 2.

    TensorFlow and JAX log to it when they are imported, before they can be configured.
    """
    sys.stderr.flush()
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[str], None]]:
    """A progress bar with the time left; where there is no terminal, a line now and then.

    Args:
        total: how many steps there will be.

    Yields:
        A function to be called with the name of each step as it begins.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    console = Console(file=sys.stderr)
    columns = (TextColumn(f"{'':<13}{{task.description:<20}}"), BarColumn(12), MofNCompleteColumn())
    with Progress(*columns, TimeLeft(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        step, last_line = -1, time.monotonic()

        def advance(name: str) -> None:
            nonlocal step, last_line
            step += 1
            bar.update(task, completed=step, description=name)
            if not console.is_terminal and time.monotonic() > last_line + LINE_INTERVAL:
                last_line = time.monotonic()
                print_message(f"{'':<14}{step} of {total}: {name}")

        yield advance
        bar.update(task, completed=total, description="done")


def exit_on_signals() -> None:
    """Let Ctrl-C and SIGTERM end the program in good order, or by force after 1.5 s.

    Python handles a signal only between two of its instructions, and a long computation is one
    instruction. The wake-up pipe is written to at once; a thread that reads it ends the program if
    Python has not reacted in time, or at the second signal.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if os.name != "posix":
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def watch() -> None:
        number = os.read(reader, 1)[0]
        select.select([reader], [], [], SHUTDOWN_SECONDS)
        if sys.stderr.isatty():
            os.write(2, b"\x1b[?25h\n")  # show the cursor, which a progress bar hides
        os._exit(128 + number)

    threading.Thread(target=watch, daemon=True).start()
