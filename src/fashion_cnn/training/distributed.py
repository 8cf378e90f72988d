"""One training by several processes: a recipe and data in; the run's folder is what comes out.

Each process holds the whole network and works on its share of every batch; JAX adds the gradients
up. Whoever dies: new processes go on from the last checkpoint.
"""

import json
import os
import secrets
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, BrokenExecutor, wait
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing.connection import Client, Listener
from typing import Any

from fashion_cnn.console import print_message
from fashion_cnn.data.dataset import Data
from fashion_cnn.parallel.cluster import Here, OnCluster, Place, cluster
from fashion_cnn.recipe import Recipe, recipe_from_dict
from fashion_cnn.run import Run

ATTEMPTS = 3  # deaths without an epoch between them
JAX = "jax.errors"  # its own errors tell of another process's death
EVENTS = ("set_params", "on_epoch_begin", "on_train_batch_end", "on_epoch_end")


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
        recipe: its batches are those of one process, whatever their number.
        data: what `load_data` returns.
        run: the folder for the model, the history and a checkpoint an epoch; the first process,
            which runs on this machine, writes it.
        processes: how many; they share each batch equally.
        address: of a Ray cluster; processes of this machine without.
        callbacks: hear `EVENTS` of the first process.
        resume: go on from the run's newest checkpoint.

    Raises:
        ValueError: a batch cannot be shared equally, or what `train` raises.
        RuntimeError: processes died, again and again.
    """
    require_jax()
    if recipe.batch_size % processes:
        near = round(recipe.batch_size / processes) * processes
        raise ValueError(
            f"batch_size: got {recipe.batch_size}; {processes} processes share batches equally: "
            f"try --batch-size {near or processes}, or --processes "
            f"{max_processes(recipe, processes)}"
        )
    with ExitStack() as stack:
        place: Place = OnCluster(stack.enter_context(cluster(address))) if address else Here()
        room = place.room(processes)
        if room < processes:
            raise ValueError(f"cluster {address}: {room} free; {processes} processes need as many")
        stack.callback(place.close)
        told = stack.enter_context(_Ear(callbacks))
        deaths, before = 0, -1
        while True:
            try:
                _attempt(place, processes, told, recipe, data, run, resume)
                return
            except BrokenExecutor as error:
                place.close()
                epochs = _epochs(run)
                deaths = deaths + 1 if epochs == before else 1
                before, resume = epochs, run.is_started
                if deaths > ATTEMPTS:
                    raise RuntimeError(
                        f"{run}: processes died {deaths} times in epoch {epochs + 1} ({error})"
                    ) from None
                room = place.room(processes)
                if not room:
                    raise RuntimeError(f"{run}: no process is left ({error})") from None
                processes = max_processes(recipe, min(room, processes))
                print_message(f"A process died; {processes} go on after epoch {epochs}")


def require_jax() -> None:
    """Raise ValueError if TensorFlow was asked for."""
    if (asked := os.environ.get("KERAS_BACKEND", "jax")) != "jax":
        raise ValueError(
            f"KERAS_BACKEND: got {asked}; several processes train on jax: Keras 3's fit fails "
            "under TensorFlow's MultiWorkerMirroredStrategy; leave it unset"
        )


def max_processes(recipe: Recipe, room: int) -> int:
    """The largest number of processes, at most `room`, that share a batch equally; at least 1."""
    return max((n for n in range(1, room + 1) if recipe.batch_size % n == 0), default=1)


def _attempt(
    place: Place, processes: int, told: "_Ear", recipe: Recipe, data: Data, run: Run, resume: bool
) -> None:
    """Train to the end, or raise what the training raised; `BrokenExecutor` where one died."""
    meeting = place.open(processes)
    text = recipe.to_json()
    futures = place.submit(
        work,
        data,
        processes,
        meeting,
        text,
        str(run.folder.absolute()),
        resume,
        told.address,
        told.key,
    )
    wait(futures, return_when=FIRST_EXCEPTION)
    failed = [error for future in futures if future.done() and (error := future.exception())]
    for error in failed:
        if not isinstance(error, BrokenExecutor) and type(error).__module__ != JAX:
            raise error
    if failed:
        raise BrokenExecutor(str(failed[0]).split("\n")[0])


def _epochs(run: Run) -> int:
    """How many epochs a run's newest checkpoint has behind it, by its name."""
    names = [path.stem for path in run.checkpoints]
    return int(names[-1].removeprefix("epoch-")) if names else 0


def work(
    which: int,
    host: str,
    data: Any,
    processes: int,
    meeting: str,
    recipe: str,
    run: str,
    resume: bool,
    ear: str,
    key: bytes,
) -> None:
    """What each process does."""
    os.environ |= {"KERAS_BACKEND": "jax", "JAX_COORDINATOR_BIND_ADDRESS": meeting}
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # Gloo and JAX say there what the futures say as well
    os.dup2(nowhere, 2)
    if gpus := [x for x in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if x]:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[which % len(gpus)]
    else:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import keras
    from jaxlib import _jax  # type: ignore[attr-defined]

    # JAX has no setting for it, and Gloo would listen wherever this machine's name leads
    _jax.make_gloo_tcp_collectives = partial(_jax.make_gloo_tcp_collectives, hostname=host)
    keras.distribution.initialize(meeting, processes, which)
    shares = keras.distribution.DataParallel(auto_shard_dataset=False)
    keras.distribution.set_distribution(shares)
    from fashion_cnn.data import load_data
    from fashion_cnn.training.loop import train  # only now: it wakes JAX up

    chosen = recipe_from_dict(json.loads(recipe))
    found = data if isinstance(data, Data) else load_data(data, chosen.image_size)
    if which:
        train(chosen, found)
        return
    with Client(ear, authkey=key) as line:
        train(chosen, found, run, callbacks=[_mouth(keras, line)], resume=resume)


def _mouth(keras: Any, line: Any) -> Any:
    """A callback that passes `EVENTS` on."""

    def pass_on(name: str) -> Any:
        def tell(first: Any, logs: Any = None) -> None:
            line.send_bytes(json.dumps([name, first, *([logs] if logs else [])]).encode())

        return tell

    callback = keras.callbacks.Callback()
    for name in EVENTS:
        setattr(callback, name, pass_on(name))
    return callback


class _Ear:
    """Hears what the first process tells, and calls callbacks with it; for this user alone."""

    def __init__(self, callbacks: Sequence[Any]) -> None:
        self.key = secrets.token_bytes(32)
        try:
            self._listener = Listener(authkey=self.key)  # a socket in a folder of its own, no port
        except OSError as error:
            why = f"TMPDIR: {tempfile.gettempdir()}: no socket there ({error}); give a shorter one"
            raise OSError(why) from None
        self.address: Any = self._listener.address
        self._callbacks, self._ended = callbacks, False
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while not self._ended:
            with suppress(EOFError, OSError), self._listener.accept() as line:
                while True:  # until that process has ended
                    name, *arguments = json.loads(line.recv_bytes())
                    for callback in self._callbacks:
                        getattr(callback, name)(*arguments)

    def __enter__(self) -> "_Ear":
        return self

    def __exit__(self, *_: Any) -> None:
        self._ended = True
        self._listener.close()
