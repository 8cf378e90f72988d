"""Runs that are killed, damaged or starved of space, resumed and compared to the last bit.

A few of each here; `make test-durability` tries many more and prints how many.
"""

import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command import PROGRAM, write_data_npz
from interruptible_run import at_file_operations, finish

from fashion_cnn import RECIPES, train
from fashion_cnn.data import as_data
from fashion_cnn.evaluation import load_model
from fashion_cnn.run import Run
from fashion_cnn.training.checkpoint import newest_checkpoint, repair

pytestmark = pytest.mark.slow

# All there is to resume: order, augmentation, dropout, normalization, momentum, schedule, bfloat16,
# averaged weights, orthogonal and sharpness-aware steps, CutMix, flips that alternate.
SMALL = {
    "textbook-plus": {"ema": 0.9},
    "sprint": {"options": {"width": 8, "hidden": 8}},
    "standard": {
        "options": {"width": 8, "hidden": 8, "convolutions": 2},
        "optimizer": "muon",
        "schedule": "cosine",
        "bias_rate": 2.0,
        "sam": 0.05,
        "cutmix": 0.5,
        "skip_easy": 0.4,
        "augment": ("alternate_flip", "random", "shift1"),
    },
    "marathon": {"options": {"width": 8, "stem": 2, "hidden": 8}},
}
CHANGES = {"epochs": 3, "batch_size": 29, "seed": 5}
TESTS = str(Path(__file__).parents[1])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with small data and one recipe file a kind."""
    folder = tmp_path_factory.mktemp("durability")
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (180, 28, 28), dtype=np.uint8), np.arange(180) % 4
    write_data_npz(folder / "data.npz", as_data(((x, y), (x[:40], y[:40]))))
    for name, small in SMALL.items():
        recipe = dataclasses.replace(RECIPES[name], **CHANGES, **small)
        (folder / f"{name}.json").write_text(recipe.to_json())
    return folder


def start(place, name, run, fatal=0):
    call = [sys.executable, f"{TESTS}/interruptible_run.py", f"{name}.json", str(run), str(fatal)]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(call, cwd=place, **pipes)


def digest(run):
    """SHA-256 over all that a run ends with, but for seconds and dates."""
    found = hashlib.sha256()
    arrays = newest_checkpoint(Run(run))
    for name in sorted(set(arrays) - {"history", "environment"}):
        found.update(name.encode() + arrays[name].tobytes())
    for weight in load_model(run).get_weights():
        found.update(weight.tobytes())
    history = {**Run(run).history(), "seconds": None}
    metrics = {**Run(run).metrics(), "train_seconds": None}
    answers = Run(run).predictions()
    found.update(json.dumps([history, metrics]).encode())
    found.update(b"".join(answers[name].tobytes() for name in sorted(answers)))
    return found.hexdigest()


@pytest.fixture(scope="module")
def uninterrupted(place):
    """Recipe -> the digest of a run never broken off, and its number of file operations."""
    found = {}

    def of(name):
        if name not in found:
            operations = []
            with at_file_operations(lambda: operations.append(name)):
                finish(place / f"{name}.json", place / "data.npz", place / f"{name}-whole")
            found[name] = digest(place / f"{name}-whole"), len(operations)
        return found[name]

    return of


def kill_at_operation(place, name, run, fatal):
    process = start(place, name, run, fatal)
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL


def kill_after(place, name, run, seconds):
    """Kill `seconds` after the first sign of life; whether it was still alive."""
    process = start(place, name, run)
    while not run.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(seconds)
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def resumed_is_uninterrupted(place, name, run, expected):
    finish(place / f"{name}.json", place / "data.npz", run)
    assert digest(run) == expected
    assert not list(run.rglob(".*"))  # neither a lock nor what was half written
    assert not Run(run).damaged_files()
    shutil.rmtree(run)


def sweep(place, uninterrupted, names, kills, seed):
    """Every other kill within a file operation, the others at any time; the kills that hit."""
    rng, hits = random.Random(seed), 0  # noqa: S311 (no secret)
    for i in range(kills):
        name = names[i % len(names)]
        expected, operations = uninterrupted(name)
        run = place / f"{name}-{i}"
        if i % 2 == 0:
            kill_at_operation(place, name, run, rng.randint(1, operations))
            hits += 1
        else:
            hits += kill_after(place, name, run, rng.uniform(0, 3))
        resumed_is_uninterrupted(place, name, run, expected)
    return hits


def test_three_kills_lose_nothing(place, uninterrupted):
    assert sweep(place, uninterrupted, ["textbook-plus", "standard"], 3, seed=0) >= 2


@pytest.mark.durability
def test_a_sweep_of_kills_loses_nothing(place, uninterrupted, capsys):
    kills = sweep(place, uninterrupted, list(SMALL), 48, seed=1)
    with capsys.disabled():
        print(f"\n{kills} kills, each run resumed to the same bits")
    assert kills >= 40


@pytest.fixture(scope="module")
def finished(place, uninterrupted):
    uninterrupted("standard")
    return place / "standard-whole"


def damages(content, flips, rng):
    """The content cut short at every sixteenth, and with single bits turned."""
    for sixteenth in range(16):
        yield content[: len(content) * sixteenth // 16]
    for _ in range(flips):
        bit = rng.randrange(8 * len(content))
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)


def read_again(run, name):
    """What reads the file, as the verbs do."""
    readers = {
        "SHA256SUMS": Run(run).recipe_values,
        "recipe.json": Run(run).recipe_values,
        "environment.json": Run(run).environment,
        "metrics.json": Run(run).metrics,
        "predictions.npz": Run(run).predictions,
        "history.csv": Run(run).history,
        "model.keras": lambda: load_model(run),
    }
    readers.get(name, lambda: Run(run).verified_path(name))()  # the rest are checkpoints


def damage_all(run, copy, flips):
    """Damage every file in every way; each time it is named, and refused by what reads it."""
    shutil.copytree(run, copy)
    rng, tried = random.Random(0), 0  # noqa: S311 (no secret)
    for path in sorted(p for p in copy.rglob("*") if p.is_file()):
        name, content = path.relative_to(copy).as_posix(), path.read_bytes()
        for damaged in damages(content, flips, rng):
            path.write_bytes(damaged)
            assert Run(copy).damaged_files() == [name]
            with pytest.raises(ValueError, match=f"{path.name}: damaged"):
                read_again(copy, name)
            tried += 1
        path.write_bytes(content)
    assert not Run(copy).damaged_files()
    return tried


def test_damage_is_named(finished, tmp_path):
    assert damage_all(finished, tmp_path / "copy", flips=4) >= 8 * 20


@pytest.mark.durability
def test_damage_of_many_kinds_is_named(finished, tmp_path, capsys):
    tried = damage_all(finished, tmp_path / "copy", flips=200)
    assert tried >= 8 * 200
    with capsys.disabled():
        print(f"\n{tried} damaged files, each named and refused")


def test_a_damaged_checkpoint_is_passed_over(finished, tmp_path):
    """Without the run's sums too: a checkpoint has its own."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "SHA256SUMS").unlink()
    newest = max((run / "checkpoints").iterdir())
    content = newest.read_bytes()
    for damaged in damages(content, 8, random.Random(0)):  # noqa: S311 (no secret)
        newest.write_bytes(damaged)
        with pytest.warns(UserWarning, match=r"epoch-00003\.npz: damaged"):
            assert len(newest_checkpoint(Run(run))["history"]) == 2


