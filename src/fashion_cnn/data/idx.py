"""The IDX format of the MNIST family: a path goes in; a uint8 array and a SHA-256 come out.

Format: two zero bytes, the data type (8 is uint8), the number of dimensions, each dimension as a
big-endian 32-bit integer, the data. http://yann.lecun.com/exdb/mnist/
"""

import gzip
import hashlib
import math
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

_CHUNK_BYTES = 1 << 20
_MAX_GZIP_RATIO = 1032  # the deflate format cannot compress better than this


def read_idx(path: Path) -> tuple[np.ndarray, str]:
    """Read one IDX file, gzipped or not.

    Memory use is limited by the size in the header and by the size of the file.

    Args:
        path: the file; gzip is recognised by its first bytes.

    Returns:
        uint8 array in the shape given by the header, and the SHA-256 of the decompressed bytes.

    Raises:
        ValueError: the file is not complete, well-formed IDX of unsigned bytes.
    """
    file_bytes = path.stat().st_size
    with open(path, "rb") as raw:
        gzipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            if not gzipped:
                return _read_stream(path, raw, file_bytes)
            with gzip.GzipFile(fileobj=raw) as stream:
                return _read_stream(path, stream, file_bytes * _MAX_GZIP_RATIO)  # type: ignore[arg-type]
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: damaged gzip ({error}); download it again") from None


def _read_stream(path: Path, stream: BinaryIO, max_bytes: int) -> tuple[np.ndarray, str]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:3] != b"\0\0\x08" or not 1 <= magic[3] <= 4:
        raise ValueError(
            f"{path}: not IDX of unsigned bytes (it starts with {magic.hex() or 'nothing'})"
        )
    dimensions = stream.read(4 * magic[3])
    if len(dimensions) < 4 * magic[3]:
        raise ValueError(f"{path}: ends within its header")
    shape = tuple(int(n) for n in np.frombuffer(dimensions, ">u4"))
    size = math.prod(shape)
    if size > max_bytes:
        raise ValueError(
            f"{path}: header claims {shape}, {size:,} bytes, more than the file can hold"
        )
    body = bytearray()
    while len(body) <= size and (chunk := stream.read(min(_CHUNK_BYTES, size + 1 - len(body)))):
        body += chunk
    if len(body) != size:
        got = "more than" if len(body) > size else f"{len(body):,} of"
        raise ValueError(f"{path}: header claims {shape}, the file holds {got} {size:,} bytes")
    digest = hashlib.sha256(magic + dimensions)
    digest.update(body)
    return np.frombuffer(body, np.uint8).reshape(shape), digest.hexdigest()
