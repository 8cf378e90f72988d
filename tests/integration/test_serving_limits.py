"""What a client can cost a server: each case was once a way to stop it."""

import asyncio
import contextlib
import http.client
import io
import json
import socket
import struct
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from serving_client import JPEG, infer_body, photo, request_json, send, send_raw

from fashion_cnn.serving import connections
from fashion_cnn.serving.limits import MAX_BODY_BYTES

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
WRONG = {"Authorization": "Bearer wrong"}
INFER = "/v2/models/textbook/infer"


@pytest.fixture(scope="module")
def server(serving):
    with serving("textbook") as (_, port, _):
        yield port


@pytest.fixture(scope="module")
def guarded(serving, tmp_path_factory):
    """The port of a server whose token is `secret`."""
    path = tmp_path_factory.mktemp("token") / "token"
    path.write_text("secret\n")
    with serving("textbook", "--token-file", path) as (_, port, _):
        yield port


def peak_mb(process):
    with open(f"/proc/{process.pid}/status") as file:
        return next(int(line.split()[1]) // 1024 for line in file if line.startswith("VmHWM"))


@pytest.mark.parametrize("size", [50_000, 4_000_000])
@pytest.mark.parametrize("pause", [0.0, 0.2])
def test_a_refusal_arrives_once_and_the_next_request_is_answered(guarded, size, pause):
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
    following = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    response = send_raw(guarded, head, bytes(size), following, pause=pause)
    assert response.startswith(b"HTTP/1.1 401 ") and response.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 200 " in response and response.endswith(b'{"live":true}')


def test_a_client_that_waits_is_refused_before_it_sends_the_body(guarded):
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\n"
    response = send_raw(guarded, head + b"Content-Length: 4000000\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 401 ") and b"100 Continue" not in response


def test_after_an_early_refusal_the_connection_ends(guarded):
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
    response = send_raw(guarded, head)
    assert response.startswith(b"HTTP/1.1 401 ") and b"connection: close" in response


@pytest.mark.slow
def test_a_body_in_very_many_chunks_is_refused(server):
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    response = send_raw(server, head, *[b"1\r\nx\r\n" * 40_000] * 60)  # 14 MB for 2.4 MB
    assert not response or response.startswith(b"HTTP/1.1 431 ")
    assert send(server, "GET", "/v2/health/live")[0] == 200


@pytest.mark.parametrize(
    ("path", "header", "value", "reason"),
    [
        (INFER, "Inference-Header-Content-Length", "9" * 5000, "expected a number"),
        ("/predict", "Content-Type", "multipart/form-data; boundary=X; charset=punycode", "form:"),
    ],
)
def test_odd_headers_are_the_clients_mistake(server, path, header, value, reason):
    body = b'--X\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n\xff\r\n--X--\r\n'
    status, content = request_json(server, "POST", path, body, {header: value})
    assert status == 400 and reason in content["error"]


def test_clients_of_other_libraries_see_refusals(guarded):
    url, body = f"http://127.0.0.1:{guarded}/predict", bytes(4_000_000)
    with httpx.Client() as client:
        statuses = [client.post(url, content=body, headers=WRONG).status_code for _ in range(3)]
        health = client.get(f"http://127.0.0.1:{guarded}/v2/health/live").status_code
    assert (statuses, health) == ([401] * 3, 200)

    async def post():
        async with aiohttp.ClientSession() as session:
            response = await session.post(url, data=io.BytesIO(body), headers=WRONG)
            await response.read()
            return response.status

    assert asyncio.run(post()) == 401


def test_a_body_that_is_much_too_large_is_refused(server):
    size = 5 * MAX_BODY_BYTES
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
    response = send_raw(server, head, *[bytes(1 << 20)] * 80)
    assert not response or response.startswith(b"HTTP/1.1 413 ")
    assert request_json(server, "GET", "/v2/health/live") == (200, {"live": True})


@pytest.mark.parametrize("parts", [1, 2])
def test_an_offer_of_http2_is_passed_over(server, parts):
    body = photo()
    head = (
        "POST /predict?top=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings, close\r\n"
        "Upgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
        f"Content-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    sent = (head + body,) if parts == 1 else (head, body)
    assert send_raw(server, *sent, pause=0.2).startswith(b"HTTP/1.1 200 ")


@given(st.lists(st.integers(1, 5000), max_size=8), st.binary(max_size=40))
@settings(max_examples=25)
def test_chunks_of_any_sizes_make_the_same_body(server, sizes, name):
    """Whatever extensions the chunks have; only whole answers count."""
    body, extension = photo(), b";x=" + bytes(97 + byte % 26 for byte in name)
    chunks, position = [], 0
    for size in [*sizes, len(body)]:
        piece = body[position : position + size]
        position += len(piece)
        chunks.append(f"{len(piece):x}".encode() + extension + b"\r\n" + piece + b"\r\n")
    chunks = [chunk for chunk in chunks if not chunk.startswith(b"0;")]
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    response = send_raw(server, head + b"Connection: close\r\n\r\n", *chunks, b"0\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 200 "), response[:200]


@given(st.binary(max_size=300), st.sampled_from([b"X", b"--", b"\r\n", b""]))
@settings(max_examples=50)
def test_any_multipart_body_is_answered(server, junk, boundary):
    body = b"--X\r\nContent-Disposition: form-data; name=" + junk + b"\r\n--" + boundary
    headers = {"Content-Type": "Multipart/Form-Data; boundary=X"}
    status, content = request_json(server, "POST", "/predict", body, headers)
    assert status in (400, 415) and list(content) == ["error"]


@needs_proc
def test_trailers_are_bounded(serving):
    with serving("textbook") as (process, port, _):
        before = peak_mb(process)
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        response = send_raw(port, head + b"1\r\nx\r\n0\r\n", *[b"a: b\r\n" * 10_000] * 500)  # 30 MB
        assert peak_mb(process) < before + 50
        assert not response or response.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))
        assert send(port, "GET", "/v2/health/live")[0] == 200


