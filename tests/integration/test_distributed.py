"""One training by several processes, some of which die."""

import ipaddress
import json
import multiprocessing
import os
import sys
import tempfile
from concurrent.futures import BrokenExecutor, Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import fashion_cnn
from multi_process import STABLE, AfterFirstEpoch, assert_same_weights, weights
from rounding import ROUNDING, relative_difference

from fashion_cnn.data import as_data
from fashion_cnn.evaluation import measure_run
from fashion_cnn.export import export_in_process
from fashion_cnn.run import Run
from fashion_cnn.training.distributed import _forward_events, train_distributed
from fashion_cnn.training.loop import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fast_compilation")]


def test_two_processes_train_like_one(data, one_process, tmp_path, monkeypatch):
    folder = tmp_path / ("x" * 100)  # for temporary files; longer than the address of a socket
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    run, addresses, modes = tmp_path / "run", [], []

    def look():
        if sys.platform == "linux":  # elsewhere there is no /proc to find them in
            addresses.extend(listening_addresses())
        modes.extend(path.stat().st_mode for path in folder.glob("fashion-cnn-*"))

    train_distributed(STABLE, data, Run(run), 2, callbacks=[AfterFirstEpoch(look)])
    if sys.platform == "linux":
        assert len(addresses) >= 3  # each process, and where they meet
    assert all(address.is_loopback for address in addresses), addresses
    assert len(modes) == 1 and not modes[0] & 0o077  # only this user can open the events
    assert not list(folder.glob("fashion-cnn-*"))
    assert_same_weights(run, one_process)
    environment = Run(run).environment()
    assert (environment["processes"], environment["backend"]) == (2, "jax")


def listening_addresses():
    """The addresses at which children of this process listen."""
    addresses = []
    for process in multiprocessing.active_children():
        files = [os.readlink(x) for x in Path(f"/proc/{process.pid}/fd").iterdir()]
        sockets = {x.removeprefix("socket:[").rstrip("]") for x in files if x.startswith("socket:")}
        for protocol in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{protocol}").read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == "0A" and columns[9] in sockets:  # the state LISTEN
                    words = np.frombuffer(bytes.fromhex(columns[1].split(":")[0]), ">u4")
                    address = ipaddress.ip_address(words.astype("<u4").tobytes())
                    addresses.append(getattr(address, "ipv4_mapped", None) or address)
    return addresses


def test_a_teacher_teaches_several_processes_alike(data, one_process, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fewer = as_data(
        ((data.train_images[:125], data.train_labels[:125]), (data.test_images, data.test_labels))
    )
    recipe = replace(STABLE, epochs=1, learning_rate=0.03)  # 3 batches and 17 images
    train(recipe, fewer, tmp_path / "teacher")
    measure_run(Run(tmp_path / "teacher"), fewer)
    export_in_process(Run(tmp_path / "teacher"), fewer, "onnx", tmp_path / "teacher" / "model.onnx")
    distilled = replace(recipe, teacher=str(tmp_path / "teacher"))
    ends = []
    for name, processes, chosen in (
        ("1", 1, distilled),
        ("2", 2, distilled),
        ("labels", 1, recipe),
    ):
        train_distributed(chosen, fewer, Run(tmp_path / name), processes)
        ends.append(weights(tmp_path / name))
    start = one_process[0]
    assert relative_difference(ends[1], ends[0], start) < ROUNDING
    assert (
        relative_difference(ends[2], ends[0], start) > 10 * ROUNDING
    )  # the teacher does make a difference


def test_a_process_that_is_killed_is_replaced(data, one_process, tmp_path):
    run, killed = tmp_path / "run", []

    def kill():
        process = multiprocessing.active_children()[-1]
        killed.append(process.pid)
        process.kill()

    callback = AfterFirstEpoch(kill)
    train_distributed(STABLE, data, Run(run), 2, callbacks=[callback])
    assert len(killed) == 1
    assert callback.finished == [0, 1]  # none twice
    assert Run(run).history()["epoch"] == [1, 2]
    assert_same_weights(run, one_process)


def test_no_more_processes_go_on_than_were_requested(data, tmp_path, monkeypatch):
    attempts = []

    def attempt(pool, processes, *_):
        attempts.append(processes)
        if len(attempts) == 1:
            raise BrokenExecutor("killed")

    monkeypatch.setattr("fashion_cnn.training.distributed._attempt", attempt)
    monkeypatch.setattr("fashion_cnn.parallel.local.LocalPool.wait_for_slots", lambda *_: 64)
    train_distributed(STABLE, data, Run(tmp_path / "run"), 2)
    assert attempts == [2, 2]


def test_an_error_of_a_process_is_raised_here(data, tmp_path):
    diverging = replace(STABLE, learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="--learning-rate"):
        train_distributed(diverging, data, Run(tmp_path / "run"), 2)
    with pytest.raises(ValueError, match=r"batch_size: got 36; 5 processes .* --processes 4"):
        train_distributed(STABLE, data, Run(tmp_path / "other"), 5)


def test_events_are_forwarded_when_their_line_is_complete(tmp_path):
    events, futures, callback = tmp_path / "events.jsonl", [Future()], AfterFirstEpoch(None)
    lines = "".join(json.dumps(["on_epoch_end", i, {}]) + "\n" for i in (7, 8))
    events.write_text(lines[:-5])

    def finish_writing():
        with events.open("a") as file:
            file.write(lines[-5:])
        futures[0].set_result(None)

    callback.action = finish_writing
    _forward_events(events, futures, [callback])
    assert callback.finished == [7, 8]


def test_tensorflow_is_refused(tmp_path):
    words = ("train", "sprint", "--processes", "2")
    refused = fashion_cnn(*words, cwd=tmp_path, status=1, KERAS_BACKEND="tensorflow")
    assert refused.stdout == ""
    assert "KERAS_BACKEND: got tensorflow; several processes train on jax" in refused.stderr
