"""Words of the command line in; names of pictures, and pictures that came through pipes, out."""

import codecs
import locale
import os
import re
import sys
from pathlib import Path

STDIN = ("-", "/dev/stdin")
MAX_PATH, MAX_FILE_NAME = 4096, 255  # bytes; no longer ones can be opened
CONTROL_CHARACTERS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")  # in every picture format


def read_pipes(words: list[str]) -> tuple[list[str], dict[str, bytes]]:
    """Read standard input and other pipes among the words.

    Args:
        words: files, folders, patterns and addresses; `-` and `/dev/stdin` are standard input.

    Returns:
        The words, with the lines of a list in place of the pipe that it came through; and, for each
        pipe that held no list, its name, which is also among the words, and its content.
    """
    names: list[str] = []
    pictures: dict[str, bytes] = {}
    for word in words:
        content = _read_pipe(word)
        lines = None if content is None else _list_lines(content)
        if content is not None and lines is None:
            pictures[word] = content
        names += [word] if lines is None else lines
    return [name for name in names if name], pictures


def _read_pipe(word: str) -> bytes | None:
    if word in STDIN:
        return sys.stdin.buffer.read()
    return Path(word).read_bytes() if Path(word).is_fifo() else None


def _list_lines(content: bytes) -> list[str] | None:
    """The lines of a list of names; None if it is something else, such as a picture."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as PowerShell writes
        content = content.decode("utf-16", "replace").encode()
    lines = content.removeprefix(codecs.BOM_UTF8).splitlines()
    is_list = not CONTROL_CHARACTERS.search(content) and all(map(_is_name, lines))
    return [_decode(line) for line in lines] if is_list else None


def _decode(line: bytes) -> str:
    try:
        return os.fsdecode(line)
    except UnicodeDecodeError:  # Windows: of a program that writes its own code page
        return line.decode(locale.getencoding(), "replace")


def _is_name(line: bytes) -> bool:
    longest = max(map(len, line.split(b"/")))
    return b"://" in line or (len(line) <= MAX_PATH and longest <= MAX_FILE_NAME)
