import io
import pickle
import struct
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest

from fashion_cnn.models.torch_weights import read_torch_weights

MAGIC = 0x1950A86A20F9469CFC6C


class Storage:
    """An array that is stored as PyTorch would."""

    def __init__(self, numbers, kind="FloatStorage"):
        self.numbers, self.kind = numbers, kind


@pytest.fixture
def torch(monkeypatch):
    """Stands for the module whose names are in a file."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def rebuild(*arguments):
        raise AssertionError("called while writing")

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = rebuild
    for name in ("FloatStorage", "LongStorage", "Evil"):
        setattr(torch, name, type(name, (), {"__module__": "torch", "__qualname__": name}))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return torch


class Tensor:
    def __init__(self, storage, offset, shape, strides):
        self.arguments = storage, offset, shape, strides, False, OrderedDict()

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


def write(torch, path, tensors, keep=None):
    storages = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if not isinstance(value, Storage):
                return None
            storages[str(id(value))] = value
            kind = getattr(torch, value.kind)
            return "storage", kind, str(id(value)), "cpu", len(value.numbers), None

    body = io.BytesIO()
    Pickler(body, 2).dump(tensors)
    with open(path, "wb") as file:
        for head in (MAGIC, 1001, {"little_endian": True}):
            pickle.dump(head, file, 2)
        file.write(body.getvalue())
        pickle.dump(list(storages), file, 2)
        for storage in storages.values():
            file.write(struct.pack("<q", len(storage.numbers)) + storage.numbers.tobytes())
    if keep is not None:
        path.write_bytes(path.read_bytes()[:keep])


def test_arrays_are_read_in_order_with_their_strides(torch, tmp_path):
    numbers = np.arange(24, dtype=np.float32)
    tensors = OrderedDict(
        rows=Tensor(Storage(numbers), 0, (4, 6), (6, 1)),
        transposed=Tensor(Storage(numbers), 6, (6, 3), (1, 6)),
        count=Tensor(Storage(np.array([7]), "LongStorage"), 0, (), ()),
    )
    write(torch, tmp_path / "w.pth", tensors)
    arrays = read_torch_weights(tmp_path / "w.pth")
    assert list(arrays) == ["rows", "transposed", "count"]
    np.testing.assert_array_equal(arrays["rows"], numbers.reshape(4, 6))
    np.testing.assert_array_equal(arrays["transposed"], numbers[6:].reshape(3, 6).T)
    assert arrays["count"] == 7 and arrays["count"].dtype == np.int64


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (5, 6), (6, 1)),
        (1, (4, 6), (6, 1)),
        (-1, (2,), (1,)),
        (0, (2, 2), (-1, 1)),
        (0, (4,), ()),
    ],
)
def test_an_array_beyond_its_numbers_is_refused(torch, tmp_path, offset, shape, strides):
    numbers = Storage(np.arange(24, dtype=np.float32))
    write(torch, tmp_path / "w.pth", {"a": Tensor(numbers, offset, shape, strides)})
    with pytest.raises(ValueError, match=r"w\.pth: not weights in the format of PyTorch < 1\.6"):
        read_torch_weights(tmp_path / "w.pth")


def test_nothing_in_a_file_is_executed(torch, tmp_path):
    class Malicious:
        def __reduce__(self):
            return exec, ("raise SystemExit('executed')",)

    write(torch, tmp_path / "w.pth", {"a": Malicious()})
    with pytest.raises(ValueError, match=r"got (builtins|__builtin__)\.exec; expected only arrays"):
        read_torch_weights(tmp_path / "w.pth")
    write(torch, tmp_path / "w.pth", {"a": Tensor(Storage(np.zeros(1), "Evil"), 0, (1,), (1,))})
    with pytest.raises(ValueError, match=r"got torch\.Evil; expected only arrays"):
        read_torch_weights(tmp_path / "w.pth")


def test_every_truncation_and_other_files_are_refused(torch, tmp_path):
    tensors = {"a": Tensor(Storage(np.zeros(9, np.float32)), 0, (9,), (1,))}
    write(torch, tmp_path / "w.pth", tensors)
    size = (tmp_path / "w.pth").stat().st_size
    for keep in range(size):
        write(torch, tmp_path / "w.pth", tensors, keep)
        with pytest.raises(ValueError, match=r"w\.pth: "):
            read_torch_weights(tmp_path / "w.pth")
    for content in (b"PK\3\4", b"text", pickle.dumps({"a": 1})):
        (tmp_path / "w.pth").write_bytes(content)
        with pytest.raises(ValueError, match=r"w\.pth: "):
            read_torch_weights(tmp_path / "w.pth")
