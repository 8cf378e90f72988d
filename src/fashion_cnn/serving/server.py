"""The process: sockets, workers, signals; everything that is not an answer."""

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
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from fashion_cnn.console import print_message
from fashion_cnn.serving.app import make_app
from fashion_cnn.serving.state import Service, load

SETTINGS = "FASHION_CNN_SERVE"  # how the workers are told
SWITCH = 1e-3  # seconds for which a thread of Python's may keep others waiting
GRACE = 0.3  # seconds of answering, not ready any more, before the door is closed
DEADLINE = 20  # seconds for what is under way to end
PATIENCE = 10.0  # seconds for a request's head to arrive
MAX_HEAD_BYTES = 64 << 10  # bytes of it
MAX_CONNECTIONS = 1000


def serve(
    model: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    token: str | None = None,
    origins: Sequence[str] = (),
) -> None:
    """Serve a model until SIGTERM or Ctrl-C.

    Args:
        model: what `Classifier.load` takes.
        host: the address to listen at.
        port: 0 for any that is free.
        workers: processes; each holds the model.
        token: what clients have to show, if anything.
        origins: pages elsewhere that may ask.

    Raises:
        FileNotFoundError, ValueError: no model, or none that is valid.
        OSError: the address cannot be listened at.
    """
    name = load(model).name
    try:
        door = socket.create_server((host, port), backlog=1024, family=_family(host))
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise OSError(f"{host}:{port}: {why}; give another --port or --host") from None
    settings = {"model": model, "token": token, "origins": list(origins), "shared": workers > 1}
    os.environ[SETTINGS] = json.dumps(settings)
    config = uvicorn.Config(
        "fashion_cnn.serving.server:application",
        factory=True,
        http=Connection,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        workers=workers,
        timeout_graceful_shutdown=DEADLINE,
    )
    signal.set_wakeup_fd(-1)  # from here on the loop hears signals
    place = f"[{host}]" if ":" in host else host
    print_message(f"Serving {name} at http://{place}:{door.getsockname()[1]} (Ctrl-C ends it)")
    if workers == 1:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # uvicorn raises it again at the end
        uvicorn.Server(config).run([door])
        return
    with tempfile.TemporaryDirectory(prefix="fashion-cnn-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        Workers(config, [door]).run()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def application() -> Any:
    """What each worker runs, told by the environment."""
    sys.setswitchinterval(SWITCH)
    settings = json.loads(os.environ[SETTINGS])
    service = Service(settings["model"], settings["shared"])
    app = make_app(service, settings["token"], settings["origins"])
    gc.collect()
    gc.freeze()  # what is there to stay is not looked through again, which takes 20 ms

    async def with_signals(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            _heed_signals(service)
        await app(scope, receive, send)

    return with_signals


def _heed_signals(service: Service) -> None:
    """SIGTERM: not ready, answer a little longer, then what uvicorn does. SIGHUP: load anew."""
    loop, leave = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)

    def close() -> None:
        if callable(leave):
            leave(signal.SIGTERM, None)

    def drain(number: int, frame: Any) -> None:
        service.draining = True
        loop.call_soon_threadsafe(loop.call_later, GRACE, close)

    async def reload() -> None:
        try:
            await asyncio.to_thread(service.reload)
            print_message(
                f"Loaded anew: {service.served.name}, SHA-256 {service.served.version[:16]}…"
            )
        except (OSError, ValueError) as error:
            print_message(f"fashion-cnn: {error}; going on with the model that is loaded")

    def hang_up() -> None:
        task = loop.create_task(reload())
        service.tasks.add(task)
        task.add_done_callback(service.tasks.discard)

    signal.signal(signal.SIGTERM, drain)
    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, hang_up)


class Workers(Multiprocess):
    """Uvicorn's processes; SIGHUP goes on to each of them, so that none has to end."""

    def handle_hup(self) -> None:
        for process in self.processes:
            if process.pid:
                os.kill(process.pid, signal.SIGHUP)


class Connection(HttpToolsProtocol):
    """Uvicorn's connection, with bounds on a request's head and on how many there are."""

    _timer: asyncio.TimerHandle | None = None
    _head = 0  # bytes since the last request

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()
        if len(self.connections) > MAX_CONNECTIONS:
            self._close(503, "too many connections", "retry-after: 1\r\n")

    def data_received(self, data: bytes) -> None:
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._await_head()
        if self._timer is not None:
            self._head += len(data)
        super().data_received(data)
        if self._timer is not None and self._head > MAX_HEAD_BYTES:
            self._close(431, f"the request's head has more than {MAX_HEAD_BYTES:,} bytes")

    def on_headers_complete(self) -> None:
        self._stop_timer()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head = 0
        late = f"the request's head took longer than {PATIENCE:g} s"
        self._timer = self.loop.call_later(PATIENCE, self._close, 408, late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self, status: int, reason: str, headers: str = "") -> None:
        self._stop_timer()
        if self.transport.is_closing():
            return
        body = json.dumps({"error": reason})
        phrase = http.HTTPStatus(status).phrase
        head = f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\n{headers}"
        self.transport.write(
            f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n{body}".encode()
        )
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self._close(400, msg)
