"""Keras is set up as this program needs it, whatever another project left in `keras.json`."""

import json
import os
import subprocess
import sys

import pytest
from command import write_data_npz

FOREIGN = {
    "backend": "theano",
    "floatx": "float16",
    "epsilon": 0.5,
    "image_data_format": "channels_first",
    "nnx_enabled": True,
}
SHOW = """
import os
from fashion_cnn.keras_setup import keras
values = [keras.backend.backend(), keras.config.floatx(), keras.config.dtype_policy().name]
values += [keras.config.epsilon(), keras.config.image_data_format()]
print(*values, keras.config.is_nnx_enabled(), os.environ.get("KERAS_BACKEND"))
"""


def import_keras(tmp_path, settings, code="import fashion_cnn.keras_setup", **environment):
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    inherited = {key: value for key, value in os.environ.items() if key[:6] != "KERAS_"}
    environment = {**inherited, "KERAS_HOME": str(tmp_path), **environment}
    call = [sys.executable, "-c", code]
    return subprocess.run(call, env=environment, capture_output=True, text=True)


def test_the_keras_json_of_another_project_changes_nothing(tmp_path):
    done = import_keras(tmp_path, FOREIGN, SHOW)
    assert done.stdout == "tensorflow float32 float32 1e-07 channels_last False None\n", done.stderr


def test_a_keras_json_that_keras_refuses_is_named(tmp_path):
    done = import_keras(tmp_path, {"floatx": "bfloat16"})
    assert f"ValueError: {tmp_path / 'keras.json'}: Invalid `floatx`" in done.stderr


@pytest.mark.parametrize("backend", ["theano", "torch"])
def test_another_backend_is_refused_before_keras_is_imported(tmp_path, backend):
    done = import_keras(tmp_path, {}, KERAS_BACKEND=backend)
    last = done.stderr.splitlines()[-1]
    assert last == f"ValueError: KERAS_BACKEND: got {backend}; expected tensorflow or jax"


def test_a_backend_that_is_not_installed_is_named(tmp_path, tiny_data):
    write_data_npz(tmp_path / "data.npz", tiny_data)
    words = [
        "train",
        "textbook",
        "--data",
        str(tmp_path / "data.npz"),
        "--run",
        str(tmp_path / "r"),
    ]
    code = f"""
import sys
sys.modules["jax"] = None
from fashion_cnn import cli
sys.exit(cli.run_command({words}))
"""
    done = import_keras(tmp_path, {}, code, KERAS_BACKEND="jax")
    last = done.stderr.splitlines()[-1]
    assert last == 'fashion-cnn: jax is not installed: pip install "fashion-cnn[jax]"'
