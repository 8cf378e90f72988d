"""The command line as tests call it: in this process, or in one of its own."""

import contextlib
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

import numpy as np

from fashion_cnn import cli

_NAME = "fashion-cnn.exe" if sys.platform == "win32" else "fashion-cnn"
PROGRAM = str(Path(sys.executable).with_name(_NAME))
# XLA compiles in half of the time without optimizing
_FLAGS = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
QUICK_XLA = {"XLA_FLAGS": _FLAGS.strip()}


def fashion_cnn(*words, cwd=None, status=0, **environment):
    """Run a command in this process, where Keras is imported once for all tests.

    Args:
        words: what follows `fashion-cnn`.
        cwd: the working directory. Default: the current one.
        status: the exit status that is expected; None takes any. Default: 0.
        environment: variables that are set while it runs.

    Returns:
        `subprocess.CompletedProcess` with what it printed.
    """
    words, out, err = [str(word) for word in words], io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, environment),  # and what the command sets is forgotten
        contextlib.chdir(cwd or "."),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
        mock.patch("warnings.showwarning", _say),
    ):
        warnings.filterwarnings("default", category=UserWarning, module="fashion_cnn")
        try:
            returned = cli.run_command(words)
        except SystemExit as exit:
            returned = exit.code
    done = subprocess.CompletedProcess(words, returned, out.getvalue(), err.getvalue())
    assert status in (None, done.returncode), (words, done.stderr)
    return done


def _say(message, *_, **__):
    print(f"fashion-cnn: {message}", file=sys.stderr)


def fashion_cnn_process(*words, cwd=None, status=0, **environment):
    """The same in a process of its own: for what starts, ends or reads a process."""
    call, environment = [PROGRAM, *map(str, words)], os.environ | environment
    pipes = {"capture_output": True, "text": True, "timeout": 900}
    done = subprocess.run(call, cwd=cwd, env=environment, **pipes)
    assert status in (None, done.returncode), (words, done.stderr)
    return done


def jax_environment(**changes):
    """The environment of a process on JAX that compiles quickly."""
    return {**os.environ, "KERAS_BACKEND": "jax", **QUICK_XLA, **changes}


def run_on_jax(program, *arguments, cwd=None, **environment):
    """Run Python code on JAX, which can import from `tests`; what it printed."""
    call = [sys.executable, "-c", program, *map(str, arguments)]
    environment = jax_environment(PYTHONPATH=str(Path(__file__).parent), **environment)
    done = subprocess.run(call, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_data_npz(path, data):
    """Write the images and labels of a `Data` as a file that `--data` and `load_data` read."""
    arrays = {"x_train": data.train_images, "y_train": data.train_labels}
    np.savez(path, **arrays, x_test=data.test_images, y_test=data.test_labels)


def die(*_):
    """Work that ends its process; a pool's process can import it from here in no time."""
    os._exit(1)
