"""A recipe and data in; a run folder out, trained by several processes that share each batch.

Every process holds the whole network, and JAX adds up their gradients. When a process dies, new
ones go on from the last checkpoint.
"""

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, BrokenExecutor, Future, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from fashion_cnn.console import print_message
from fashion_cnn.data.dataset import Data
from fashion_cnn.parallel.local import LOOPBACK
from fashion_cnn.parallel.pool import Pool, open_pool
from fashion_cnn.recipe import Recipe
from fashion_cnn.run import Run

ATTEMPTS = 3  # that end with the death of a process, without a new epoch
JAX_ERRORS = "jax.errors"  # the module of errors that report the death of another process
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Job:
    """What the processes train; `data` is the data, or what each of them reloads it from."""

    recipe: Recipe
    data: Data | dict[str, str]
    run: Run
    resume: bool


def train_distributed(
    recipe: Recipe,
    data: Data,
    run: Run,
    processes: int,
    address: str | None = None,
    callbacks: Sequence[Any] = (),
    resume: bool = False,
) -> None:
    """Train a network by a recipe with several processes, on JAX.

    Args:
        recipe: its batch size is that of all processes together.
        data: what `load_data` returns.
        run: the folder for the model, the history and a checkpoint an epoch; the first process,
            which runs on this machine, writes it.
        processes: how many; each takes an equal share of a batch.
        address: of a Ray cluster. Default: processes on this machine.
        callbacks: objects with the methods `set_params`, `on_epoch_begin`, `on_train_batch_end` and
            `on_epoch_end`, which are called in this process as the first process trains.
        resume: whether to go on from the run's newest checkpoint.

    Raises:
        ValueError: a batch cannot be shared equally, too few processes can start, or `train`
            raises it.
        RuntimeError: processes died again and again.
    """
    require_jax()
    if recipe.batch_size % processes:
        nearest = round(recipe.batch_size / processes) * processes
        raise ValueError(
            f"batch_size: got {recipe.batch_size}; {processes} processes share batches equally: "
            f"try --batch-size {nearest or processes}, or --processes "
            f"{_max_processes(recipe, processes)}"
        )
    with open_pool(address, training=True) as pool:
        slots = pool.wait_for_slots(processes)
        if slots < processes:
            raise ValueError(f"cluster {address}: {slots} free; {processes} processes need as many")
        # processes of this machine load data from its source, which is faster than to send it
        shared = data if address or data.source == "arrays" else data.origin
        job = Job(recipe, shared, Run(run.folder.absolute()), resume)
        deaths, last_epochs = 0, -1
        while True:
            try:
                _attempt(pool, processes, job, callbacks)
                return
            except BrokenExecutor as error:
                pool.kill()
                epochs = _completed_epochs(run)
                deaths = deaths + 1 if epochs == last_epochs else 1
                last_epochs, job = epochs, replace(job, resume=run.is_started)
                if deaths > ATTEMPTS:
                    raise RuntimeError(
                        f"{run}: processes died {deaths} times in epoch {epochs + 1} ({error})"
                    ) from None
                slots = pool.wait_for_slots(processes)
                if not slots:
                    raise RuntimeError(f"{run}: no process is left ({error})") from None
                processes = _max_processes(recipe, min(slots, processes))
                print_message(f"A process died; {processes} go on after epoch {epochs}")


def require_jax() -> None:
    """Raise ValueError if several processes cannot train here, or with the backend asked for."""
    if sys.platform == "win32":
        raise ValueError("--processes: got more than 1; JAX connects processes on Linux and macOS")
    if (backend := os.environ.get("KERAS_BACKEND", "jax")) != "jax":
        raise ValueError(
            f"KERAS_BACKEND: got {backend}; several processes train on jax: Keras 3's fit fails "
            "under TensorFlow's MultiWorkerMirroredStrategy; leave it unset"
        )


def _max_processes(recipe: Recipe, limit: int) -> int:
    """The largest number of processes up to `limit` that share a batch equally; at least 1."""
    return max((n for n in range(1, limit + 1) if recipe.batch_size % n == 0), default=1)


