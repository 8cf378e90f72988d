"""A `.keras` file in, a network out. The file is data, from anywhere: never a program."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

MAX_BYTES = 1 << 30  # of the file, of what it unpacks to, and of the weights in memory
MAX_CONFIG_BYTES = 10 << 20


def load_keras_file(path: Path) -> Any:
    """Read a saved network, which may come from a stranger.

    Sizes are checked before anything is built: a few bytes of configuration can ask for all memory.
    Keras's safe mode refuses code in it, and links out of it.

    Args:
        path: a `.keras` file.

    Returns:
        An uncompiled `keras.Model`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a valid model.
    """
    try:
        config = _config(path)
        from fashion_cnn.keras_setup import keras

        with keras.StatelessScope(initialize_variables=False):  # shapes only, no memory yet
            model = keras.saving.deserialize_keras_object(config, safe_mode=True)
            size = 4 * model.count_params()
        if size > MAX_BYTES:
            keras.utils.clear_session()  # or the next scope would make them
            raise ValueError(f"its weights would take {size:,} bytes; at most {MAX_BYTES:,}")
        with keras.StatelessScope():
            pass  # at its end the variables get their memory
        model.load_weights(path)
        if not all(np.isfinite(weight).all() for weight in model.get_weights()):
            raise ValueError("weights that are not finite")
    except FileNotFoundError:
        raise
    except Exception as error:  # damaged bytes raise anything, in three libraries
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise ValueError(f"{path}: not a valid model ({reason})") from error
    return model


def _config(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        if max(path.stat().st_size, sum(sizes.values())) > MAX_BYTES:
            raise ValueError(f"{sum(sizes.values()):,} bytes in it; at most {MAX_BYTES:,}")
        if sizes.get("config.json", MAX_CONFIG_BYTES) >= MAX_CONFIG_BYTES:
            raise ValueError("no config.json of a sensible size in it")
        return {**json.loads(archive.read("config.json")), "compile_config": None}
