"""A `.keras` file in, a Keras model out; the file may be untrusted and never runs code."""

import io
import json
import zipfile
from collections import Counter as Counts
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.console import error_line

MAX_KERAS_BYTES = 1 << 30  # of the file, of its unpacked members, and of the weights in memory
MAX_CONFIG_BYTES = 10 << 20
WEIGHTS = "model.weights.h5"  # the member of the file


def load_keras_file(path: Path) -> Any:
    """Read a `.keras` file as an uncompiled `keras.Model`.

    Sizes are checked before anything is built, because a few bytes of configuration can request all
    of the memory. Keras's safe mode refuses code in the file and links to other files.
    """
    try:
        config = _read_config(path)
        from fashion_cnn.keras_setup import keras

        with keras.StatelessScope(initialize_variables=False):  # shapes only, no memory yet
            model = keras.saving.deserialize_keras_object(config, safe_mode=True)
            size = 4 * model.count_params()
        if size > MAX_KERAS_BYTES:
            keras.utils.clear_session()  # otherwise the next scope would allocate the variables
            raise ValueError(f"its weights would take {size:,} bytes; at most {MAX_KERAS_BYTES:,}")
        _check_weights(path, [tuple(variable.shape) for variable in model.variables], size)
        with keras.StatelessScope():
            pass  # leaving this scope allocates the variables
        model.load_weights(path)
        if not all(np.isfinite(weight).all() for weight in model.get_weights()):
            raise ValueError("weights that are not finite")
    except FileNotFoundError:
        raise
    except Exception as error:  # damaged bytes raise all kinds of errors, in three libraries
        reason = error_line(error)
        raise ValueError(f"{path}: not a valid model ({reason})") from error
    return model


def _check_weights(path: Path, shapes: list[tuple[int, ...]], size: int) -> None:
    """Compare the shapes that a file declares with the network's; no weights are read."""
    import h5py

    with zipfile.ZipFile(path) as archive:
        unpacked = archive.getinfo(WEIGHTS).file_size
        if unpacked > 4 * size + MAX_CONFIG_BYTES:  # four times: with states of an optimizer
            raise ValueError(f"{unpacked:,} bytes of weights for a network of {size:,}")
        content = io.BytesIO(archive.read(WEIGHTS))
    declared: Counts[tuple[int, ...]] = Counts()

    def count_shape(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer/"):
            declared[item.shape] += 1

    with h5py.File(content, "r") as file:
        file.visititems(count_shape)
    for shape in declared - Counts(shapes):
        raise ValueError(f"weights of shape {shape}, of which the network has fewer or none")


def _read_config(path: Path) -> dict[str, Any]:
    """The model's configuration, after checking all sizes in the file."""
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        unpacked = sum(sizes.values())
        if max(path.stat().st_size, unpacked) > MAX_KERAS_BYTES:
            raise ValueError(f"{unpacked:,} bytes in it; at most {MAX_KERAS_BYTES:,}")
        if "config.json" not in sizes or sizes["config.json"] >= MAX_CONFIG_BYTES:
            raise ValueError(f"no config.json of less than {MAX_CONFIG_BYTES:,} bytes in it")
        return {**json.loads(archive.read("config.json")), "compile_config": None}
