"""Independent pieces of work, on all cores of this machine or of a cluster."""

import functools
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from fashion_cnn.machine import cores
from fashion_cnn.parallel.cluster import cluster, end, end_with_the_parent, kind_of, translated

AHEAD = 2  # short pieces for each core of a cluster, one of which waits there
ATTEMPTS = 3  # of a piece whose process died

Submit = Callable[..., Future[Any]]
Room = Callable[[], int]
Piece = tuple[Any, tuple[Any, ...]]  # its name, and what its work is given


def tasks(
    address: str | None, jobs: int | None = None, long: bool = False
) -> AbstractContextManager[tuple[Submit, Room]]:
    """Where work can be done: the cluster at an address, or here.

    Args:
        address: of a Ray cluster.
        jobs: how many pieces are on their way at most; as many as there are cores without.
        long: pieces are trainings: on a cluster with GPUs each gets one, and none waits there.

    Yields:
        `submit(work, *arguments)`, a `Future` with `BrokenExecutor` where the process died; and
        `room()`, how many pieces should be on their way.
    """
    return _on_cluster(address, jobs, long) if address else _here(jobs or cores())


def run_tasks(
    pieces: Iterable[Piece], work: Callable[..., Any], submit: Submit, room: Room
) -> Iterator[tuple[Any, Future[Any]]]:
    """Do pieces of work side by side; one whose process died is done again, up to `ATTEMPTS` times.

    Args:
        pieces: each is taken when there is room for it.
        work: called with what a piece is given.
        submit: of `tasks`.
        room: of `tasks`.

    Yields:
        Each piece's name and its future, which is done.
    """
    todo, again = iter(pieces), list[tuple[Piece, int]]()
    waiting: dict[Future[Any], tuple[Piece, int]] = {}
    while True:
        while len(waiting) < room():
            piece, tries = again.pop() if again else (next(todo, None), 1)
            if piece is None:
                break
            waiting[submit(work, *piece[1])] = piece, tries
        if not waiting:
            return
        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
            piece, tries = waiting.pop(future)
            if isinstance(future.exception(), BrokenExecutor) and tries < ATTEMPTS:
                again.append((piece, tries + 1))
            else:
                yield piece[0], future


@contextmanager
def _here(jobs: int) -> Iterator[tuple[Submit, Room]]:
    """Each process is a pool of its own, so that one that dies takes no others along."""
    context = multiprocessing.get_context("spawn")
    threads = str(max(1, cores() // jobs))

    def start() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, context, _begin, (threads,))

    pools = [start() for _ in range(jobs)]
    last: list[Future[Any] | None] = [None] * len(pools)

    def submit(work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        at = next(i for i, future in enumerate(last) if future is None or future.done())
        try:
            last[at] = future = pools[at].submit(work, *arguments)
        except BrokenExecutor:  # it died with its last piece, or since
            pools[at].shutdown()
            pools[at] = start()
            last[at] = future = pools[at].submit(work, *arguments)
        return future

    try:
        yield submit, lambda: len(pools)
    finally:
        end(pools)


def _begin(threads: str) -> None:
    os.environ["OMP_NUM_THREADS"] = threads  # as Ray does; `cores` heeds it
    end_with_the_parent()


@contextmanager
def _on_cluster(address: str, jobs: int | None, long: bool) -> Iterator[tuple[Submit, Room]]:
    """Ray's tasks, which `run_tasks` starts again elsewhere when a machine dies."""
    with cluster(address) as ray:
        kind = kind_of(ray) if long else "CPU"
        if not ray.cluster_resources().get(kind):
            raise ValueError(f"cluster {address}: has no {kind}; start a node with --num-cpus")
        needs: dict[str, Any] = {"num_cpus": 1, "num_gpus": int(kind == "GPU"), "max_retries": 0}
        if long and (backend := os.environ.get("KERAS_BACKEND")):
            needs["runtime_env"] = {"env_vars": {"KERAS_BACKEND": backend}}
        remote = functools.cache(ray.remote(**needs))
        put = functools.cache(ray.put)  # a model goes to each machine once

        def submit(work: Callable[..., Any], *arguments: Any) -> Future[Any]:
            given = [put(x) if isinstance(x, bytes) else x for x in arguments]
            return translated(remote(work).remote(*given).future())

        def room() -> int:
            there = int(ray.cluster_resources().get(kind, 1))  # a machine may come again
            return min(jobs or there, there) if long else AHEAD * there

        yield submit, room
