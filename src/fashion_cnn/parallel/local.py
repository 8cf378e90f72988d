"""A pool of processes on this machine; they end with this process, however it ends."""

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from typing import Any

from fashion_cnn.machine import cores

LOOPBACK = "127.0.0.1"
Function = Callable[..., Any]


class LocalPool:
    """Runs tasks in `jobs` processes that share the cores; see `pool.Pool` for the methods.

    Each process has an executor of its own, so that one that dies takes no other task along.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._last_futures: dict[ProcessPoolExecutor, Future[Any]] = {}

    def capacity(self) -> int:
        """One task a process."""
        return self._jobs

    def wait_for_slots(self, requested: int) -> int:
        """As many as requested: the processes of a group may share the cores."""
        return requested

    def submit(self, function: Function, *arguments: Any) -> Future[Any]:
        """Use an idle process, or start one."""
        for executor, last_future in list(self._last_futures.items()):
            if last_future.done():
                try:
                    return self._submit_to(executor, function, *arguments)
                except BrokenExecutor:  # the process died with its last task, or since
                    executor.shutdown()
                    del self._last_futures[executor]
        return self._submit_to(start_process(cores() // self._jobs), function, *arguments)

    def submit_group(self, function: Function, size: int, *arguments: Any) -> list[Future[Any]]:
        """Start processes that meet on the loopback interface; each may use all cores."""
        address = f"{LOOPBACK}:{free_port(LOOPBACK)}"
        return [
            self._submit_to(start_process(cores()), function, rank, address, *arguments)
            for rank in range(size)
        ]

    def kill(self) -> None:
        """Kill the processes."""
        for executor in self._last_futures:
            for process in list((executor._processes or {}).values()):
                process.kill()
            executor.shutdown()
        self._last_futures = {}

    def _submit_to(self, executor: ProcessPoolExecutor, *call: Any) -> Future[Any]:
        self._last_futures[executor] = future = executor.submit(*call)
        # Only the process may hold the writing end: if it dies in the middle of a result, the
        # executor must see the end of the file, else it would wait for the rest forever.
        executor._result_queue._writer.close()  # type: ignore[attr-defined]
        return future


def start_process(threads: int) -> ProcessPoolExecutor:
    """An executor with one new process, which computes with so many threads."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, context, _initialize, (str(max(1, threads)),))


def _initialize(threads: str) -> None:
    """Limit the threads, leave Ctrl-C to the parent, and end when the parent has ended."""
    os.environ["OMP_NUM_THREADS"] = threads  # as Ray does; `machine.cores` heeds it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def exit_after_parent() -> None:
        if parent:
            parent.join()
            os._exit(1)

    threading.Thread(target=exit_after_parent, daemon=True).start()


def free_port(host: str) -> int:
    """A free TCP port of an address of this machine."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
