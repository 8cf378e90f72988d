"""A Ray cluster: the connection to it, and a pool of tasks on its machines."""

import functools
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager
from typing import Any

from fashion_cnn.console import silence_stderr
from fashion_cnn.parallel.local import Function, free_port

SETTLE_SECONDS = 20.0  # in which a cluster notices that processes have ended
START_SECONDS = 120.0  # in which a process starts
TASKS_PER_CORE = 2  # short tasks; one of them waits, so that no core is idle between two


@contextmanager
def cluster(address: str) -> Iterator[Any]:
    """Connect to a Ray cluster.

    Args:
        address: of its head, such as `10.0.0.1:6379`; `auto` is the cluster of this machine.

    Yields:
        The module `ray`.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        ValueError: no cluster answers there, or it rejects the token.
    """
    host, _, port = address.rpartition(":")
    sigterm_handler = signal.getsignal(signal.SIGTERM)
    if address != "auto" and not (host and "/" not in host and port.isdecimal()):
        raise ValueError(
            f"cluster: got {address!r}; expected HOST:PORT, or auto, on one of its machines"
        )
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # avoids a FutureWarning
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "3")  # seconds until it gives up
    import ray

    try:
        if host:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        # Ray prints dead nodes to standard output, and has no public setting against it
        ray._private.worker._worker_logs_enabled = False
        with silence_stderr():
            ray.init(address, log_to_driver=False, configure_logging=False)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, sigterm_handler)  # which Ray has replaced
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"cluster {address}: {reason}; expected one that was started by `ray start --head`, "
            "and its token (RAY_AUTH_MODE=token, RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH)"
        ) from None
    try:
        yield ray
    finally:
        with silence_stderr():
            ray.shutdown()


class RayPool:
    """Runs tasks on a cluster, a core each; see `pool.Pool` for the methods.

    Ray's own retries are off, because they would multiply those of `pool.run_tasks`.

    Args:
        ray: of `cluster`.
        jobs: how many independent trainings run at a time. Default: as many as fit.
        training: whether tasks are trainings: each gets a GPU where the cluster has some.

    Raises:
        ValueError: the cluster has no cores.
    """

    def __init__(self, ray: Any, jobs: int | None, training: bool) -> None:
        self._ray, self._jobs, self._training = ray, jobs, training
        self._resource = "GPU" if training and ray.cluster_resources().get("GPU") else "CPU"
        if not ray.cluster_resources().get(self._resource):
            raise ValueError("cluster: has no CPU; start a node with --num-cpus")
        options: dict[str, Any] = {"num_cpus": 1, "max_retries": 0}
        options["num_gpus"] = int(self._resource == "GPU")
        if training and (backend := os.environ.get("KERAS_BACKEND")):
            options["runtime_env"] = {"env_vars": {"KERAS_BACKEND": backend}}
        self._options, self._remote = options, functools.cache(ray.remote(**options))
        self._put = functools.cache(ray.put)  # sends a model to each machine once
        self._running: set[Any] = set()

    def capacity(self) -> int:
        """All cores or GPUs, also of machines that have joined since; more for short tasks."""
        total = int(self._ray.cluster_resources().get(self._resource, 1))
        return min(self._jobs or total, total) if self._training else TASKS_PER_CORE * total

    def wait_for_slots(self, requested: int) -> int:
        """How many cores or GPUs are free."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            total = int(self._ray.cluster_resources().get(self._resource, 0))
            free = int(self._ray.available_resources().get(self._resource, 0))
            if free >= min(requested, total) or time.monotonic() > deadline:
                return free
            time.sleep(0.2)

    def submit(self, function: Function, *arguments: Any) -> Future[Any]:
        """Start a Ray task; bytes go through the object store."""
        values = [self._put(x) if isinstance(x, bytes) else x for x in arguments]
        return self._track(self._remote(function).remote(*values))

    def submit_group(self, function: Function, size: int, *arguments: Any) -> list[Future[Any]]:
        """Start Ray tasks in new processes, spread over the machines.

        Raises:
            ValueError: this machine has no free core or GPU for rank 0.
        """
        from ray.exceptions import GetTimeoutError, RayError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        node = self._ray.get_runtime_context().get_node_id()
        this_machine = NodeAffinitySchedulingStrategy(node, soft=False)
        get_address = self._remote(self._ray.util.get_node_ip_address)
        probe = get_address.options(scheduling_strategy=this_machine).remote()
        try:
            host = self._ray.get(probe, timeout=START_SECONDS)
        except (GetTimeoutError, RayError) as error:
            self._ray.cancel(probe, force=True)
            raise ValueError(
                f"cluster: no {self._resource} of this machine is free, and the first process "
                f"runs here ({' '.join(str(error).split())[:100]}); start its node with some "
                "(ray start --num-cpus), or give the command on another machine"
            ) from None
        values = [self._ray.put(x) for x in arguments]
        # after one call the process ends: JAX joins a group only once in a process
        remote = self._ray.remote(**self._options, max_calls=1)(function)
        strategies = [this_machine, *["SPREAD"] * (size - 1)]
        address = f"{host}:{free_port(host)}"
        return [
            self._track(remote.options(scheduling_strategy=strategy).remote(rank, address, *values))
            for rank, strategy in enumerate(strategies)
        ]

    def kill(self) -> None:
        """Kill the processes, and cancel the tasks that wait for one."""
        for reference in list(self._running):
            self._ray.cancel(reference, force=True)

    def _track(self, reference: Any) -> Future[Any]:
        """A future that raises what the task raised, or `BrokenExecutor` if its process died."""
        from ray.exceptions import RayError, RayTaskError

        future: Future[Any] = Future()

        def finish(ray_future: Future[Any]) -> None:
            self._running.discard(reference)
            try:
                future.set_result(ray_future.result())
            except RayTaskError as error:
                future.set_exception(error.cause)
            except RayError as error:
                future.set_exception(BrokenExecutor(str(error)))

        self._running.add(reference)
        reference.future().add_done_callback(finish)
        return future