def scans(side, total):
    """A progressive JPEG of one color whose last scan is repeated."""
    file = io.BytesIO()
    Image.new("L", (side, side), 128).save(file, "JPEG", progressive=True, quality=50)
    content = file.getvalue()
    start, end = content.rfind(b"\xff\xda"), content.rfind(b"\xff\xd9")
    last = content[start:end]
    return content[:end] + last * ((total - len(content)) // len(last)) + content[end:]


def exif_in_pieces(size):
    plain, piece = photo(), b"\xff\xe1\x00\x0aExif\0\0\0\0"
    return plain[:2] + piece * (size // len(piece)) + plain[2:]


def test_pictures_of_very_many_parts_are_refused(server):
    for body, reason in ((scans(2000, 80_000), "scans"), (exif_in_pieces(1 << 20), "segments")):
        status, content = request_json(server, "POST", "/predict", body, JPEG)
        assert status == 400 and reason in content["error"]


def large_png(bits, color, side=8000):
    """A PNG of zeros, small as a file whatever its size."""

    def chunk(kind, content):
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    row = bytes(1 + side * bits * {0: 1, 2: 3, 4: 2, 6: 4}[color] // 8)
    head = struct.pack(">IIBBBBB", side, side, bits, color, 0, 0, 0)
    pixels = zlib.compress(row * side, 9)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize(("bits", "color"), [(8, 4), (8, 6), (16, 0)])
def test_the_memory_of_all_pictures_is_bounded(serving, bits, color):
    body = large_png(bits, color)
    with serving("textbook") as (process, port, _):
        with ThreadPoolExecutor(4) as pool:
            posts = [pool.submit(send, port, "POST", "/predict", body) for _ in range(4)]
        assert {post.result()[0] for post in posts} <= {200, 503}
        assert peak_mb(process) < 600


def test_health_is_answered_while_json_is_parsed(server):
    rows = json.dumps([[[7]] * 28] * 28, separators=(",", ":"))
    tensor = '{"inputs":[{"name":"pixels","datatype":"UINT8","shape":[5000,28,28,1],"data":['
    body = tensor + ",".join([rows] * 5000) + "]}]}"
    statuses, answered = [], []

    def post():
        statuses.append(send(server, "POST", INFER, body)[0])

    thread = threading.Thread(target=post)
    thread.start()
    while thread.is_alive():
        assert send(server, "GET", "/v2/health/live")[0] == 200
        answered.append(time.monotonic())
    thread.join()
    assert statuses == [200] and len(answered) > 5


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="an option of Linux")
def test_clients_that_do_not_read_are_cut_off(monkeypatch):
    monkeypatch.setattr(connections, "SEND_TIMEOUT", 1)
    with connections.listen("127.0.0.1", 0) as listener, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(60)
            with pytest.raises(OSError):
                for _ in range(1000):
                    accepted.sendall(bytes(1 << 20))


@pytest.mark.skipif(sys.platform != "linux", reason="a packet filter of Linux")
def test_no_accepted_connection_is_lost_when_a_listener_stops():
    with connections.listen("127.0.0.1", 0) as listener, contextlib.ExitStack() as stack:
        address = listener.getsockname()
        clients = [stack.enter_context(socket.create_connection(address)) for _ in range(20)]
        connections.stop_new_connections(listener)
        with socket.socket() as late:
            late.settimeout(0.3)
            with pytest.raises(TimeoutError):
                late.connect(address)
            for client in clients:
                client.sendall(b"x")
                accepted, _ = listener.accept()
                with accepted:
                    assert accepted.recv(1) == b"x"


@pytest.mark.slow
def test_too_many_connections_are_refused_and_see_it(serving):
    connections.allow_many_connections()  # of this process, too: macOS begins with 256
    with serving("textbook") as (_, port, _), contextlib.ExitStack() as stack:
        address = ("127.0.0.1", port)
        for _ in range(connections.MAX_CONNECTIONS):
            stack.enter_context(socket.create_connection(address))
        time.sleep(0.5)
        status, headers, content = send(port, "GET", "/v2/health/live")
        assert (status, headers["retry-after"]) == (503, "1")
        assert json.loads(content) == {"error": "too many connections"}


def test_a_kept_connection_is_used_again(serving):
    with serving("textbook", "--keep-alive", "1") as (_, port, _):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.auto_open = 0
        connection.connect()
        for pause in (0, 0.3):
            time.sleep(pause)
            connection.request("GET", "/v2/health/live")
            assert connection.getresponse().read() == b'{"live":true}'
        time.sleep(2.5)
        with pytest.raises((OSError, http.client.HTTPException)):
            connection.request("GET", "/v2/health/live")
            connection.getresponse()


def test_an_explanation_does_not_refuse_predictions(serving):
    with serving("clothes") as (_, port, _):
        thread = threading.Thread(
            target=send, args=(port, "POST", "/predict?explain=true", photo(), JPEG)
        )
        thread.start()
        time.sleep(0.5)
        statuses = [send(port, "POST", "/predict", photo(), JPEG)[0] for _ in range(5)]
        is_running = thread.is_alive()
        thread.join()
    assert statuses == [200] * 5 and is_running


def test_images_of_infer_have_verdicts_too(server):
    images = np.zeros((3, 28, 28, 1), np.uint8)
    assert send(server, "POST", INFER, infer_body(images))[0] == 200
    metrics = send(server, "GET", "/metrics")[2].decode()
    assert "fashion_cnn_recent_verdict_share{" in metrics
