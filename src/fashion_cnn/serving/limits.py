"""Limits that every request must respect (size, time, memory, token), and response headers."""

import asyncio
import hmac
import time

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fashion_cnn.serving.queue import Overloaded
from fashion_cnn.serving.state import ServerState

MAX_BODY_BYTES = 16 << 20  # of one request
MAX_TOTAL_BODY_BYTES = 256 << 20  # of all requests that are being received or processed
MAX_PICTURE_PIXELS = 64_000_000  # of any format; without a server baseline JPEGs may have more
DISCARD_FACTOR = 4  # this many times MAX_BODY_BYTES are read and discarded before a 413
BODY_TIMEOUT = 30.0  # seconds for a body to arrive; phones are slow
PUBLIC_PATHS = ("/v2/health/", "/docs", "/openapi.json", "/static")  # need no token, nor does "/"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DOCS_POLICY = PAGE_POLICY.replace("-src 'self';", "-src 'self' 'unsafe-inline';")  # Swagger UI's
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
CLOSE = {"connection": "close"}
TOO_LARGE = f"the body has more than {MAX_BODY_BYTES:,} bytes"


class RequestLimits:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, state: ServerState, token: str | None) -> None:
        self.app, self.state, self.token = app, state, token
        self.body_bytes = 0  # of all bodies in memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500
        chunks: list[bytes] = []  # of the body

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                policy = DOCS_POLICY if scope["path"] == "/docs" else PAGE_POLICY
                headers.update({**HEADERS, "content-security-policy": policy})
                if self.state.draining:
                    headers["connection"] = "close"
            await send(message)

        try:
            self._require_token(scope)
            if scope["method"] == "POST":
                self._reject_early(scope)
                receive = await self._read_body(receive, chunks)
            await self.app(scope, receive, send_with_headers)
        except HTTPException as error:
            response = JSONResponse({"error": error.detail}, error.status_code, error.headers)
            await response(scope, receive, send_with_headers)
        finally:
            self.body_bytes -= sum(map(len, chunks))
            path = getattr(scope.get("route"), "path", "other") if status != 404 else "other"
            self.state.metrics.count_response(path, status, time.perf_counter() - started)

    def _require_token(self, scope: Scope) -> None:
        path = scope["path"]
        if self.token is None or path == "/" or path.startswith(PUBLIC_PATHS):
            return
        received = dict(scope["headers"]).get(b"authorization", b"")
        if not hmac.compare_digest(received, b"Bearer " + self.token.encode()):
            reason = "missing or wrong token; expected the header Authorization: Bearer TOKEN"
            raise HTTPException(401, reason, {"www-authenticate": "Bearer"})

    def _reject_early(self, scope: Scope) -> None:
        """Reject what can be rejected before the body is read, which costs more."""
        if self.state.queue.is_full:
            raise Overloaded(self.state.queue.pending_seconds)
        headers = dict(scope["headers"])
        if b"content-encoding" in headers:
            raise HTTPException(415, "Content-Encoding is not supported; send the body unencoded")
        length = headers.get(b"content-length", b"0")
        # clients that send no Expect read no response until they have sent the body
        if b"expect" in headers and length.isdigit() and int(length) > MAX_BODY_BYTES:
            raise HTTPException(413, TOO_LARGE, CLOSE)

    async def _read_body(self, receive: Receive, chunks: list[bytes]) -> Receive:
        """Append the body to `chunks`, less what is too large; return a `receive` to replay it."""
        size, more = 0, True
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise HTTPException(400, "the connection closed before the body ended")
                    chunk, more = message.get("body", b""), message.get("more_body", False)
                    size += len(chunk)
                    if size <= MAX_BODY_BYTES:
                        chunks.append(chunk)
                        self.body_bytes += len(chunk)
                    if self.body_bytes > MAX_TOTAL_BODY_BYTES:
                        raise Overloaded(1.0)
                    if size > (MAX_BODY_BYTES * DISCARD_FACTOR if more else MAX_BODY_BYTES):
                        raise HTTPException(413, TOO_LARGE, CLOSE)
        except TimeoutError:
            reason = f"the body took longer than {BODY_TIMEOUT:g} s"
            raise HTTPException(408, reason, CLOSE) from None
        chunks[:] = [b"".join(chunks)]
        messages = [{"type": "http.request", "body": chunks[0]}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        return replay
