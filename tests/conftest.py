"""What tests share: small data drawn here, and the real data where it can be had."""

import dataclasses
import os
import re
import signal
import subprocess
import time
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from command import PROGRAM

from fashion_cnn.data import Data, load_data

os.environ.pop("FASHION_CNN_DATA", None)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # two workers share the cores; no spinning
signal.signal(signal.SIGINT, signal.default_int_handler)  # `make test &` in a script ignores it
# a busy machine is no failure: nothing here fails for being slow
slow = hypothesis.HealthCheck.too_slow
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[slow])
hypothesis.settings.load_profile("untimed")


def pytest_collection_modifyitems(items):
    """Files with slow tests first: what takes seconds evens out the workers at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def real_data() -> Data:
    """Fashion-MNIST itself: every machine that runs the tests can find or fetch it."""
    return load_data()


@pytest.fixture(scope="session")
def first_images(real_data):
    """`first_images(train, test)`: Fashion-MNIST's first images; its checksums as they are."""

    def shorten(train, test):
        held_out = real_data.validation_index
        return dataclasses.replace(
            real_data,
            train_images=real_data.train_images[:train],
            train_labels=real_data.train_labels[:train],
            test_images=real_data.test_images[:test],
            test_labels=real_data.test_labels[:test],
            held_out=held_out[held_out < train],
        )

    return shorten


@pytest.fixture
def fewer_images(first_images, monkeypatch):
    """Makes Fashion-MNIST shorter for commands in this process."""

    def shorten(train, test):
        fewer = first_images(train, test)
        monkeypatch.setattr("fashion_cnn.data.load_fashion_mnist", lambda: fewer)

    return shorten


class SerialPool:
    """A pool without processes: `submit` calls the function."""

    def capacity(self):
        return 1

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future


@pytest.fixture
def serial_pool(monkeypatch):
    """Seeds and trials are trained one by one in this process, which has imported Keras."""

    def open_pool(*_, **__):
        return nullcontext(SerialPool())

    monkeypatch.setattr("fashion_cnn.experiments.seeds.open_pool", open_pool)
    monkeypatch.setattr("fashion_cnn.experiments.tune.open_pool", open_pool)


@pytest.fixture(scope="session")
def tiny_data() -> Data:
    """Four classes that a network can tell apart: a bright quarter each, and noise."""
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(4, dtype=np.uint8), 60)
    images = rng.integers(0, 100, (240, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[14 * row : 14 * row + 14, 14 * column : 14 * column + 14] += 120
    images.flags.writeable = labels.flags.writeable = False  # nobody spoils it for the next
    names = ("north-west", "north-east", "south-west", "south-east")
    return Data(images[:180], labels[:180], images[180:], labels[180:], names)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture(scope="session")
def serving(tmp_path_factory):
    """`with serving("textbook", "--workers", "2") as (process, port, log)`: a server of its own.

    With `verb="label"` that of `fashion-cnn label`.
    """

    @contextmanager
    def start(*words, verb="serve"):
        log = tmp_path_factory.mktemp("serving") / "log"
        call = [PROGRAM, verb, "--port", "0", *map(str, words)]
        with log.open("w") as output, subprocess.Popen(call, stderr=output) as process:
            try:
                for _ in range(600):
                    if found := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text()):
                        break
                    assert process.poll() is None, log.read_text()
                    time.sleep(0.05)
                yield process, int(found[1]), log
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(30)

    return start
