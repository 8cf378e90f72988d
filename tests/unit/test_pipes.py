import io
import locale
import os
import sys
from types import SimpleNamespace

import pytest

from fashion_cnn.inference.pipes import read_pipes

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
LATIN = b"caf\xe9.png"
LATIN_NAME = "caf\udce9.png"
if sys.platform == "win32":  # where names are text, in the code page of the program that lists them
    LATIN_NAME = LATIN.decode(locale.getencoding(), "replace")


def read_stdin(monkeypatch, content, word="-"):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    return read_pipes(["a.png", word, "z.png"])


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"b.png\r\n\nc d.jpg", ["b.png", "c d.jpg"]),
        (b"\xef\xbb\xbfb.png\n", ["b.png"]),
        ("ü.png\r\n".encode("utf-16"), ["ü.png"]),
        (LATIN + b"\ns3://bucket/" + b"k" * 300, [LATIN_NAME, "s3://bucket/" + "k" * 300]),
        (b"", []),
    ],
)
def test_a_list_on_standard_input_takes_the_place_of_its_word(monkeypatch, content, names):
    for word in ("-", "/dev/stdin"):
        assert read_stdin(monkeypatch, content, word) == (["a.png", *names, "z.png"], {})


@pytest.mark.parametrize("content", [PNG, b"text " * 80, b"a.png\0b.png"])
def test_what_is_no_list_of_names_is_a_picture(monkeypatch, content):
    assert read_stdin(monkeypatch, content) == (["a.png", "-", "z.png"], {"-": content})


@pytest.mark.skipif(sys.platform == "win32", reason="there is no /dev/fd on Windows")
def test_a_pipe_is_read_once_as_a_list_or_a_picture():
    for content, expected in ((b"b.png\n", ["b.png"]), (PNG, None)):
        reader, writer = os.pipe()
        os.write(writer, content)
        os.close(writer)
        word = f"/dev/fd/{reader}"
        names, pictures = read_pipes([word])
        os.close(reader)
        assert names == (expected or [word])
        assert pictures == ({} if expected else {word: PNG})
