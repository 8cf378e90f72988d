"""One training by several processes, some of which die."""

import ipaddress
import json
import multiprocessing
import os
import socket
import time
from concurrent.futures import BrokenExecutor
from dataclasses import replace
from multiprocessing.connection import Client
from pathlib import Path

import numpy as np
import pytest
from command import fashion_cnn
from rounding import SAME, apart
from scaling import STEADY, AfterAnEpoch, assert_same, weights

from fashion_cnn.data import as_data
from fashion_cnn.evaluation import measure_run
from fashion_cnn.export import export_in_process
from fashion_cnn.run import Run
from fashion_cnn.training.distributed import _Ear, train_distributed
from fashion_cnn.training.loop import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quickly_compiled")]


def test_two_processes_train_like_one(data, alone, tmp_path):
    run, addresses = tmp_path / "run", []
    callback = AfterAnEpoch(lambda: addresses.extend(listening()))
    train_distributed(STEADY, data, run, 2, callbacks=[callback])
    assert len(addresses) >= 3  # each process, and where they meet
    assert all(address.is_loopback for address in addresses), addresses
    assert_same(run, alone)
    about = Run(run).environment()
    assert (about["processes"], about["backend"]) == (2, "jax")


def listening():
    """The addresses at which children of this process listen."""
    found = []
    for process in multiprocessing.active_children():
        files = [os.readlink(x) for x in Path(f"/proc/{process.pid}/fd").iterdir()]
        sockets = {x.removeprefix("socket:[").rstrip("]") for x in files if x.startswith("socket:")}
        for kind in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == "0A" and columns[9] in sockets:  # listens
                    words = np.frombuffer(bytes.fromhex(columns[1].split(":")[0]), ">u4")
                    address = ipaddress.ip_address(words.astype("<u4").tobytes())
                    found.append(getattr(address, "ipv4_mapped", None) or address)
    return found


def test_a_teacher_teaches_several_processes_alike(data, alone, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    some = as_data(
        ((data.train_images[:125], data.train_labels[:125]), (data.test_images, data.test_labels))
    )
    recipe = replace(STEADY, epochs=1, learning_rate=0.03)  # 3 batches and 17 images
    train(recipe, some, tmp_path / "teacher")
    measure_run(Run(tmp_path / "teacher"), some)
    export_in_process(Run(tmp_path / "teacher"), some, "onnx", tmp_path / "teacher" / "model.onnx")
    taught = replace(recipe, teacher=str(tmp_path / "teacher"))
    ends = []
    for name, processes, chosen in (("1", 1, taught), ("2", 2, taught), ("labels", 1, recipe)):
        train_distributed(chosen, some, tmp_path / name, processes)
        ends.append(weights(tmp_path / name))
    start = alone[0]
    assert apart(ends[1], ends[0], start) < SAME
    assert apart(ends[2], ends[0], start) > 10 * SAME  # what is learnt does make a difference


def test_a_process_that_is_killed_is_replaced(data, alone, tmp_path):
    run, died = tmp_path / "run", []

    def kill():
        victim = multiprocessing.active_children()[-1]
        died.append(victim.pid)
        victim.kill()

    callback = AfterAnEpoch(kill)
    train_distributed(STEADY, data, run, 2, callbacks=[callback])
    assert len(died) == 1
    assert callback.ends == [0, 1]  # none twice
    assert Run(run).history()["epoch"] == [1, 2]
    assert_same(run, alone)


def test_no_more_processes_go_on_than_were_asked_for(data, tmp_path, monkeypatch):
    seen = []

    def attempt(place, processes, *_):
        seen.append(processes)
        if len(seen) == 1:
            raise BrokenExecutor("killed")

    monkeypatch.setattr("fashion_cnn.training.distributed._attempt", attempt)
    monkeypatch.setattr("fashion_cnn.parallel.cluster.Here.room", lambda *_: 64)
    train_distributed(STEADY, data, tmp_path / "run", 2)
    assert seen == [2, 2]


def test_what_goes_wrong_in_a_process_is_said_here(data, tmp_path):
    steep = replace(STEADY, learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="--learning-rate"):
        train_distributed(steep, data, tmp_path / "run", 2)
    with pytest.raises(ValueError, match=r"batch_size: got 36; 5 processes .* --processes 4"):
        train_distributed(STEADY, data, tmp_path / "other", 5)


def test_whoever_hangs_up_does_not_stop_the_ear(tmp_path, monkeypatch):
    heard = AfterAnEpoch(None)
    with _Ear([heard]) as ear:
        assert not Path(ear.address).parent.stat().st_mode & 0o077  # for this user alone
        for _ in range(3):
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(ear.address)
        with Client(ear.address, authkey=ear.key) as line:
            line.send_bytes(json.dumps(["on_epoch_end", 7, {}]).encode())
        for _ in range(200):
            if heard.ends:
                break
            time.sleep(0.05)
    assert heard.ends == [7]
    monkeypatch.setattr("multiprocessing.util.get_temp_dir", lambda: str(tmp_path / ("x" * 100)))
    with pytest.raises(OSError, match=r"TMPDIR: .* give a shorter one"):
        _Ear([])


def test_tensorflow_is_refused(tmp_path):
    words = ("train", "sprint", "--processes", "2")
    done = fashion_cnn(*words, cwd=tmp_path, status=1, KERAS_BACKEND="tensorflow")
    assert done.stdout == ""
    assert "KERAS_BACKEND: got tensorflow; several processes train on jax" in done.stderr