@pytest.mark.parametrize(
    "name", ["model.keras", "recipe.json", "history.csv", "checkpoints/epoch-00003.npz"]
)
def test_a_finished_run_is_repaired(place, finished, tmp_path, uninterrupted, name):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / name).write_bytes(b"?")
    assert repair(Run(run)) == [name]
    finish(place / "standard.json", place / "data.npz", run)
    assert digest(run) == uninterrupted("standard")[0]
    assert not Run(run).damaged_files()


FULL = """
import resource, sys
from fashion_cnn import train
from fashion_cnn.keras_setup import keras
class Fill(keras.callbacks.Callback):  # from the second epoch on no file may be longer
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
train("textbook-plus.json", "data.npz", sys.argv[1], callbacks=[Fill()])
"""


def test_a_full_disk_leaves_the_checkpoint_before(place, uninterrupted):
    call = [sys.executable, "-c", FULL, "full"]
    done = subprocess.run(call, cwd=place, capture_output=True, text=True, timeout=300)
    assert "epoch-00002.npz: could not be written (File too large)" in done.stderr
    run = place / "full"
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["epoch-00001.npz"]
    assert not list(run.rglob(".*"))
    resumed_is_uninterrupted(place, "textbook-plus", run, uninterrupted("textbook-plus")[0])


