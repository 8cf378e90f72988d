"""Tasks in; their results out, from processes on this machine or on a Ray cluster."""

from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from fashion_cnn.console import WAIT_SECONDS
from fashion_cnn.machine import cores
from fashion_cnn.parallel.cluster import RayPool, cluster
from fashion_cnn.parallel.local import Function, LocalPool

ATTEMPTS = 3  # of a task whose process dies


class Pool(Protocol):
    """Processes that run tasks."""

    def capacity(self) -> int:
        """How many independent tasks should be submitted at a time."""

    def submit(self, function: Function, *arguments: Any) -> Future[Any]:
        """Call `function(*arguments)` in a process; `BrokenExecutor` means that it died."""

    def wait_for_slots(self, requested: int) -> int:
        """Wait a little until `requested` processes can start at once; how many can."""

    def submit_group(self, function: Function, size: int, *arguments: Any) -> list[Future[Any]]:
        """Call `function(rank, address, *arguments)` in `size` new processes that work together.

        Rank 0 runs on this machine; `address` is HOST:PORT of it, where nobody listens yet.
        """

    def kill(self) -> None:
        """End all processes, whatever they do; the pool can be used again."""


@contextmanager
def open_pool(
    address: str | None, jobs: int | None = None, training: bool = False
) -> Iterator[Pool]:
    """Make a pool, whose processes are killed at the end.

    Args:
        address: of a Ray cluster. Default: processes on this machine.
        jobs: how many tasks run at a time. Default: one per core, here or of the cluster.
        training: whether the tasks are trainings: on a cluster with GPUs each gets one.

    Raises:
        ModuleNotFoundError, ValueError: as `cluster` does, or the cluster has no cores.
    """
    with ExitStack() as stack:
        if address:
            pool: Pool = RayPool(stack.enter_context(cluster(address)), jobs, training)
        else:
            pool = LocalPool(jobs or cores())
        stack.callback(pool.kill)
        yield pool


@dataclass(frozen=True)
class Task:
    """A unit of work for `run_tasks`.

    Attributes:
        name: which task it is.
        arguments: what the function is called with.
    """

    name: Any
    arguments: tuple[Any, ...] = ()


def run_tasks(
    tasks: Iterable[Task], function: Function, pool: Pool
) -> Iterator[tuple[Any, Future[Any]]]:
    """Run independent tasks side by side.

    Args:
        tasks: each is taken when there is a process for it.
        function: called with a task's arguments, up to `ATTEMPTS` times if its process dies.
        pool: where they run.

    Yields:
        Each task's name and its future, which is done.
    """
    remaining = iter(tasks)
    retries: list[tuple[Task, int]] = []
    running: dict[Future[Any], tuple[Task, int]] = {}
    while True:
        while len(running) < pool.capacity():
            task, attempt = retries.pop() if retries else (next(remaining, None), 1)
            if task is None:
                break
            running[pool.submit(function, *task.arguments)] = task, attempt
        if not running:
            return
        for future in wait(running, WAIT_SECONDS, FIRST_COMPLETED).done:
            task, attempt = running.pop(future)
            if isinstance(future.exception(), BrokenExecutor) and attempt < ATTEMPTS:
                retries.append((task, attempt + 1))
            else:
                yield task.name, future
