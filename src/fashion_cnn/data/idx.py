"""The IDX format of the MNIST family: a path goes in; a uint8 array and a SHA-256 come out.

Two zero bytes, the type (8 is uint8), the number of dimensions, big-endian 32-bit dimensions, data.
"""

import gzip
import hashlib
import math
import zlib
from io import BufferedIOBase
from pathlib import Path

import numpy as np

_CHUNK_BYTES = 1 << 20
_MAX_GZIP_RATIO = 1032  # the deflate format cannot compress better than this


def read_idx(path: Path) -> tuple[np.ndarray, str]:
    """The uint8 array of an IDX file, gzipped or not, and the SHA-256 of the decompressed bytes."""
    with open(path, "rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    max_bytes = path.stat().st_size * (_MAX_GZIP_RATIO if gzipped else 1)
    try:
        with gzip.open(path) if gzipped else open(path, "rb") as stream:
            return _read_stream(path, stream, max_bytes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: damaged gzip ({error}); download it again") from None


def _read_stream(path: Path, stream: BufferedIOBase, max_bytes: int) -> tuple[np.ndarray, str]:
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
