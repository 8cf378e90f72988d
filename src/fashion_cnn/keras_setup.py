"""Keras, imported once and quietly: `from fashion_cnn.keras_setup import keras`."""

import logging
import os
import sys

import numpy as np

from fashion_cnn.console import silence_stderr
from fashion_cnn.machine import cores, processor_has_bfloat16

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
logging.getLogger("tensorflow").setLevel(logging.ERROR)
# Two operations at a time with half of the cores each, as `training.tensorflow` and
# `models.forward` use them. TensorFlow reads these once, when it is imported.
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "2")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(max(1, cores() // 2)))
# The user's keras.json may be of another project: it decides nothing.
_requested = os.environ.get("KERAS_BACKEND")
_imported = sys.modules.get("keras")
_backend = _imported.backend.backend() if _imported else _requested or "tensorflow"
if _backend not in ("tensorflow", "jax"):
    raise ValueError(f"KERAS_BACKEND: got {_backend}; expected tensorflow or jax")
os.environ["KERAS_BACKEND"] = _backend
os.environ.setdefault("KERAS_NNX_ENABLED", "false")
try:
    with silence_stderr():
        import keras

        keras.config.set_floatx("float32")
        keras.config.set_epsilon(1e-7)
        keras.config.set_image_data_format("channels_last")
        keras.ops.zeros(1)  # the rest of the log messages comes with the first operation
except ValueError as error:
    if "configuration" not in str(error):
        raise
    path = os.path.join(os.environ.get("KERAS_HOME", "~/.keras"), "keras.json")
    raise ValueError(f"{path}: {error}; correct or delete it") from None
if not _requested:  # so that another process may still ask for JAX
    del os.environ["KERAS_BACKEND"]

if keras.backend.backend() == "jax" and "tensorflow" not in sys.modules:
    # Keras would import TensorFlow, where it is installed, to set its seed and to compare types,
    # which takes three seconds. It checks once whether it can, and keeps the result: make it fail.
    sys.modules["tensorflow"] = None  # type: ignore[assignment]
    keras.saving.serialize_keras_object(np.float32(0))
    del sys.modules["tensorflow"]


def bfloat16_is_fast() -> bool:
    """Whether the device multiplies bfloat16 faster than float32."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() != "cpu"  # JAX's convolutions on processors do not
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return True
    return processor_has_bfloat16()


__all__ = ["bfloat16_is_fast", "keras"]
