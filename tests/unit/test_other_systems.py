"""What differs on Windows and macOS, imitated here by replacing modules and functions."""

import errno
import hashlib
import mimetypes
import os
import shutil
import sys
from pathlib import PureWindowsPath
from types import SimpleNamespace

import numpy as np
import pytest

from fashion_cnn.data import cache, groups
from fashion_cnn.experiments import tune
from fashion_cnn.files import CHECKSUMS, lock_file, read_checksums, write_text
from fashion_cnn.inference import pipes
from fashion_cnn.labeling import log
from fashion_cnn.recipes import RECIPES
from fashion_cnn.serving import server
from fashion_cnn.serving.pages import page_files
from fashion_cnn.serving.settings import Settings
from fashion_cnn.training import distributed

WINDOWS = SimpleNamespace(platform="win32")


@pytest.fixture
def msvcrt(monkeypatch):
    """No fcntl, and a `msvcrt` that keeps (inode, byte) of each lock in `locked`."""
    locked = {}

    def locking(descriptor, mode, count):
        key = os.fstat(descriptor).st_ino, os.lseek(descriptor, 0, os.SEEK_CUR)
        if locked.setdefault(key, descriptor) != descriptor:
            raise PermissionError(errno.EACCES, "Permission denied")

    fake = SimpleNamespace(locking=locking, LK_NBLCK=2, locked=locked)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", fake)
    return fake


def test_windows_locks_a_byte_that_nobody_reads(msvcrt, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    with open(path, "rb") as first, open(path, "rb") as second:
        first.seek(3)
        assert lock_file(first)
        assert first.tell() == 3
        assert not lock_file(second)
    ((_, position),) = msvcrt.locked
    assert position > 2**20


def windows_replace(monkeypatch, failures):
    """`os.replace` as on Windows while another program has the file open."""
    calls, replace = [], os.replace

    def fail(source, target):
        calls.append(target)
        if len(calls) <= failures:
            raise PermissionError(errno.EACCES, "Access is denied")
        replace(source, target)

    monkeypatch.setattr("fashion_cnn.files.sys", WINDOWS)
    monkeypatch.setattr("fashion_cnn.files._RENAME_SECONDS", 0.2)
    monkeypatch.setattr("fashion_cnn.files.os.replace", fail)
    return calls


def test_windows_waits_for_a_program_that_reads_the_file(monkeypatch, tmp_path):
    calls = windows_replace(monkeypatch, failures=2)
    write_text(tmp_path / "history.csv", "epoch\n")
    assert (tmp_path / "history.csv").read_text() == "epoch\n" and len(calls) == 3


def test_windows_does_not_wait_forever(monkeypatch, tmp_path):
    windows_replace(monkeypatch, failures=1000)
    with pytest.raises(OSError, match=r"history\.csv: could not be written"):
        write_text(tmp_path / "history.csv", "epoch\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["/etc/passwd", "C:x", "C:\\x", "\\x", "..\\x", "a/../../x"])
def test_checksums_name_no_file_elsewhere_on_windows(name, tmp_path, monkeypatch):
    monkeypatch.setattr("fashion_cnn.files.Path", PureWindowsPath)
    line = f"{'0' * 64}  {name}\n"
    digest = hashlib.sha256(line.encode()).hexdigest()
    content = f"{line}# SHA-256 of the lines above: {digest}\n"
    (tmp_path / CHECKSUMS).write_text(content, newline="\n")
    with pytest.raises(ValueError, match="not a file of the folder"):
        read_checksums(tmp_path)


def test_windows_removes_decisions_without_rows_after_closing_them(monkeypatch, tmp_path):
    decisions = log.DecisionLog(tmp_path / "decisions.csv")
    unlink = type(decisions.path).unlink

    def refuse_open(path, **options):
        assert decisions._file.closed
        unlink(path, **options)

    monkeypatch.setattr("fashion_cnn.labeling.log.sys", WINDOWS)
    monkeypatch.setattr(type(decisions.path), "unlink", refuse_open)
    decisions.close()
    assert not decisions.path.exists()


def test_windows_searches_without_symbolic_links(monkeypatch, tmp_path):
    def no_privilege(*_):
        raise OSError(errno.EPERM, "A required privilege is not held by the client")

    monkeypatch.setattr(os, "symlink", no_privilege)
    monkeypatch.setattr("fashion_cnn.experiments.tune.sys", WINDOWS)
    assert tune.open_study(tmp_path, RECIPES["sprint"]).get_trials() == []


def test_a_full_disk_is_an_error_without_fallocate(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10))
    with pytest.raises(OSError, match="No space left"):
        cache.cached_array("a", (4, 4), "uint8", lambda array: None)


def test_an_array_that_another_process_has_cached_is_taken(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def replace(source, target):
        np.save(target, np.ones(3, np.uint8))
        raise PermissionError(errno.EACCES, "Access is denied")

    monkeypatch.setattr("fashion_cnn.files.os.replace", replace)
    array = cache.cached_array("a", (3,), "uint8", lambda array: None)
    assert array.tolist() == [1, 1, 1]


def test_the_error_of_an_address_is_that_of_the_system(monkeypatch):
    def listen(host, port):  # macOS' number of getaddrinfo's error is another one of errno's
        raise OSError(8, "nodename nor servname provided, or not known")

    monkeypatch.setattr(server, "listen", listen)
    with pytest.raises(OSError, match="nowhere:80: nodename nor servname provided"):
        server.open_listener(Settings(host="nowhere", port=80))


def test_pages_have_types_that_browsers_run(monkeypatch, tmp_path):
    monkeypatch.setattr(mimetypes, "_db", mimetypes.MimeTypes())
    mimetypes.add_type("text/plain", ".js")
    page_files(tmp_path)
    assert mimetypes.guess_type("page.js") == ("text/javascript", None)


def test_windows_paths_name_groups(monkeypatch):
    monkeypatch.setattr("fashion_cnn.data.groups.os", SimpleNamespace(sep="\\"))
    assert groups._normalized(" .\\coat\\1.jpg") == "coat/1.jpg"


def test_names_in_the_code_page_of_a_console_are_read(monkeypatch):
    monkeypatch.setattr("fashion_cnn.inference.pipes.os.fsdecode", lambda line: line.decode())
    monkeypatch.setattr("locale.getencoding", lambda: "cp850")
    assert pipes._list_lines("café.jpg\n".encode("cp850")) == ["café.jpg"]


def test_windows_trains_in_one_process(monkeypatch):
    monkeypatch.setattr("fashion_cnn.training.distributed.sys", WINDOWS)
    with pytest.raises(ValueError, match="JAX connects processes on Linux and macOS"):
        distributed.require_jax()
