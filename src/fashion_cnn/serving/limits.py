"""Limits that every request must respect (size, time, memory, token), and response headers."""

import asyncio
import hmac
import time
from typing import Protocol
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fashion_cnn.serving.settings import Settings

MAX_BODY_BYTES = 16 << 20  # of one request
MAX_TOTAL_BODY_BYTES = 256 << 20  # of all requests that are being received or processed
MAX_PICTURE_PIXELS = 64_000_000  # of any format; without a server baseline JPEGs may have more
DISCARD_FACTOR = 4  # this many times MAX_BODY_BYTES are read and discarded before a refusal
BODY_TIMEOUT = 30.0  # seconds for a body to arrive; phones are slow
HEALTH = "/v2/health/"
PUBLIC_PATHS = (HEALTH, "/docs", "/openapi.json", "/static")  # need no token, nor does "/"
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_DOCS_POLICY = _PAGE_POLICY.replace("-src 'self';", "-src 'self' 'unsafe-inline';")  # Swagger UI's
PAGE_POLICY, DOCS_POLICY = (
    (b"content-security-policy", policy.encode()) for policy in (_PAGE_POLICY, _DOCS_POLICY)
)
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
CLOSE = {"connection": "close"}
TOO_LARGE = f"the body has more than {MAX_BODY_BYTES:,} bytes"
TOO_MANY = f"the bodies of all requests have more than {MAX_TOTAL_BODY_BYTES:,} bytes; try again"


class LimitedState(Protocol):
    """What the limits need to know of a server, and tell it."""

    draining: bool  # whether it shuts down

    def overload(self) -> HTTPException | None:
        """Why a request that takes time is refused now; None if it is not."""

    def count_response(self, route: str, status: int, seconds: float) -> None:
        """Called after each response."""


class RequestLimits:
    """ASGI middleware around the whole application.

    A request that is refused is read to its end first: a client that is still sending would not see
    the response, and a proxy would report an error of its own.
    """

    def __init__(self, app: ASGIApp, state: LimitedState, settings: Settings) -> None:
        self.app, self.state, self.settings = app, state, settings
        self.body_bytes = 0  # of all bodies in memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500
        chunks: list[bytes] = []  # of the body
        headers = Headers(scope=scope)
        path = scope["path"].removeprefix(self.settings.root_path)

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                policy = DOCS_POLICY if path == "/docs" else PAGE_POLICY
                added = [*HEADERS, policy]
                if self.state.draining:
                    added.append((b"connection", b"close"))
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        try:
            refusal = self._refusal(scope["method"], path, headers)
            if "content-length" in headers or "transfer-encoding" in headers:
                if refusal and "expect" in headers:  # this client waits before it sends the body
                    refusal.headers = {**(refusal.headers or {}), **CLOSE}
                    raise refusal
                receive = await self._read_body(receive, chunks, refusal)
            elif refusal:
                raise refusal
            await self.app(scope, receive, send_with_headers)
        except HTTPException as error:
            response = JSONResponse({"error": error.detail}, error.status_code, error.headers)
            await response(scope, receive, send_with_headers)
        finally:
            self.body_bytes -= sum(map(len, chunks))
            route = getattr(scope.get("route"), "path", "other") if status != 404 else "other"
            self.state.count_response(route, status, time.perf_counter() - started)

    def _refusal(self, method: str, path: str, headers: Headers) -> HTTPException | None:
        """The reason to refuse a request before its body is read, if there is one."""
        if not (self._is_allowed_host(headers.get("host", "")) or path.startswith(HEALTH)):
            return HTTPException(400, "this name of the server is not allowed; see --allow-host")
        if not (path == "/" or path.startswith(PUBLIC_PATHS) or self._has_token(headers)):
            reason = "missing or wrong token; expected the header Authorization: Bearer TOKEN"
            return HTTPException(401, reason, {"www-authenticate": "Bearer"})
        if method != "POST":
            return None
        if overload := self.state.overload():
            return overload
        if "content-encoding" in headers:
            return HTTPException(415, "Content-Encoding is not supported; send the body unencoded")
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > MAX_BODY_BYTES:
            return HTTPException(413, TOO_LARGE, CLOSE)
        return None

    def _is_allowed_host(self, host: str) -> bool:
        hosts = self.settings.hosts
        try:
            return not hosts or urlsplit(f"//{host}").hostname in hosts
        except ValueError:
            return False

    def _has_token(self, headers: Headers) -> bool:
        if self.settings.token is None:
            return True
        scheme, _, token = headers.get("authorization", "").partition(" ")
        received = token.strip(" \t").encode("latin-1")  # as Starlette has decoded it
        is_equal = hmac.compare_digest(received, self.settings.token.encode())
        return is_equal and scheme.lower() == "bearer"

    async def _read_body(
        self, receive: Receive, chunks: list[bytes], refusal: HTTPException | None
    ) -> Receive:
        """Read the body into `chunks`; return a `receive` that replays it, or raise the refusal."""
        size, more = 0, True
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise HTTPException(400, "the connection closed before the body ended")
                    chunk, more = message.get("body", b""), message.get("more_body", False)
                    size += len(chunk)
                    if size > MAX_BODY_BYTES:
                        refusal = refusal or HTTPException(413, TOO_LARGE, CLOSE)
                    elif self.body_bytes + len(chunk) > MAX_TOTAL_BODY_BYTES:
                        refusal = refusal or HTTPException(503, TOO_MANY, {"retry-after": "1"})
                    if refusal is None:
                        chunks.append(chunk)
                        self.body_bytes += len(chunk)
                    elif chunks:
                        self.body_bytes -= sum(map(len, chunks))
                        chunks.clear()
                    if size > MAX_BODY_BYTES * DISCARD_FACTOR:
                        raise HTTPException(413, TOO_LARGE, CLOSE)
        except TimeoutError:
            reason = f"the body took longer than {BODY_TIMEOUT:g} s"
            raise HTTPException(408, reason, CLOSE) from None
        if refusal:
            raise refusal
        chunks[:] = [b"".join(chunks)]
        messages = [{"type": "http.request", "body": chunks[0]}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        return replay
