"""Where processes run: beside this one, or on the machines of a Ray cluster.

Both places start processes together, give each its work, and end them; what becomes of the work is
a `Future` a process. `BrokenExecutor` in it means that the process died.
"""

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

from fashion_cnn.console import silence_stderr

SETTLING = 20.0  # seconds in which a cluster notices that processes have ended
STARTING = 120.0  # seconds in which a process starts
LOOPBACK = "127.0.0.1"

Work = Callable[..., Any]


class Place(Protocol):
    """What can run processes."""

    def room(self, wanted: int) -> int:
        """How many processes can run now; it waits a little for as many as are wanted."""

    def open(self, processes: int) -> str:
        """Start processes; the address of the first, with a free port, at which it can listen."""

    def submit(self, work: Work, data: Any, *arguments: Any) -> list[Future[Any]]:
        """Call `work(which, host, data, *arguments)` in each process; `host` is where it runs."""

    def close(self) -> None:
        """End the processes, whatever they do."""


class Here:
    """Processes of this machine; they end with this one, however it ends."""

    def __init__(self) -> None:
        self._processes: list[ProcessPoolExecutor] = []

    def room(self, wanted: int) -> int:
        """As many as are wanted: this machine may share its cores among them."""
        return wanted

    def open(self, processes: int) -> str:
        """Start them: they import what they need when they get their work."""
        context = multiprocessing.get_context("spawn")
        self._processes = [
            ProcessPoolExecutor(1, context, end_with_the_parent) for _ in range(processes)
        ]
        return f"{LOOPBACK}:{free_port(LOOPBACK)}"

    def submit(self, work: Work, data: Any, *arguments: Any) -> list[Future[Any]]:
        """What was loaded from a source is loaded by each of them, not sent."""
        given = data if data.source == "arrays" else data.source
        return [
            process.submit(work, which, LOOPBACK, given, *arguments)
            for which, process in enumerate(self._processes)
        ]

    def close(self) -> None:
        """Kill them."""
        end(self._processes)
        self._processes = []


def end(pools: list[ProcessPoolExecutor]) -> None:
    """Kill the processes of pools, whatever they do."""
    for pool in pools:
        for process in list((pool._processes or {}).values()):
            process.kill()
        pool.shutdown()


def end_with_the_parent() -> None:
    """Leave Ctrl-C to the parent, and end when it has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def free_port(host: str) -> int:
    """A port of an address of this machine at which nobody listens."""
    with socket.socket() as one:
        one.bind((host, 0))
        return int(one.getsockname()[1])


@contextmanager
def cluster(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster.

    Args:
        address: of its head, such as `10.0.0.1:6379`; `auto` is that of this machine's.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        ValueError: there is no such cluster, or it does not let this process in.
    """
    host, _, port = address.rpartition(":")
    at_sigterm = signal.getsignal(signal.SIGTERM)
    if address != "auto" and not (host and "/" not in host and port.isdecimal()):
        raise ValueError(
            f"cluster: got {address!r}; expected HOST:PORT, or auto, on one of its machines"
        )
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or it warns of its future
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "3")  # seconds to be let in
    import ray

    try:
        if host:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        # where a machine dies, Ray tells standard output, and has no setting that stops it
        ray._private.worker._worker_logs_enabled = False
        with silence_stderr():
            ray.init(address, log_to_driver=False, configure_logging=False)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, at_sigterm)  # Ray puts its own there
    except (OSError, RuntimeError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise ValueError(
            f"cluster {address}: {why}; expected one that was started by `ray start --head`, and "
            "its token (RAY_AUTH_MODE=token, RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH)"
        ) from None
    try:
        yield ray
    finally:
        with silence_stderr():
            ray.shutdown()


def kind_of(ray: Any) -> str:
    """What trainings on a cluster are given one of: `GPU`, or `CPU` where there are none."""
    return "GPU" if ray.cluster_resources().get("GPU") else "CPU"


class OnCluster:
    """Processes of a cluster, the first of them on this machine; a core each, and a GPU if any."""

    def __init__(self, ray: Any) -> None:
        self._ray, self._actors = ray, list[Any]()
        self._kind = kind_of(ray)

    def room(self, wanted: int) -> int:
        """How many cores, or GPUs, are free."""
        end = time.monotonic() + SETTLING
        while True:
            there = int(self._ray.cluster_resources().get(self._kind, 0))
            free = int(self._ray.available_resources().get(self._kind, 0))
            if free >= min(wanted, there) or time.monotonic() > end:
                return free
            time.sleep(0.2)

    def open(self, processes: int) -> str:
        """Start them, spread over the machines.

        Raises:
            ValueError: none can start on this machine.
        """
        from ray.exceptions import GetTimeoutError, RayError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

        here = On(self._ray.get_runtime_context().get_node_id(), soft=False)
        needs = {"num_cpus": 1, "num_gpus": int(self._kind == "GPU")}
        kind = self._ray.remote(**needs)(_Process)
        places = [here, *["SPREAD"] * (processes - 1)]
        self._actors = [kind.options(scheduling_strategy=place).remote() for place in places]
        try:
            return str(self._ray.get(self._actors[0].address.remote(), timeout=STARTING))
        except (GetTimeoutError, RayError) as error:
            raise ValueError(
                f"cluster: no {self._kind} of this machine is free for it, and the first process "
                f"runs here ({' '.join(str(error).split())[:100]}); start its node with some "
                "(ray start --num-cpus), or give the command on another machine"
            ) from None

    def submit(self, work: Work, data: Any, *arguments: Any) -> list[Future[Any]]:
        """Data goes by Ray's object store, once to each machine."""
        shared = self._ray.put(data)
        return [
            translated(actor.do.remote(work, which, shared, *arguments).future())
            for which, actor in enumerate(self._actors)
        ]

    def close(self) -> None:
        """Kill them."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []


class _Process:
    """An actor."""

    def address(self) -> str:
        import ray

        host = ray.util.get_node_ip_address()
        return f"{host}:{free_port(host)}"

    def do(self, work: Work, which: int, *arguments: Any) -> Any:
        import ray

        return work(which, ray.util.get_node_ip_address(), *arguments)


def translated(asked: Future[Any]) -> Future[Any]:
    """Ray's future as one that says `BrokenExecutor` where the process died."""
    from ray.exceptions import RayError, RayTaskError

    told: Future[Any] = Future()

    def tell(done: Future[Any]) -> None:
        error = done.exception()
        if isinstance(error, RayTaskError):
            error = error.cause
        elif isinstance(error, RayError):
            error = BrokenExecutor(str(error))
        told.set_exception(error) if error else told.set_result(done.result())

    asked.add_done_callback(tell)
    return told
