"""A whole run, which can be told to die at any of its file operations.

`python interruptible_run.py RECIPE RUN N` trains the recipe file on data.npz, or resumes the run,
and kills itself at the Nth point before or after a file operation; 0 lets it live.
"""

import itertools
import os
import signal
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

from fashion_cnn import train
from fashion_cnn.data import load_data
from fashion_cnn.evaluation import measure_run
from fashion_cnn.run import Run

OPERATIONS = ((os, "fsync"), (os, "replace"), (Path, "unlink"), (Path, "write_bytes"))


@contextmanager
def at_file_operations(do):
    """Call `do()` before and after each write, flush, renaming or deletion of a file of a run."""

    def guarded(act):
        def between(*words, **options):
            do()
            done = act(*words, **options)
            do()
            return done

        return between

    with ExitStack() as stack:
        for owner, name in OPERATIONS:
            stack.enter_context(mock.patch.object(owner, name, guarded(getattr(owner, name))))
        yield


def finish(recipe, source, run):
    """Train, or resume; evaluate and write the checksums."""
    data = load_data(source)
    train(str(recipe), data, run, resume=run.is_dir())
    measure_run(Run(run), data)
    Run(run).write_checksums()


if __name__ == "__main__":
    fatal, points = int(sys.argv[3]), itertools.count(1)

    def die():
        if next(points) == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    with at_file_operations(die):
        finish(sys.argv[1], "data.npz", Path(sys.argv[2]))
