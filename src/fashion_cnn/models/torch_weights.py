"""Read the arrays in a file of weights that PyTorch before 1.6 wrote, without PyTorch.

Such a file is a few pickles and the bytes of the arrays. Only the few names that arrays need are
resolved, so nothing in the file is executed.
"""

import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {"FloatStorage": np.float32, "LongStorage": np.int64}


class _Unpickler(pickle.Unpickler):
    """Resolves what describes arrays: ordered dictionaries, tensors and types of storage."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: (storage, offset, shape, strides)
        if module == "torch" and name in _DTYPES:
            return np.dtype(_DTYPES[name])
        raise pickle.UnpicklingError(f"got {module}.{name}; expected only arrays")

    def persistent_load(self, reference: Any) -> Any:
        _, dtype, key, _, count, *_ = reference
        return str(key), dtype, int(count)


def read_torch_weights(path: Path) -> dict[str, np.ndarray]:
    """Read a `.pth` file: name -> float32 or int64 array, in the order of the network's layers.

    Raises:
        ValueError: the file is damaged, or not a dictionary of arrays in this format.
    """
    try:
        with open(path, "rb") as file:
            return _read(file)
    except (pickle.UnpicklingError, struct.error, ValueError, TypeError, KeyError, EOFError) as e:
        reason = " ".join(str(e).split())[:200]
        raise ValueError(f"{path}: not weights in the format of PyTorch < 1.6 ({reason})") from None
    except (AttributeError, IndexError, ImportError, MemoryError, OverflowError) as e:
        raise ValueError(f"{path}: damaged ({type(e).__name__})") from None


def _read(file: BinaryIO) -> dict[str, np.ndarray]:
    if _Unpickler(file).load() != _MAGIC:
        raise ValueError("another format")
    _Unpickler(file).load()  # version of the protocol
    _Unpickler(file).load()  # byte order and sizes, which are the same everywhere today
    tensors = _Unpickler(file).load()
    keys = _Unpickler(file).load()
    types = {storage[0]: storage[1:] for storage, *_ in tensors.values()}
    storages = {}
    for key in map(str, keys):
        (count,) = struct.unpack("<q", file.read(8))
        dtype, expected = types[key]
        if count != expected:
            raise ValueError(f"{count} numbers; expected {expected}")
        storages[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype, count)
    return {name: _view(storages, *tensor) for name, tensor in tensors.items()}


def _view(
    storages: dict[str, np.ndarray], storage: Any, offset: int, shape: Any, strides: Any
) -> np.ndarray:
    numbers = storages[storage[0]][offset:]
    last = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if offset < 0 or min((*shape, *strides), default=1) < 1 or last >= len(numbers):
        raise ValueError(f"an array of {shape} beyond the {len(numbers)} numbers stored for it")
    steps = [stride * numbers.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(numbers, shape, steps, writeable=False)
