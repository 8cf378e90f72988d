import gzip
import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashion_cnn.data.idx import read_idx


def gzipped(content):
    """The same bytes at any time: pytest-xdist needs the same test ids in each worker."""
    return gzip.compress(content, mtime=0)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_reads_plain_and_gzipped_files(tmp_path, pack):
    (tmp_path / "file").write_bytes(pack(idx(IMAGES)))
    array, digest = read_idx(tmp_path / "file")
    np.testing.assert_array_equal(array, IMAGES)
    assert digest == hashlib.sha256(idx(IMAGES)).hexdigest()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "starts with nothing"),
        (b"\0\0\x08", "not IDX"),
        (b"\0\0\x0d\x01" + bytes(8), "not IDX of unsigned bytes"),
        (b"\0\0\x08\x09" + bytes(40), "not IDX"),
        (b"\0\0\x08\x03\0\0\0\x02", "ends within its header"),
        (idx(IMAGES)[:-1], "23 of 24 bytes|more than the file can hold"),
        (idx(IMAGES) + b"\0", "more than 24 bytes"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "more than the file can hold"),
        (gzipped(b"\0\0\x08\x03" + b"\xff" * 12), "more than the file can hold"),
        (gzipped(idx(IMAGES) + bytes(50)), "more than 24 bytes"),
        (gzipped(idx(IMAGES)[:-5]), "19 of 24 bytes"),
        (gzipped(idx(IMAGES))[:-9], "damaged gzip"),
        (b"\x1f\x8bnot gzip at all", "damaged gzip"),
    ],
)
def test_incomplete_or_malformed_files_are_refused(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_idx(tmp_path / "file")


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(content)
    try:
        array, _ = read_idx(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert idx(array) == content
