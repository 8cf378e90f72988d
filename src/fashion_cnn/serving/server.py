"""The server process: socket, workers, signals, and limits on connections."""

import asyncio
import gc
import http
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from fashion_cnn.console import print_message
from fashion_cnn.inference.classifier import Classifier, model_name
from fashion_cnn.serving.app import make_app
from fashion_cnn.serving.state import Metrics, ServerState

SWITCH_INTERVAL = 1e-3  # seconds that a Python thread may run while another one waits
DRAIN_SECONDS = 0.3  # from SIGTERM, when the server stops being ready, to closing the socket
SHUTDOWN_SECONDS = 20  # for running requests to end after that
HEADER_TIMEOUT = 10.0  # seconds for the headers of a request to arrive
MAX_HEADER_BYTES = 64 << 10
MAX_CONNECTIONS = 1000


def serve(
    model: str, host: str, port: int, workers: int, token: str | None, origins: Sequence[str]
) -> None:
    """Serve a model until SIGTERM or Ctrl-C.

    Args:
        model: what `Classifier.load` takes.
        host: the address to listen on.
        port: 0 takes any free port.
        workers: number of processes; each loads the model.
        token: the bearer token that clients must send, if any.
        origins: other websites whose pages may send requests.

    Raises:
        FileNotFoundError, ValueError: no such model, or an invalid one.
        OSError: the server cannot listen on the address.
    """
    Classifier.load(model, threads=1)  # raises here, and not in the workers
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), backlog=1024, family=family)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise OSError(f"{host}:{port}: {reason}; give another --port or --host") from None
    config = uvicorn.Config(
        partial(worker_app, model, workers > 1, token, origins),
        factory=True,
        http=LimitedConnection,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        workers=workers,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    signal.set_wakeup_fd(-1)  # from here on uvicorn's event loop handles signals
    address = f"[{host}]" if ":" in host else host
    url = f"http://{address}:{listener.getsockname()[1]}"
    print_message(f"Serving {model_name(model)} at {url} (press Ctrl-C to stop)")
    if workers == 1:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # uvicorn raises it again at the end
        uvicorn.Server(config).run([listener])
        return
    with tempfile.TemporaryDirectory(prefix="fashion-cnn-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        Workers(config, [listener]).run()


def worker_app(model: str, shared: bool, token: str | None, origins: Sequence[str]) -> ASGIApp:
    """The ASGI application of a worker; uvicorn calls this in its event loop."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    state = ServerState(model_name(model), Classifier.load(model, threads=1), Metrics(shared))
    app = make_app(state, token, origins)
    gc.collect()
    gc.freeze()  # else each full garbage collection pauses the server for 20 ms
    _handle_signals(state, model)
    return app


def _handle_signals(state: ServerState, model: str) -> None:
    """SIGTERM: stop being ready, wait a little, then shut down. SIGHUP: reload the model."""
    loop = asyncio.get_running_loop()
    shut_down: Any = signal.getsignal(signal.SIGTERM)

    def on_sigterm(*arguments: Any) -> None:
        state.draining = True
        loop.call_soon_threadsafe(loop.call_later, DRAIN_SECONDS, shut_down, *arguments)

    def reload() -> None:
        try:
            state.name, state.classifier = model_name(model), Classifier.load(model, threads=1)
            print_message(f"Reloaded {state.name}, SHA-256 {state.classifier.sha256[:16]}…")
        except (OSError, ValueError) as error:
            print_message(f"fashion-cnn: {error}; keeping the loaded model")

    signal.signal(signal.SIGTERM, on_sigterm)
    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, loop.run_in_executor, None, reload)


class Workers(Multiprocess):
    """Uvicorn's worker processes; passes SIGHUP on to them, where uvicorn would restart them."""

    def handle_hup(self) -> None:
        for process in self.processes:
            if process.pid:
                os.kill(process.pid, signal.SIGHUP)


class LimitedConnection(HttpToolsProtocol):
    """Uvicorn's connection, with limits on request headers and on the number of connections."""

    _timer: asyncio.TimerHandle | None = None
    _header_bytes = 0  # received since the timer was started

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_headers()
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse(503, "too many connections", "retry-after: 1\r\n")

    def data_received(self, data: bytes) -> None:
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._await_headers()
        self._header_bytes += len(data)
        super().data_received(data)
        if self._timer is not None and self._header_bytes > MAX_HEADER_BYTES:
            self._refuse(431, f"the request headers have more than {MAX_HEADER_BYTES:,} bytes")

    def on_headers_complete(self) -> None:
        self._stop_timer()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg)

    def _await_headers(self) -> None:
        self._header_bytes = 0
        reason = f"the request headers took longer than {HEADER_TIMEOUT:g} s"
        self._timer = self.loop.call_later(HEADER_TIMEOUT, self._refuse, 408, reason)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: int, reason: str, headers: str = "") -> None:
        """Send an error and close the connection."""
        self._stop_timer()
        if self.transport.is_closing():
            return
        body = json.dumps({"error": reason})
        head = f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\n{headers}"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n{body}".encode())
        self.transport.close()