def test_no_space_is_said_before_training(place, tmp_path, monkeypatch):
    usage = shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"run: 1 MB free; a run of this model needs 1\d MB"):
        train(str(place / "sprint.json"), place / "data.npz", tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


def test_two_trainings_of_one_run_are_kept_apart(place, tmp_path):
    recipe, data, run = str(place / "sprint.json"), place / "data.npz", tmp_path / "run"
    run.mkdir()
    with (
        Run(run).lock(),
        pytest.raises(ValueError, match=f"in use by process {os.getpid()}"),
    ):
        train(recipe, data, run)
    train(recipe, data, run)
    assert not (run / ".lock").exists()


def test_resuming_with_another_model_is_refused(place, finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    from fashion_cnn.models import build_model

    other = build_model("textbook", (28, 28, 1), 4)
    with pytest.raises(ValueError, match="started with another model; resume it without"):
        train(
            place / "standard.json",
            place / "data.npz",
            run,
            model=other,
            scale="0..255",
            resume=True,
        )


def interrupted(folder, first_images, *numbers):
    """Send signals to a training in short steps, in its second epoch or later."""
    write_data_npz(folder / "few.npz", first_images(train=500, test=9))
    call = [PROGRAM, "train", "textbook", "--data", "few.npz", "--epochs", "9999"]
    run = folder / "run"
    options = {"cwd": folder, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*call, "--batch-size", "50", "--run", run], **options)
    while not list(run.glob("checkpoints/epoch-*.npz")) and process.poll() is None:
        time.sleep(0.05)
    for number in numbers:
        process.send_signal(number)
    began = time.monotonic()
    error = process.communicate(timeout=60)[1]
    return process.returncode, error, time.monotonic() - began


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_in_good_order(tmp_path, first_images, number, status):
    returned, error, _ = interrupted(tmp_path, first_images, number)
    assert returned == status
    assert "--resume" in error.splitlines()[-1]
    assert "Traceback" not in error
    assert len(newest_checkpoint(Run(tmp_path / "run"))["history"]) >= 1
    assert not list((tmp_path / "run").rglob(".*"))


def test_a_second_signal_ends_it_at_once(tmp_path, first_images):
    returned, _, _ = interrupted(tmp_path, first_images, signal.SIGTERM, signal.SIGTERM)
    assert returned == 143
    assert len(newest_checkpoint(Run(tmp_path / "run"))["history"]) >= 1


BUSY = """
import hashlib, os, sys, threading
from fashion_cnn import console
console.exit_on_signals()
threading.Timer(1, os.kill, (os.getpid(), int(sys.argv[1]))).start()
hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # an hour, in which Python hears no signal
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_long_computation_too(number, status):
    call = [sys.executable, "-c", BUSY, str(int(number))]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (status, "")
