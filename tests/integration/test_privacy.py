"""What a first use leaves in a fresh home folder: the project's own files alone."""

import fnmatch
import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from command import fashion_cnn_process
from PIL import Image

pytestmark = pytest.mark.slow

# Configuration and a font list, which these libraries write for themselves; neither is ever sent.
ALLOWED = (".cache/fashion-cnn/*", ".keras/keras.json", ".cache/matplotlib/fontlist-*.json")
if sys.platform == "darwin":
    ALLOWED = ("Library/Caches/fashion-cnn/*", ".keras/keras.json", ".matplotlib/fontlist-*.json")
MOVED_BY = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "KERAS_HOME", "MPLCONFIGDIR")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home folder, and an environment that asks for telemetry."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in (*MOVED_BY, "ORT_TELEMETRY_DISABLED", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    return folder


def written(home):
    return {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}


def test_predict_train_and_serve_leave_only_the_projects_files(home, tmp_path, serving):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (40, 28, 28), dtype=np.uint8), np.arange(40) % 2
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x[:9], y_test=y[:9])
    Image.fromarray(x[0]).save(tmp_path / "a.png")
    step = ("--data", "data.npz", "--epochs", "1", "--batch-size", "36", "--no-report")
    for words in (("predict", "a.png"), ("train", "textbook", *step)):
        fashion_cnn_process(*words, cwd=tmp_path)
    if find_spec("openvino"):
        words = ("predict", "a.png", "--runtime", "openvino", "--debug")
        assert ": OpenVINO " in fashion_cnn_process(*words, cwd=tmp_path).stderr
    assert (tmp_path / "runs" / "textbook-1" / "model.onnx").exists()  # proved on ONNX Runtime
    with serving("textbook", "--workers", "2"):
        pass
    foreign = {x for x in written(home) if not any(fnmatch.fnmatch(x, y) for y in ALLOWED)}
    assert foreign == set()


def test_telemetry_is_off_in_child_processes(home):
    code = "import os, fashion_cnn; os.execvp('printenv', ['printenv', 'ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (os.environ["ORT_DISABLE_TELEMETRY"], done.stdout) == ("0", "1\n")
