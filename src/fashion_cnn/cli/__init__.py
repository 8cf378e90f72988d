"""The command line: one verb, one function. Commands parse words, call the package, and print."""

import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

import fashion_cnn
from fashion_cnn.cli import data, evaluate, label, predict, search, train
from fashion_cnn.console import UsageError, exit_on_signals, print_message, shorten_error

app = typer.Typer(
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train, understand and use a convolutional classifier for clothes.",
    epilog="Add --debug to any command for details, and the full traceback of a failure.",
)
_COMMANDS: list[Callable[..., None]] = [data.data, data.recipes, train.train, evaluate.evaluate]
_COMMANDS += [data.presets, predict.predict, evaluate.export, predict.serve]
_COMMANDS += [evaluate.report, evaluate.compare, search.tune, search.audit, label.label]
for command in _COMMANDS:
    app.command()(command)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"fashion-cnn {fashion_cnn.__version__}")
        raise typer.Exit


_Version = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
]


@app.callback()
def _main_options(version: _Version = False) -> None:
    pass


# module -> the extra that installs it; all others come with `train`
_EXTRAS = {
    "cleanlab": "audit",
    "statsmodels": "label",
    "jax": "jax",
    "ai_edge_litert": "litert",
    "openvino": "openvino",
}
_EXTRAS |= dict.fromkeys(("optuna", "pyarrow", "ray"), "scale")
_EXTRAS |= dict.fromkeys(("fastapi", "h11", "uvicorn"), "serve")
_FAILURES = (ValueError, OSError, ArithmeticError, MemoryError, RuntimeError, ModuleNotFoundError)


def main() -> None:
    """Run the command line. Exit status: 0; 2 wrong usage, 1 failure, 130 Ctrl-C, 143 SIGTERM."""
    exit_on_signals()
    if isinstance(sys.stdout, io.TextIOWrapper):  # standard error escapes already
        is_file = sys.platform == "win32" and not sys.stdout.isatty()  # else cp1252, or the like
        sys.stdout.reconfigure(encoding="utf-8" if is_file else None, errors="backslashreplace")
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it complains where no home is
    warnings.formatwarning = lambda message, *_, **__: f"fashion-cnn: {message}\n"
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: Sequence[str]) -> int:
    """Run one command; its exit status. An error becomes one line on standard error."""
    words = [_expand_home(word) for word in arguments if word != "--debug"]
    if "--debug" in arguments:
        logger = logging.getLogger("fashion_cnn")
        logger.setLevel(logging.DEBUG)
        logger.addHandler(logging.StreamHandler())
    try:
        status = app(words or ["--help"], standalone_mode=False) or 0
        sys.stdout.flush()  # here, where its errors are caught
        return status
    except typer.TyperException as error:  # found by Typer itself
        print_message(f"fashion-cnn: {shorten_error(error.format_message())} See --help.")
        return error.exit_code
    except _FAILURES as error:
        if "--debug" in arguments and not isinstance(error, UsageError):
            raise
        if isinstance(error, BrokenPipeError):  # the reader wants no more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        else:
            print_message(f"fashion-cnn: {_message(error, words)}")
        return 2 if isinstance(error, UsageError) else 1


def _expand_home(word: str) -> str:
    """A word of the command line with `~` expanded, also after `=`, where no shell does it."""
    return "=".join(map(os.path.expanduser, word.split("=", 1)))


def _message(error: BaseException, words: Sequence[str]) -> str:
    """One line about an error of a command."""
    if isinstance(error, ModuleNotFoundError):
        extra = _EXTRAS.get(error.name or "", "train")
        extra = "label" if words[:1] == ["label"] else extra  # which includes what it needs
        return f'{error.name} is not installed: pip install "fashion-cnn[{extra}]"'
    name = "not enough memory" if isinstance(error, MemoryError) else type(error).__name__
    return shorten_error(str(error)) or name
