"""The server process: socket, workers and signals."""

import asyncio
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
from prometheus_client.multiprocess import mark_process_dead
from starlette.types import ASGIApp
from uvicorn.supervisors import Multiprocess

from fashion_cnn.console import print_message
from fashion_cnn.serving.app import make_app
from fashion_cnn.serving.connections import (
    BACKLOG,
    MAX_HEADER_BYTES,
    LimitedConnection,
    allow_many_connections,
    listen,
    stop_new_connections,
)
from fashion_cnn.serving.metrics import Metrics
from fashion_cnn.serving.settings import Settings
from fashion_cnn.serving.state import (
    ServerState,
    collect_garbage_rarely,
    load_model,
    served_name,
)

SWITCH_INTERVAL = 1e-3  # seconds that a Python thread may run while another one waits
DRAIN_SECONDS = 0.3  # from SIGTERM, when the server stops being ready, to the last connection
ACCEPT_SECONDS = 0.2  # after that, to accept the connections that wait for it
PARENT_CHECK_SECONDS = 1.0


def serve(model: str, settings: Settings) -> None:
    """Serve a model until SIGTERM or Ctrl-C.

    Args:
        model: what `Classifier.load` takes.
        settings: the options of the server.

    Raises:
        FileNotFoundError, ValueError: no such model, or one that cannot predict.
        OSError: the server cannot listen on the address.
    """
    load_model(model, settings)  # raises here, and not in the workers
    allow_many_connections()
    workers = settings.workers
    listener = open_listener(settings)
    own = listener if workers == 1 else None
    config = make_config(partial(worker_app, model, settings, own), settings)
    signal.set_wakeup_fd(-1)  # from here on uvicorn's event loop handles signals
    url = address_of(listener, settings)
    print_message(f"Serving {served_name(model)} at {url} (press Ctrl-C to stop)")
    if workers == 1:
        run_alone(config, listener)
        return
    with tempfile.TemporaryDirectory(prefix="fashion-cnn-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        Workers(config, [listener]).run()


def open_listener(settings: Settings) -> socket.socket:
    """The listening socket; OSError if the address cannot be used."""
    host, port = settings.host, settings.port
    try:
        return listen(host, port)
    except OSError as error:
        reason = (error.strerror or str(error)).split(" (while")[0]
        raise OSError(f"{host}:{port}: {reason}; give another --port or --host") from None


def address_of(listener: socket.socket, settings: Settings) -> str:
    """The address of the page, as a browser takes it."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{listener.getsockname()[1]}"


def run_alone(config: uvicorn.Config, listener: socket.socket) -> None:
    """Serve in this process until SIGTERM or Ctrl-C."""
    # before uvicorn's own handler is there, and at the end, when uvicorn raises it again
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.Server(config).run([listener])


def make_config(factory: Callable[[], ASGIApp], settings: Settings) -> uvicorn.Config:
    """Uvicorn's configuration, for an application that `factory` makes in its event loop."""
    return uvicorn.Config(
        factory,
        factory=True,
        http=LimitedConnection,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        root_path=settings.root_path,
        backlog=BACKLOG,
        workers=settings.workers,
        timeout_keep_alive=settings.keep_alive,
        timeout_graceful_shutdown=settings.grace,
    )


def worker_app(model: str, settings: Settings, listener: socket.socket | None) -> ASGIApp:
    """The ASGI application of a process; uvicorn calls this in its event loop.

    Args:
        model: what `Classifier.load` takes.
        settings: the options of the server.
        listener: the socket; None in one of several workers, whose parent has it, too.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    metrics = Metrics(settings.workers)
    state = ServerState(served_name(model), load_model(model, settings), metrics, settings.workers)
    app = make_app(state, settings)
    collect_garbage_rarely()
    _handle_signals(state, model, settings, listener)
    if listener is None:
        _follow_parent()
    return app


def _handle_signals(
    state: ServerState, model: str, settings: Settings, listener: socket.socket | None
) -> None:
    """SIGTERM: stop being ready, accept what waits, then shut down. SIGHUP: reload the model."""
    loop = asyncio.get_running_loop()
    shut_down: Any = signal.getsignal(signal.SIGTERM)

    def on_sigterm(*arguments: Any) -> None:
        state.draining = True
        if listener:
            loop.call_soon_threadsafe(
                loop.call_later, DRAIN_SECONDS, stop_new_connections, listener
            )
        stop_after = DRAIN_SECONDS + ACCEPT_SECONDS
        loop.call_soon_threadsafe(loop.call_later, stop_after, shut_down, *arguments)
        deadline = threading.Timer(stop_after + settings.grace + 1, _exit_at_once)
        deadline.daemon = True
        deadline.start()

    def reload() -> None:
        try:
            state.replace_model(load_model(model, settings))
            print_message(f"Reloaded {state.name}, SHA-256 {state.classifier.sha256[:16]}…")
        except Exception as error:  # whatever it is, the old model goes on
            print_message(f"fashion-cnn: {error}; keeping the loaded model")

    signal.signal(signal.SIGTERM, on_sigterm)
    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, loop.run_in_executor, None, reload)


def _exit_at_once() -> None:
    """End the process though threads, which Python would wait for, are still running."""
    print_message("fashion-cnn: stopped before all requests had ended")
    os._exit(1)


def _follow_parent() -> None:
    """Stop, as after SIGTERM, when the parent process has ended, for example by SIGKILL."""
    parent = multiprocessing.parent_process()
    if parent is None or not parent.is_alive():
        signal.raise_signal(signal.SIGTERM)
        return
    asyncio.get_running_loop().call_later(PARENT_CHECK_SECONDS, _follow_parent)


class Workers(Multiprocess):
    """Uvicorn's worker processes; passes SIGHUP on to them, where uvicorn would restart them."""

    def handle_hup(self) -> None:
        for process in self.processes:
            if process.pid and process.is_ready(timeout=1):  # one that still starts would end
                os.kill(process.pid, signal.SIGHUP)

    def keep_subprocess_alive(self) -> None:
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            mark_process_dead(pid)  # its gauges count no longer

    def terminate_all(self) -> None:
        super().terminate_all()
        time.sleep(DRAIN_SECONDS)
        for listener in self.sockets:
            stop_new_connections(listener)
            listener.close()