def _completed_epochs(run: Run) -> int:
    """How many epochs the newest checkpoint of a run includes, by its name."""
    names = [path.stem for path in run.checkpoints]
    return int(names[-1].removeprefix("epoch-")) if names else 0


def _attempt(pool: Pool, processes: int, job: Job, callbacks: Sequence[Any]) -> None:
    """Train to the end, or raise what a process raised; `BrokenExecutor` where one died."""
    with tempfile.TemporaryDirectory(
        prefix="fashion-cnn-", ignore_cleanup_errors=True
    ) as folder:  # only this user can open it, and rank 0 may still write to it
        events = Path(folder) / "events.jsonl"
        events.touch()
        futures = pool.submit_group(train_rank, processes, processes, job, events)
        _forward_events(events, futures, callbacks)
    errors = [error for future in futures if future.done() and (error := future.exception())]
    for error in errors:
        if not isinstance(error, BrokenExecutor) and type(error).__module__ != JAX_ERRORS:
            raise error
    if errors:
        raise BrokenExecutor(str(errors[0]).split("\n")[0])


def _forward_events(events: Path, futures: Sequence[Future[Any]], callbacks: Sequence[Any]) -> None:
    """Call `callbacks` with what rank 0 writes, until all processes have ended or one has failed.

    Each line of the file is a JSON list: the name of a callback's method, and its arguments.
    """
    with events.open(encoding="utf-8") as file:
        text, running = "", True
        while running:
            done, pending = wait(futures, POLL_SECONDS, FIRST_EXCEPTION)
            running = bool(pending) and not any(future.exception() for future in done)
            *lines, text = (text + file.read()).split("\n")
            for line in lines:
                method, *arguments = json.loads(line)
                for callback in callbacks:
                    getattr(callback, method)(*arguments)


def train_rank(rank: int, address: str, processes: int, job: Job, events: Path) -> None:
    """Train in one process of a group; `address` is where they meet, `events` of rank 0 alone."""
    os.environ |= {"KERAS_BACKEND": "jax", "JAX_COORDINATOR_BIND_ADDRESS": address}
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)  # Gloo and JAX print there what they raise as well
    os.dup2(devnull, 2)
    if gpus := [x for x in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if x]:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[rank % len(gpus)]
    else:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import keras
    from jaxlib import _jax  # type: ignore[attr-defined]

    # Gloo would listen on the address of the machine's name, and JAX has no setting for it
    make_gloo = partial(_jax.make_gloo_tcp_collectives, hostname=_own_host(address))
    _jax.make_gloo_tcp_collectives = make_gloo
    keras.distribution.initialize(address, processes, rank)
    data_parallel = keras.distribution.DataParallel(auto_shard_dataset=False)
    keras.distribution.set_distribution(data_parallel)
    from fashion_cnn.data import reload_data
    from fashion_cnn.training.loop import train  # only now, because it starts JAX

    data = job.data
    if not isinstance(data, Data):
        data = reload_data(data, job.recipe.image_size)
    if rank:
        train(job.recipe, data)
    else:
        callbacks = [_event_writer(events)]
        train(job.recipe, data, job.run, callbacks=callbacks, resume=job.resume)


def _own_host(address: str) -> str:
    """The address of this machine at which the other processes of a group reach it."""
    if address.startswith(LOOPBACK):
        return LOOPBACK
    import ray

    return str(ray.util.get_node_ip_address())


def _event_writer(events: Path) -> Any:
    """A Keras callback that appends its calls to a file; see `_forward_events`."""
    from fashion_cnn.keras_setup import keras

    def write(method: str, argument: Any, logs: Any = None) -> None:
        with events.open("a", encoding="utf-8") as file:
            file.write(json.dumps([method, argument, *([logs] if logs else [])]) + "\n")

    callback = keras.callbacks.LambdaCallback(
        on_epoch_begin=partial(write, "on_epoch_begin"),
        on_train_batch_end=partial(write, "on_train_batch_end"),
        on_epoch_end=partial(write, "on_epoch_end"),
    )
    callback.set_params = partial(write, "set_params")
    return callback
