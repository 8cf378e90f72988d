"""The IDX format of the MNIST family, bounded: a path in, a uint8 array and a SHA-256 out.

Format: two zero bytes, the type (8 is uint8), the number of dimensions, each dimension as a
big-endian 32-bit number, the data. http://yann.lecun.com/exdb/mnist/
"""

import gzip
import hashlib
import math
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

_CHUNK = 1 << 20
_GZIP_LIMIT = 1032  # deflate cannot expand further than this


def read_idx(path: Path) -> tuple[np.ndarray, str]:
    """Read one IDX file, gzipped or not.

    Memory stays within what the header asks for and within what the file can hold.

    Args:
        path: the file; gzip is recognised by its first bytes.

    Returns:
        uint8 array in the header's shape, and the SHA-256 of the decompressed bytes.

    Raises:
        ValueError: the file is not whole and well-formed IDX of unsigned bytes.
    """
    stored = path.stat().st_size
    with open(path, "rb") as raw:
        gzipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            if not gzipped:
                return _read(path, raw, stored)
            with gzip.GzipFile(fileobj=raw) as stream:
                return _read(path, stream, stored * _GZIP_LIMIT)  # type: ignore[arg-type]
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: damaged gzip ({error}); get it anew") from None


def _read(path: Path, stream: BinaryIO, most: int) -> tuple[np.ndarray, str]:
    head = stream.read(4)
    if len(head) < 4 or head[:3] != b"\0\0\x08" or not 1 <= head[3] <= 4:
        raise ValueError(
            f"{path}: not IDX of unsigned bytes (it starts with {head.hex() or 'nothing'})"
        )
    sizes = stream.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise ValueError(f"{path}: ends within its header")
    shape = tuple(int(n) for n in np.frombuffer(sizes, ">u4"))
    size = math.prod(shape)
    if size > most:
        raise ValueError(
            f"{path}: header claims {shape}, {size:,} bytes, more than the file can hold"
        )
    body = bytearray()
    while len(body) <= size and (chunk := stream.read(min(_CHUNK, size + 1 - len(body)))):
        body += chunk
    if len(body) != size:
        more = "more than" if len(body) > size else f"{len(body):,} of"
        raise ValueError(f"{path}: header claims {shape}, the file holds {more} {size:,} bytes")
    digest = hashlib.sha256(head + sizes)
    digest.update(body)
    return np.frombuffer(body, np.uint8).reshape(shape), digest.hexdigest()
