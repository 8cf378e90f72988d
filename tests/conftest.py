"""What tests share: small data drawn here, and the real data where it can be had."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from fashion_cnn.data import Data, load_data

os.environ.pop("FASHION_CNN_DATA", None)
# a busy machine is no failure: nothing here fails for being slow
slow = hypothesis.HealthCheck.too_slow
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[slow])
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def real_data() -> Data:
    """Fashion-MNIST itself: every machine that runs the tests can find or fetch it."""
    return load_data()


@pytest.fixture
def tiny_data() -> Data:
    """Four classes that a network can tell apart: a bright quarter each, and noise."""
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(4, dtype=np.uint8), 60)
    images = rng.integers(0, 100, (240, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[14 * row : 14 * row + 14, 14 * column : 14 * column + 14] += 120
    names = ("north-west", "north-east", "south-west", "south-east")
    return Data(images[:180], labels[:180], images[180:], labels[180:], names)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture(scope="session")
def serving(tmp_path_factory):
    """`with serving("textbook", "--workers", "2") as (process, port, log)`: a server of its own."""

    @contextmanager
    def start(*words):
        log = tmp_path_factory.mktemp("serving") / "log"
        program = Path(sys.executable).with_name("fashion-cnn")
        call = [str(program), "serve", "--port", "0", *map(str, words)]
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
