"""What people see while they wait: lines and bars on standard error."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS = 10  # between two lines


def print_message(text: str = "") -> None:
    """A line on standard error."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def silence_stderr() -> Iterator[None]:
    """Let nothing reach file descriptor 2, to which TensorFlow and JAX greet when they wake up.

    They write straight to it, before any setting of their own can stop them.
    """
    sys.stderr.flush()
    terminal, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nowhere)


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[str], None]]:
    """A bar with the time left; where there is no terminal, a line now and then.

    Args:
        total: how many steps there will be.

    Yields:
        A function to be called with the name of each step as it begins.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Left

    console = Console(file=sys.stderr)
    columns = (TextColumn(f"{'':<13}{{task.description:<20}}"), BarColumn(12), MofNCompleteColumn())
    with Progress(*columns, Left(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        begun, said = -1, time.monotonic()

        def advance(name: str) -> None:
            nonlocal begun, said
            begun += 1
            bar.update(task, completed=begun, description=name)
            if not console.is_terminal and time.monotonic() > said + SECONDS:
                said = time.monotonic()
                print_message(f"{'':<14}{begun} of {total}: {name}")

        yield advance
        bar.update(task, completed=total, description="done")
