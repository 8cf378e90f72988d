"""What every request must pass (size, patience, memory, a token), and headers for every answer."""

import asyncio
import hmac
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fashion_cnn.serving.queue import Overloaded
from fashion_cnn.serving.state import Service

MAX_BODY_BYTES = 16 << 20  # bytes of one request
MAX_TOTAL_BODY_BYTES = 256 << 20  # of all that are being read or worked on
HEARD = 4  # times as much is thrown away before a client is cut off
PATIENCE = 30.0  # seconds for a body to arrive; phones are slow
OPEN = ("/v2/health/", "/docs", "/openapi.json", "/static")  # without a token, as is the page
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DOCS_POLICY = PAGE_POLICY.replace("-src 'self';", "-src 'self' 'unsafe-inline';")  # Swagger UI's
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class RejectedRequest(Exception):
    """A request that is not worked on."""

    def __init__(self, status: int, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.status, self.headers = status, headers


class RequestLimits:
    """ASGI middleware around the whole application."""

    def __init__(self, app: Any, service: Service, token: str | None = None) -> None:
        self.app, self.service, self.token = app, service, token
        self.bytes = 0  # of all bodies

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status, body = time.perf_counter(), 500, b""

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *self._headers(scope["path"])]
            await send(message)

        try:
            self._require_token(scope)
            if scope["method"] == "POST":
                self._require_room(scope)
                body = await self._body(receive)
            await self.app(scope, _replay(body, receive), send_with_headers)
        except RejectedRequest as refused:
            await _refuse(refused, send_with_headers)
        except Overloaded as busy:
            await _refuse(RejectedRequest(503, str(busy), **busy.headers), send_with_headers)
        finally:
            self.bytes -= len(body)
            route = scope.get("route")
            where = getattr(route, "path", "other") if status != 404 else "other"
            self.service.metrics.answered(where, status, time.perf_counter() - began)

    def _headers(self, path: str) -> list[tuple[bytes, bytes]]:
        policy = DOCS_POLICY if path == "/docs" else PAGE_POLICY
        added = [*HEADERS, (b"content-security-policy", policy.encode())]
        if self.service.draining:
            added.append((b"connection", b"close"))
        return added

    def _require_token(self, scope: Message) -> None:
        path = scope["path"]
        if self.token is None or path == "/" or path.startswith(OPEN):
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        if not hmac.compare_digest(given, b"Bearer " + self.token.encode()):
            headers = {"www-authenticate": "Bearer"}
            raise RejectedRequest(
                401, "no right token; expected Authorization: Bearer …", **headers
            )

    def _require_room(self, scope: Message) -> None:
        """Refuse early: reading a body costs more than saying no."""
        if self.service.line.full:
            raise Overloaded(self.service.line.ahead)
        headers = dict(scope["headers"])
        if b"content-encoding" in headers:
            raise RejectedRequest(
                415, "bodies with a Content-Encoding are not read; send it as it is"
            )
        length = headers.get(b"content-length", b"0")
        if b"expect" in headers and length.isdigit() and int(length) > MAX_BODY_BYTES:
            raise _too_large()  # before it is sent; others would not hear it while they send

    async def _body(self, receive: Receive) -> bytes:
        """The whole body. Of one that is too large the rest is thrown away, up to a point."""
        parts: list[bytes] = []
        size = kept = 0
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RejectedRequest(400, "the body ended before its end")
                    part = message.get("body", b"")
                    size += len(part)
                    if size <= MAX_BODY_BYTES:
                        parts.append(part)
                        kept += len(part)
                        self.bytes += len(part)
                    if self.bytes > MAX_TOTAL_BODY_BYTES:
                        raise Overloaded(1.0)
                    ended = not message.get("more_body")
                    if size > MAX_BODY_BYTES and (ended or size > HEARD * MAX_BODY_BYTES):
                        raise _too_large()
                    if ended:
                        return b"".join(parts)
        except BaseException as error:
            self.bytes -= kept
            if isinstance(error, TimeoutError):
                late = f"the body took longer than {PATIENCE:g} s"
                raise RejectedRequest(408, late, connection="close") from None
            raise


def _too_large() -> RejectedRequest:
    return RejectedRequest(
        413, f"the body has more than {MAX_BODY_BYTES:,} bytes", connection="close"
    )


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body that has been read, once; after it what the connection says."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again


async def _refuse(refused: RejectedRequest, send: Send) -> None:
    body = json.dumps({"error": str(refused)}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    pairs = [
        (name.encode(), value.encode()) for name, value in {**headers, **refused.headers}.items()
    ]
    await send({"type": "http.response.start", "status": refused.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
