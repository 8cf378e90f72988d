"""Independent pieces of work, on all cores of this machine or of a cluster."""

import functools
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from fashion_cnn.run import cores
from fashion_cnn.scaling.places import cluster, end, end_with_the_parent, translated

AHEAD = 2  # pieces for each core of a cluster, one of which waits there
RETRIES = 3

Submit = Callable[..., Future[Any]]
Room = Callable[[], int]


def tasks(address: str | None) -> AbstractContextManager[tuple[Submit, Room]]:
    """Where work can be done: the cluster at an address, or here.

    Yields:
        `submit(work, *arguments)`, a `Future` with `BrokenExecutor` where the process died; and
        `room()`, how many pieces should be on their way.
    """
    return _on_cluster(address) if address else _here()


@contextmanager
def _here() -> Iterator[tuple[Submit, Room]]:
    """A process a core; each is a pool of its own, so that one that dies takes no others along."""
    context = multiprocessing.get_context("spawn")

    def start() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, context, end_with_the_parent)

    pools = [start() for _ in range(cores())]
    last: list[Future[Any] | None] = [None] * len(pools)

    def submit(work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        at = next(i for i, future in enumerate(last) if future is None or future.done())
        before = last[at]
        if before and isinstance(before.exception(), BrokenExecutor):
            pools[at].shutdown()
            pools[at] = start()
        last[at] = future = pools[at].submit(work, *arguments)
        return future

    try:
        yield submit, lambda: len(pools)
    finally:
        end(pools)


@contextmanager
def _on_cluster(address: str) -> Iterator[tuple[Submit, Room]]:
    """Ray's tasks: it starts them again elsewhere when a machine dies."""
    with cluster(address) as ray:
        remote = functools.cache(ray.remote(num_cpus=1, max_retries=RETRIES))

        def submit(work: Callable[..., Any], *arguments: Any) -> Future[Any]:
            return translated(remote(work).remote(*arguments).future())

        def room() -> int:
            return AHEAD * int(ray.cluster_resources().get("CPU", 1))

        yield submit, room
