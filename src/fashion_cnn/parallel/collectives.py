"""One network, trained by several processes: which of them this is, and its share of each batch.

Every process holds the same weights and takes the same steps; a batch is cut into equal shares.
Without `keras.distribution` (JAX only) there is one process, and everything here does nothing.
"""

from typing import Any

import numpy as np

from fashion_cnn.keras_setup import keras


def device_count() -> int:
    """How many devices share a batch: all of all processes."""
    distribution = keras.distribution.distribution()
    return distribution.device_mesh.devices.size if distribution else 1


def is_distributed() -> bool:
    """Whether there is more than one device."""
    return device_count() > 1


def process_rank() -> tuple[int, int]:
    """Which process this is, from 0, and how many there are."""
    if not is_distributed():
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def shared(size: int) -> bool:
    """Whether a batch of this size is cut into shares; else every process works on all of it."""
    return size % device_count() == 0


def local_shard(rows: np.ndarray, batch_size: int) -> np.ndarray:
    """This process's share of each batch of some rows, whose last batch may be smaller."""
    which, processes = process_rank()
    if processes == 1:
        return rows
    shares = []
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        share = len(batch) // processes
        shares.append(batch[which * share :][:share] if shared(len(batch)) else batch)
    return np.concatenate(shares)


def to_global_array(rows: np.ndarray, size: int, axis: int = 0) -> Any:
    """The array that all devices hold together, for a compiled program.

    Args:
        rows: of this process: its share of `axis`, or all of it.
        size: of `axis` in all.
        axis: along which batches are shared.

    Returns:
        A `jax.Array` over all devices; `rows` itself where there is one process on its own.
    """
    if not is_distributed():
        return rows
    import jax

    mesh = keras.distribution.distribution().device_mesh.backend_mesh
    names = [None] * axis + [mesh.axis_names[0]] if shared(size) else []
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*names))
    shape = (*rows.shape[:axis], size, *rows.shape[axis + 1 :])
    return jax.make_array_from_process_local_data(sharding, rows, shape)


def broadcast_from_first(content: bytes) -> bytes:
    """What the first process has, in all of them."""
    if process_rank()[1] == 1:
        return content
    from jax.experimental.multihost_utils import broadcast_one_to_all

    size = int(broadcast_one_to_all(np.int64(len(content))))
    padded = np.frombuffer(content if process_rank()[0] == 0 else bytes(size), np.uint8)
    return np.asarray(broadcast_one_to_all(padded)).tobytes()
