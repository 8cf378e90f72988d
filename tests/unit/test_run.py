import hashlib
import os
import subprocess
import sys

import pytest

from fashion_cnn.files import write_atomically, write_text
from fashion_cnn.run import Run

# where the sums are checked by a program, and a file that is in no folder of a run
SHA256SUM = ["sha256sum"] if sys.platform == "linux" else ["shasum", "-a", "256"]  # of macOS
ELSEWHERE = "C:/Windows/win.ini" if sys.platform == "win32" else "/etc/passwd"


def test_folders_count_up(tmp_path):
    names = [Run.create("textbook", tmp_path).folder.name for _ in range(2)]
    (tmp_path / "textbook-9").mkdir()
    (tmp_path / "textbook-plus-20").mkdir()
    names.append(Run.create("textbook", tmp_path).folder.name)
    assert names == ["textbook-1", "textbook-2", "textbook-10"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "file.txt", "old")

    def half(path):
        path.write_text("new, but ha")
        raise OSError("no space left")

    with pytest.raises(OSError, match=r"file\.txt: could not be written \(no space left\)"):
        write_atomically(tmp_path / "file.txt", half)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("file.txt", "old")]


@pytest.mark.skipif(
    sys.platform == "win32", reason="there is no program that checks sums on Windows"
)
def test_sums_are_what_sha256sum_checks(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    write_text(tmp_path / "a.txt", "a")
    write_text(tmp_path / "checkpoints" / "b.txt", "b")
    Run(tmp_path).write_checksums()
    command = [*SHA256SUM, "--check", "SHA256SUMS"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout == "a.txt: OK\ncheckpoints/b.txt: OK\n"
    assert done.stderr == ""  # the last line is a comment


def test_sums_that_were_cut_short_are_damaged(tmp_path):
    for name in ("a.txt", "b.txt"):
        write_text(tmp_path / name, name)
    Run(tmp_path).write_checksums()
    lines = (tmp_path / "SHA256SUMS").read_text().splitlines(keepends=True)
    assert sorted(Run(tmp_path).read_checksums()) == ["a.txt", "b.txt"]
    for kept in ([], lines[:1], lines[1:], lines[:2], [*lines, "\n"]):
        (tmp_path / "SHA256SUMS").write_text("".join(kept), newline="\n")
        assert Run(tmp_path).damaged_files() == ["SHA256SUMS"]


def test_a_changed_or_missing_file_is_named(tmp_path):
    for name in ("a.txt", "b.txt", "c.txt"):
        write_text(tmp_path / name, name)
    Run(tmp_path).write_checksums()
    (tmp_path / "a.txt").write_text("A.txt")
    (tmp_path / "b.txt").unlink()
    assert Run(tmp_path).damaged_files() == ["a.txt", "b.txt"]
    with pytest.raises(ValueError, match=r"a\.txt: damaged, or changed.*--resume"):
        Run(tmp_path).verified_path("a.txt")
    assert Run(tmp_path).verified_path("c.txt").read_text() == "c.txt"


def test_the_lock_names_its_process_and_clears_what_was_half_written(tmp_path):
    (tmp_path / ".writing-x.npz").write_text("ha")
    (tmp_path / ".writing-y" / "copy").mkdir(parents=True)
    (tmp_path / ".lock").write_text("12345")  # of a process that was killed
    with Run(tmp_path).lock():
        assert not list(tmp_path.glob(".writing-*"))
        with pytest.raises(ValueError, match=f"process {os.getpid()};"), Run(tmp_path).lock():
            pass
    left = [".lock"] if sys.platform == "win32" else []  # where no open file is removed
    assert [path.name for path in tmp_path.iterdir()] == left
    with Run(tmp_path).lock():
        pass


def test_history_has_the_promised_columns(tmp_path):
    row = {"epoch": 1.0, "loss": 0.5, "accuracy": 0.8, "val_loss": 0.4, "val_accuracy": 0.9}
    Run(tmp_path).write_history([{**row, "learning_rate": 0.001, "seconds": 2.5}])
    assert (tmp_path / "history.csv").read_text() == (
        "epoch,loss,accuracy,val_loss,val_accuracy,learning_rate,seconds\n"
        "1,0.5,0.8,0.4,0.9,0.001,2.5\n"
    )


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no metrics\.json"):
        Run(tmp_path).metrics()


@pytest.mark.parametrize("name", ["../victim", ELSEWHERE, "checkpoints/../../victim", ""])
def test_sums_of_files_outside_the_run_are_damaged(tmp_path, name):
    run = tmp_path / "run"
    run.mkdir()
    body = f"{'0' * 64}  {name}\n"
    digest = hashlib.sha256(body.encode()).hexdigest()
    content = f"{body}# SHA-256 of the lines above: {digest}\n"
    (run / "SHA256SUMS").write_text(content, newline="\n")
    with pytest.raises(ValueError, match="SHA256SUMS: damaged"):
        Run(run).read_checksums()
    assert Run(run).damaged_files() == ["SHA256SUMS"]
