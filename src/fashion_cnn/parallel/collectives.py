"""One network, trained by several processes: a process's rank, and its share of each batch.

Every process holds the same weights and takes the same steps; a batch is cut into equal shares.
Without `keras.distribution` (JAX only) there is one process, and everything here does nothing.
"""

from typing import Any

import numpy as np

from fashion_cnn.keras_setup import keras


def device_count() -> int:
    """How many devices of all processes share a batch."""
    distribution = keras.distribution.distribution()
    return distribution.device_mesh.devices.size if distribution else 1


def is_distributed() -> bool:
    """Whether there is more than one device."""
    return device_count() > 1


def process_rank() -> int:
    """The number of this process, from 0."""
    if not is_distributed():
        return 0
    import jax

    return jax.process_index()


def process_count() -> int:
    """How many processes train the network."""
    if not is_distributed():
        return 1
    import jax

    return jax.process_count()


def is_sharded(batch_size: int) -> bool:
    """Whether the devices share a batch; if not, each of them computes all of it."""
    return batch_size % device_count() == 0


def local_shard(rows: np.ndarray, batch_size: int) -> np.ndarray:
    """This process's shares of the batches that rows are cut into; the last may be smaller."""
    if process_count() == 1:
        return rows
    shards = []
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        size = len(batch) // process_count()
        shards.append(batch[process_rank() * size :][:size] if is_sharded(len(batch)) else batch)
    return np.concatenate(shards)


def to_global_array(rows: np.ndarray, size: int, axis: int = 0) -> Any:
    """The array that all devices hold together, for a compiled program.

    Args:
        rows: of this process: its share of `axis`, or all of it.
        size: of `axis` in all processes together.
        axis: along which batches are shared.

    Returns:
        A `jax.Array` over all devices, or `rows` itself if there is one device.
    """
    if not is_distributed():
        return rows
    import jax

    mesh = keras.distribution.distribution().device_mesh.backend_mesh
    names = [None] * axis + [mesh.axis_names[0]] if is_sharded(size) else []
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*names))
    shape = (*rows.shape[:axis], size, *rows.shape[axis + 1 :])
    return jax.make_array_from_process_local_data(sharding, rows, shape)


def replicated(array: Any) -> Any:
    """An array in a compiled program, so that every process can read all of it afterwards."""
    if not is_distributed():
        return array
    import jax

    mesh = keras.distribution.distribution().device_mesh.backend_mesh
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.lax.with_sharding_constraint(array, everywhere)


def broadcast_from_first(content: bytes) -> bytes:
    """The `content` of rank 0, in all processes."""
    if process_count() == 1:
        return content
    from jax.experimental.multihost_utils import broadcast_one_to_all

    size = int(broadcast_one_to_all(np.int64(len(content))))
    padded = np.frombuffer(content if process_rank() == 0 else bytes(size), np.uint8)
    return np.asarray(broadcast_one_to_all(padded)).tobytes()
