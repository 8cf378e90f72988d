"""Connections: uvicorn's on h11, with limits on what a client may hold open, and an end.

h11 bounds headers, trailers and what is between chunks; why it: docs/decisions/0019-http-server.md.
"""

import asyncio
import ctypes
import http
import json
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_TIMEOUT = 10.0  # seconds for the headers of a request to arrive
MAX_HEADER_BYTES = 64 << 10
MAX_CONNECTIONS = 300 if sys.platform == "win32" else 1000  # select() there takes 512
MAX_REFUSED = 100  # further connections that get a response; more are reset
PARSING_SECONDS = 1.0  # of processor time: 16 MiB take 0.05 s, in chunks of one byte 30 s
SEND_TIMEOUT = 30  # seconds for a client to read what was sent to it
LINGER_SECONDS = 2.0  # for a client to finish sending before a refused connection is closed
BACKLOG = 1024


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; `::` listens on IPv4 as well.

    Raises:
        OSError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    address = (host, port)
    listener = socket.create_server(address, backlog=BACKLOG, family=family, dualstack_ipv6=both)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # accepted connections have it, too
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * SEND_TIMEOUT)
    return listener


def allow_many_connections() -> None:
    """Raise this process's limit of open files, which often is 1,024."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed_files = 4 * MAX_CONNECTIONS
    if soft != resource.RLIM_INFINITY and soft < needed_files:
        allowed = needed_files if hard == resource.RLIM_INFINITY else min(needed_files, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def stop_new_connections(listener: socket.socket) -> None:
    """Let a listening socket drop requests to connect; what it has accepted can still be served.

    Closing it would reset the connections that wait to be accepted. On Linux a packet filter drops
    TCP's SYN; clients try again after a second, and are refused if the socket is closed by then.
    """
    if sys.platform != "linux":
        return
    # classic BPF: load the byte of TCP's flags; SYN set: keep 0 bytes of the packet, else all
    program = ((0x30, 0, 0, 13), (0x45, 0, 1, 2), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    attach_filter = 26  # SO_ATTACH_FILTER
    with suppress(OSError):  # not in every sandbox
        address = struct.pack("HP", len(program), ctypes.addressof(code))
        listener.setsockopt(socket.SOL_SOCKET, attach_filter, address)


class LimitedConnection(H11Protocol):
    """Uvicorn's connection, with a time limit for headers and a limit on all connections."""

    _timer: asyncio.TimerHandle | None = None
    _is_refused = False
    _seconds = 0.0  # of processor time for the bytes of one request

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_headers()
        if len(self.connections) > MAX_CONNECTIONS + MAX_REFUSED:
            transport.abort()
        elif len(self.connections) > MAX_CONNECTIONS:
            self._refuse(503, "too many connections", [("retry-after", "1")])

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        if self._timer is None and self._is_idle():
            self._await_headers()
        started = time.thread_time()
        super().data_received(data)
        self._seconds += time.thread_time() - started
        if self._seconds > PARSING_SECONDS:
            self._refuse(431, "the request takes too long to parse")

    def handle_events(self) -> None:
        super().handle_events()
        if not self._is_idle():
            self._stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn while it handles h11's error."""
        if getattr(sys.exception(), "error_status_hint", 400) == 431:
            self._refuse(431, f"the request headers have more than {MAX_HEADER_BYTES:,} bytes")
        else:
            self._refuse(400, msg)

    def _should_upgrade(self) -> bool:
        return False  # an offer, such as of h2c, that a server may pass over without a word

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _await_headers(self) -> None:
        self._seconds = 0.0
        reason = f"the request headers took longer than {HEADER_TIMEOUT:g} s"
        self._timer = self.loop.call_later(HEADER_TIMEOUT, self._refuse, 408, reason)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: int, reason: str, headers: Any = ()) -> None:
        """Send an error, unless a response is under way, and close when the client has read it."""
        self._stop_timer()
        if self.transport.is_closing():
            return
        self._is_refused = True
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps({"error": reason}).encode()
            head = [("content-type", "application/json"), ("connection", "close"), *headers]
            head.append(("content-length", str(len(body))))
            phrase = http.HTTPStatus(status).phrase
            response = h11.Response(status_code=status, headers=head, reason=phrase)
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        # closing at once would reset a client that is still sending, and lose it the response
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)
