"""What more than one file of unit tests uses."""

import numpy as np
import pytest
from small_runs import train_small_run

from fashion_cnn.data import Data
from fashion_cnn.export import export_in_process


@pytest.fixture(scope="session")
def random_data():
    """Images of random pixels in four classes with unusual names."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (240, 28, 28), dtype=np.uint8), np.arange(240) % 4
    names = ("a", "b", "<c>", "Ü")
    return Data(images[:180], labels[:180], images[180:], labels[180:], names)


@pytest.fixture(scope="session")
def exported_run(random_data, tmp_path_factory):
    """A run on `random_data` with its ONNX file; tests do not change it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    run = train_small_run(random_data, "textbook", folder)
    export_in_process(run, random_data, "onnx", run.onnx_path)
    return run
