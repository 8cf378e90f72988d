"""`fashion-cnn serve` from a client's side: the protocol, photos, and every refusal."""

import base64
import errno
import http.client
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton
from command import PROGRAM
from PIL import Image
from serving_client import (
    JPEG,
    infer_body,
    multipart,
    photo,
    request_json,
    send,
    send_raw,
    wait_for,
)

from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.inference.model_files import PRESET_FOLDER
from fashion_cnn.serving.connections import MAX_HEADER_BYTES
from fashion_cnn.serving.limits import MAX_BODY_BYTES
from fashion_cnn.serving.protocol import HEADER_LENGTH

INFER_PATH = "/v2/models/textbook/infer"
IMAGES = np.random.default_rng(0).integers(0, 256, (1000, 28, 28, 1), dtype=np.uint8)
NOT_HERE = os.strerror(errno.EADDRNOTAVAIL)  # "Cannot assign requested address" on Linux
TOLERANCE = 1e-4  # above rounding, and a tenth of the difference between any two images
needs_proc = pytest.mark.skipif(
    sys.platform != "linux", reason="there is no /proc to see whether a worker handles SIGHUP yet"
)


@pytest.fixture(scope="module")
def server(serving):
    with serving("textbook") as (_, port, _):
        yield port


@pytest.fixture(scope="module")
def classifier():
    classifier = Classifier.load("textbook")
    probabilities = classifier.probabilities(IMAGES)
    assert np.abs(probabilities[1:] - probabilities[:-1]).max(1).min() > 10 * TOLERANCE
    return classifier


def test_metadata_and_health(server, classifier):
    with triton.InferenceServerClient(f"127.0.0.1:{server}") as client:
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("textbook")
        assert client.is_model_ready("textbook", classifier.sha256)
        metadata = client.get_server_metadata()
        model = client.get_model_metadata("textbook", classifier.sha256)
    assert (metadata["name"], metadata["extensions"]) == ("fashion-cnn", ["binary_tensor_data"])
    assert model == {
        "name": "textbook",
        "versions": [classifier.sha256],
        "platform": "onnx_onnxv1",
        "runtime": classifier.runtime,
        "inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [-1, 28, 28, 1]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}],
    }


@pytest.mark.slow
def test_openvino_serves_the_same_probabilities(serving, classifier):
    pytest.importorskip("openvino")
    tensor = triton.InferInput("pixels", IMAGES.shape, "UINT8")
    tensor.set_data_from_numpy(IMAGES)
    with (
        serving("textbook", "--runtime", "openvino", "--precision", "float32") as (_, port, _),
        triton.InferenceServerClient(f"127.0.0.1:{port}") as client,
    ):
        assert client.get_model_metadata("textbook")["runtime"].startswith("OpenVINO ")
        actual = client.infer("textbook", [tensor]).as_numpy("probabilities")
    np.testing.assert_allclose(actual, classifier.probabilities(IMAGES), atol=TOLERANCE)


@pytest.mark.parametrize("count", [1, 1000])
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_a_triton_client_gets_the_models_probabilities(server, classifier, count, binary, named):
    images = IMAGES[:count]
    tensor = triton.InferInput("pixels", images.shape, "UINT8")
    tensor.set_data_from_numpy(images, binary_data=binary)
    outputs = [triton.InferRequestedOutput("probabilities", binary_data=binary)]
    with triton.InferenceServerClient(f"127.0.0.1:{server}") as client:
        response = client.infer(
            "textbook", [tensor], request_id="käse", outputs=outputs if named else None
        )
    body_json = response.get_response()
    assert (body_json["model_name"], body_json["model_version"]) == ("textbook", classifier.sha256)
    assert body_json["id"] == "käse"
    received = response.as_numpy("probabilities")
    np.testing.assert_allclose(received, classifier.probabilities(images), atol=TOLERANCE)


def test_concurrent_clients_each_get_their_own_results(server, classifier):
    expected = classifier.probabilities(IMAGES)

    def one(k):
        status, body_json = request_json(
            server, "POST", INFER_PATH, infer_body(IMAGES[k : k + 1 + k % 3])
        )
        assert status == 200, body_json
        received = np.array(body_json["outputs"][0]["data"]).reshape(-1, 10)
        np.testing.assert_allclose(received, expected[k : k + 1 + k % 3], atol=TOLERANCE)

    with ThreadPoolExecutor(16) as pool:
        assert len(list(pool.map(one, range(200)))) == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("GET", "/v2/models/other", None, 404, "no model other; available is textbook"),
        ("GET", "/v2/models/textbook/versions/1/ready", None, 404, "textbook, version 1"),
        ("POST", "/v2/models/other/infer", infer_body(IMAGES[:1]), 404, "no model other"),
        ("POST", INFER_PATH, "", 400, "not JSON"),
        ("POST", INFER_PATH, "{}", 400, "inputs: got {}; Field required"),
        ("POST", INFER_PATH, infer_body(IMAGES[:1], datatype="FP32"), 400, "expected 'UINT8'"),
        ("POST", INFER_PATH, infer_body(IMAGES[0]), 400, "expected [n, 28, 28, 1]"),
        ("POST", INFER_PATH, infer_body(IMAGES[:1], data=[float("nan")] * 784), 400, "not JSON"),
        (
            "POST",
            INFER_PATH,
            infer_body(IMAGES[:1], data=[0.5] * 784),
            400,
            "integers from 0 to 255",
        ),
        ("GET", INFER_PATH, None, 405, "Method Not Allowed"),
        ("PUT", "/predict", "x", 405, "Method Not Allowed"),
        ("GET", "/nothing/here", None, 404, "Not Found"),
        ("GET", "/static/../app.py", None, 404, "Not Found"),
        ("GET", "/static/%2e%2e/app.py", None, 404, "Not Found"),
    ],
)
def test_errors_follow_the_protocol(server, method, path, body, status, error):
    received, body_json = request_json(server, method, path, body)
    assert received == status
    assert list(body_json) == ["error"] and error in body_json["error"]


@pytest.mark.parametrize("length", ["x", "-1", "0", "99999999", "1e3"])
def test_a_wrong_json_length_is_refused(server, length):
    headers = {"Inference-Header-Content-Length": length}
    status, body_json = request_json(server, "POST", INFER_PATH, b"{}", headers=headers)
    assert status == 400 and "inference-header-content-length" in body_json["error"]


def exif_rotated():
    exif = Image.Exif()
    exif[274] = 6
    return photo(exif=exif)


def animated(form):
    frames = [Image.new("RGB", (64, 64), color) for color in ("#303030", "#d02020")]
    file = io.BytesIO()
    frames[0].save(file, form, save_all=True, append_images=frames[1:])
    return file.getvalue()


def sixteen_bits():
    file = io.BytesIO()
    Image.fromarray(np.linspace(0, 65535, 90_000).astype(np.uint16).reshape(300, 300)).save(
        file, "PNG"
    )
    return file.getvalue()


PHOTOS = {
    "JPEG": photo(),
    "PNG": photo("PNG"),
    "WebP": photo("WEBP"),
    "CMYK": photo(mode="CMYK"),
    "gray": photo(mode="L"),
    "palette": photo("PNG", "P"),
    "alpha": photo("PNG", "RGBA"),
    "16 bits": sixteen_bits(),
    "EXIF-rotated": exif_rotated(),
    "animated PNG": animated("PNG"),
    "animated WebP": animated("WEBP"),
    "of one pixel": b"",
}
one_pixel = io.BytesIO()
Image.new("RGB", (1, 1)).save(one_pixel, "PNG")
PHOTOS["of one pixel"] = one_pixel.getvalue()


@pytest.mark.parametrize("content", PHOTOS.values(), ids=PHOTOS)
def test_photos_get_the_same_predictions_as_from_python(server, classifier, content):
    expected = classifier.predict(io.BytesIO(content))
    for body, headers in ((content, JPEG), multipart(("file", "photo.jpg", content))):
        status, body_json = request_json(server, "POST", "/predict", body, headers)
        assert status == 200
        assert (body_json["label"], body_json["verdict"], body_json["note"]) == (
            expected.label,
            expected.verdict,
            expected.note,
        )
        best = [
            (x["label"], pytest.approx(x["probability"], abs=TOLERANCE)) for x in body_json["top"]
        ]
        assert best == list(expected.probabilities.items())[:3]
        assert body_json["version"] == classifier.sha256
        assert set(body_json["milliseconds"]) == {"prepare", "model"}
        seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(body_json["seen"]))))
        np.testing.assert_array_equal(seen, classifier.prepare(io.BytesIO(content)).pixels[..., 0])


def test_a_response_without_the_networks_input_is_small(server):
    status, _, body = send(server, "POST", "/predict?seen=false", photo(), JPEG)
    assert status == 200 and "seen" not in json.loads(body) and len(body) < 1000


def test_an_explanation_has_every_step(server):
    status, body_json = request_json(server, "POST", "/predict?explain=true&top=10", photo(), JPEG)
    assert status == 200 and len(body_json["top"]) == 10
    assert [step["caption"] for step in body_json["steps"]] == [
        "photo",
        "garment probability",
        "segmented garment",
        "network input, 28x28",
        "occlusion map",
    ]
    for step in body_json["steps"]:
        assert Image.open(io.BytesIO(base64.b64decode(step["png"]))).format == "PNG"


def huge_png():
    """74 bytes that claim 10,000 x 10,000 pixels."""

    def chunk(kind, content):
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"\x00" * 5) + b"\0" * 24


def huge_jpeg():
    """A photo whose header claims 9,248 x 6,936 pixels, which `predict` would read."""
    before, frame = photo().split(b"\xff\xc0", 1)
    return before + b"\xff\xc0" + frame[:3] + struct.pack(">HH", 6_936, 9_248) + frame[7:]


MANY = multipart(*[(f"part{k}", None, b"x") for k in range(10_000)])
FILES = multipart(*[("file", f"{k}.jpg", b"x") for k in range(100)])


@pytest.mark.parametrize(
    ("body", "headers", "status", "error"),
    [
        (b"", JPEG, 400, "an empty body; expected a photo"),
        (b"hello", JPEG, 415, "expected JPEG, PNG or WebP"),
        (b"<svg/>", {"Content-Type": "image/svg+xml"}, 415, "expected JPEG, PNG or WebP"),
        (photo("GIF"), JPEG, 415, "expected JPEG, PNG or WebP"),
        (photo("BMP"), JPEG, 415, "expected JPEG, PNG or WebP"),
        (photo("TIFF"), JPEG, 415, "expected JPEG, PNG or WebP"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", JPEG, 415, "expected JPEG, PNG or WebP"),
        (b"RIFF\0\0\0\0WAVEfmt ", JPEG, 415, "expected JPEG, PNG or WebP"),
        (b"http://127.0.0.1/x.jpg", {"Content-Type": "text/plain"}, 415, "expected JPEG"),
        (huge_png(), JPEG, 400, "10000x10000 pixels; at most 64,000,000"),
        (huge_jpeg(), JPEG, 400, "9248x6936 pixels; at most 64,000,000"),
        (photo()[:2000], JPEG, 400, "truncated"),
        (photo("PNG")[:300], JPEG, 400, ""),
        (b"\xff\xd8\xff" + b"\0" * 100, JPEG, 400, ""),
        (b"x" * (MAX_BODY_BYTES + 1), JPEG, 413, "more than 16,777,216 bytes"),
        (photo(), {"Content-Encoding": "gzip"}, 415, "Content-Encoding"),
        (*multipart(("file", None, b"text")), 400, "no file; expected one in the field 'file'"),
        (
            *multipart(("picture", "x.jpg", photo())),
            400,
            "no file; expected one in the field 'file'",
        ),
        (*multipart(("file", "x.jpg", b"")), 400, "an empty body"),
        (*MANY, 400, "Too many fields"),
        (*FILES, 400, "Too many files"),
        (b"junk", {"Content-Type": "multipart/form-data; boundary=X"}, 400, "form:"),
        (b"junk", {"Content-Type": "multipart/form-data"}, 400, "form:"),
    ],
)
def test_invalid_photos_are_refused(server, body, headers, status, error):
    received, body_json = request_json(server, "POST", "/predict", body, headers)
    assert received == status, body_json
    assert list(body_json) == ["error"] and error in body_json["error"]
    assert len(body_json["error"]) < 300 and "/" not in body_json["error"].replace("image/", "")


@pytest.mark.parametrize("query", ["top=0", "top=x", "top=1001", "explain=perhaps"])
def test_invalid_query_parameters_are_refused(server, query):
    status, body_json = request_json(server, "POST", f"/predict?{query}", photo(), JPEG)
    assert status == 400 and body_json["error"].startswith("query." + query.split("=")[0])


def test_file_names_are_never_used(server, tmp_path):
    before = {path for path in Path.cwd().iterdir()}
    for name in ("../../x", "/etc/passwd", "a\0b", "..\\x", "x" * 5000):
        status, body_json = request_json(
            server, "POST", "/predict", *multipart(("file", name, photo()))
        )
        assert status in (200, 400), body_json
    assert {path for path in Path.cwd().iterdir()} == before


def test_a_chunked_body_is_limited_too(server):
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    response = send_raw(server, head, *[chunk] * 40, b"0\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 413 ") and b"connection: close" in response


@pytest.mark.slow
def test_slow_clients_are_disconnected(server):
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    slow = {
        "nothing": (b"",),
        "half a head": (b"GET /v2 HTTP/1.1\r\nHos",),
        "a head by bytes": tuple(bytes([x]) for x in b"GET /v2 HTTP/1.1\r\nX: abcdefg"),
        "half a body": (head + b"x" * 500,),
        "a body by bytes": (head, *[b"x"] * 65),
    }
    began = time.monotonic()
    with ThreadPoolExecutor(len(slow)) as pool:
        responses = list(pool.map(lambda parts: send_raw(server, *parts, pause=0.5), slow.values()))
    assert 29 < time.monotonic() - began < 60
    for name, response in zip(slow, responses, strict=True):
        assert response.startswith(b"HTTP/1.1 408 "), name
        assert list(json.loads(response.partition(b"\r\n\r\n")[2])) == ["error"], name
    assert send(server, "GET", "/v2/health/live")[0] == 200


def test_the_headers_size_is_limited(server):
    response = send_raw(server, b"GET / HTTP/1.1\r\nX: " + b"x" * (MAX_HEADER_BYTES + 1000))
    assert response.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "junk", [b"\x16\x03\x01" + b"\0" * 50, b"hello\r\n\r\n", b"GET / HTTP/9\r\n\r\n"]
)
def test_invalid_http_is_refused(server, junk):
    assert send_raw(server, junk).startswith(b"HTTP/1.1 400 ")


def test_disconnected_clients_leave_no_state(server):
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", server)) as connection:
            connection.sendall(head + b"x" * 1000)
    assert request_json(server, "POST", "/predict", photo(), JPEG)[0] == 200


def test_every_response_has_the_security_headers(server):
    for method, path in (("GET", "/"), ("GET", "/v2"), ("GET", "/nothing"), ("POST", "/predict")):
        _, headers, _ = send(server, method, path)
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers
    _, headers, _ = send(server, "GET", "/docs")
    assert "'unsafe-eval'" not in headers["content-security-policy"]


def test_metrics_are_counted(server):
    def figures():
        _, headers, content = send(server, "GET", "/metrics")
        assert headers["content-type"].startswith("text/plain")
        lines = [line for line in content.decode().splitlines() if not line.startswith("#")]
        return {key: float(value) for key, value in (line.rsplit(" ", 1) for line in lines)}

    before = figures()
    send(server, "POST", INFER_PATH, infer_body(IMAGES[:5]))
    send(server, "POST", "/predict", b"no photo", JPEG)
    body_json = request_json(server, "POST", "/predict", photo(), JPEG)[1]
    after = figures()
    more = {key: after[key] - before.get(key, 0) for key in after}
    infer = "/v2/models/{name}/infer"
    assert more[f'fashion_cnn_requests_total{{path="{infer}",status="200"}}'] == 1
    assert more['fashion_cnn_requests_total{path="/predict",status="415"}'] == 1
    assert more['fashion_cnn_requests_total{path="/predict",status="200"}'] == 1
    assert more['fashion_cnn_request_seconds_count{path="/predict"}'] == 2
    assert sum(v for k, v in more.items() if k.startswith("fashion_cnn_predictions_total")) == 6
    assert more["fashion_cnn_input_brightness_count"] == 6
    assert sum(v for k, v in more.items() if k.startswith("fashion_cnn_verdicts_total")) == 6
    assert more[f'fashion_cnn_verdicts_total{{verdict="{body_json["verdict"]}"}}'] >= 1


def test_a_token_is_required(serving, tmp_path):
    (tmp_path / "token").write_text("  pässwort\n")
    with serving("textbook", "--token-file", tmp_path / "token") as (_, port, log):
        for path in ("/", "/static/style.css", "/v2/health/live", "/v2/health/ready", "/docs"):
            assert send(port, "GET", path)[0] == 200
        for method, path in (("GET", "/v2"), ("GET", "/metrics"), ("POST", "/predict")):
            for wrong in (
                {},
                {"Authorization": "Bearer x"},
                {"Authorization": "pässwort".encode()},
            ):
                status, headers, content = send(port, method, path, None, wrong)
                assert status == 401 and headers["www-authenticate"] == "Bearer"
                assert "error" in json.loads(content)
        right = {"Authorization": "Bearer pässwort".encode()}
        assert send(port, "GET", "/v2", headers=right)[0] == 200
        assert send(port, "POST", "/predict", photo(), {**right, **JPEG})[0] == 200
        assert "pässwort" not in log.read_text()


def test_only_allowed_origins_get_cors_headers(serving):
    elsewhere = {"Origin": "https://shop.example"}
    with serving("textbook", "--allow-origin", "https://shop.example") as (_, port, _):
        _, headers, _ = send(port, "GET", "/v2", headers=elsewhere)
        assert headers["access-control-allow-origin"] == "https://shop.example"
        assert HEADER_LENGTH in headers["access-control-expose-headers"]
        _, headers, _ = send(port, "GET", "/v2", headers={"Origin": "https://other.example"})
        assert "access-control-allow-origin" not in headers


@pytest.mark.slow
def test_responses_match_the_openapi_description(server, classifier, tmp_path):
    """Requests it allows and requests it forbids; it cannot express that bytes are not a photo."""
    parameters = f'name = "textbook"\nversion = "{classifier.sha256}"'
    (tmp_path / "schemathesis.toml").write_text(f"[parameters]\n{parameters}\n")
    words = ("run", f"http://127.0.0.1:{server}/openapi.json", "--max-examples", "40")
    words += ("--phases", "examples,coverage,fuzzing", "--generation-deterministic")
    words += ("--exclude-checks", "positive_data_acceptance")
    call = [str(Path(sys.executable).with_name("st")), *words]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert "12 selected / 12 total" in done.stdout and "404 Not Found" not in done.stdout


class Load:
    """Clients that send requests without a pause, over connections kept open."""

    def __init__(self, port, clients=8):
        self.port, self.statuses, self.lost = port, [], []
        self.versions, self.stop = set(), threading.Event()
        self.threads = [threading.Thread(target=self._run) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def _run(self):
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            self._send_on(connection)

    def _send_on(self, connection):
        body = infer_body(IMAGES[:1])
        while not self.stop.is_set():
            try:
                connection.request("POST", "/v2/models/model/infer", body)
                response = connection.getresponse()
                body_json = json.loads(response.read())
            except OSError as error:
                self.lost.append(repr(error))
                return
            self.statuses.append(response.status)
            self.versions.add(body_json.get("model_version"))
            if response.getheader("connection") == "close":
                return

    def join(self):
        for thread in self.threads:
            thread.join(30)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes((PRESET_FOLDER / "textbook.onnx").read_bytes())
    return path


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_under_load_loses_nothing(serving, model, workers):
    with serving(model, "--workers", workers) as (process, port, log):
        for _ in range(200):
            if workers == 1 or send(port, "GET", "/v2/health/ready")[0] == 200:
                break
        load = Load(port)
        while len(load.statuses) < 200:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        if workers == 1:
            time.sleep(0.1)
            status, body_json = request_json(port, "GET", "/v2/health/ready")
            assert (status, body_json["ready"]) == (503, False)
        assert process.wait(20) == 0
        load.join()
    assert load.lost == [] and set(load.statuses) == {200}
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=needs_proc)])
def test_sighup_reloads_the_model_and_loses_nothing(serving, model, workers):
    old, new = (Classifier.load(x).sha256 for x in ("textbook", "standard"))
    with serving(model, "--workers", workers) as (process, port, log):
        wait_for(lambda: workers == 1 or count_catching_sighup(process) == workers)
        load = Load(port)
        while len(load.statuses) < 100:
            time.sleep(0.01)
        model.write_bytes(b"half a mod")
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: log.read_text().count("keeping the loaded model") == workers)
        assert load.versions == {old}
        model.write_bytes((PRESET_FOLDER / "standard.onnx").read_bytes())
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: log.read_text().count("Reloaded") == workers)
        count = len(load.statuses)
        wait_for(lambda: len(load.statuses) > count + 50)
        load.stop.set()
        load.join()
        assert request_json(port, "GET", "/v2/models/model")[1]["versions"] == [new]
    assert load.lost == [] and set(load.statuses) == {200}
    assert load.versions == {old, new}


def count_catching_sighup(process):
    """Number of workers that handle SIGHUP; it ends one that has not started yet."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    caught = (
        re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{x}/status").read_text()) for x in children
    )
    return sum(int(mask[1], 16) & 1 << signal.SIGHUP - 1 for mask in caught)


@pytest.mark.slow
def test_workers_add_up_their_metrics(serving):
    with serving("textbook", "--workers", 2) as (_, port, _):
        for _ in range(20):
            assert send(port, "POST", INFER_PATH, infer_body(IMAGES[:1]))[0] == 200
        content = send(port, "GET", "/metrics")[2].decode()
    assert "fashion_cnn_input_brightness_count 20.0" in content


@pytest.mark.slow
def test_a_full_queue_refuses_at_once(serving):
    """While seconds of work are queued the server still responds, with 503 and Retry-After."""
    many = np.broadcast_to(IMAGES[:1], (5_000, 28, 28, 1))
    path = "/v2/models/thorough/infer"
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": list(many.shape)}
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": many.size}}]})
    headers = {"Inference-Header-Content-Length": str(len(head))}
    with serving("thorough") as (_, port, _), ThreadPoolExecutor(1) as pool:
        long = pool.submit(send, port, "POST", path, head.encode() + many.tobytes(), headers)
        refused = 0
        time.sleep(0.3)
        while not long.done():
            status, headers, content = send(port, "POST", path, infer_body(IMAGES[:1]))
            if status == 503:
                refused += 1
                assert int(headers["retry-after"]) >= 1
                assert "of work are queued" in json.loads(content)["error"]
            assert send(port, "GET", "/v2/health/live")[0] == 200
        assert long.result()[0] == 200
        assert refused > 3
        assert send(port, "POST", path, infer_body(IMAGES[:1]))[0] == 200


def refused_start(*words):
    call = [PROGRAM, "serve", *map(str, words)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60)
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.slow
def test_a_failed_start_prints_one_line(tmp_path, server, model):
    whole = model.read_bytes()
    model.write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty").write_text("\n")
    for words, error in (
        ((model,), "not a valid model"),
        (("nowhere",), "nowhere: no model; expected"),
        (("textbook", "--port", server), f"127.0.0.1:{server}: Address already in use; give"),
        (("textbook", "--host", "192.0.2.1"), f"192.0.2.1:8000: {NOT_HERE}; give"),
        (("textbook", "--token-file", tmp_path / "empty"), "empty; expected a token"),
        (("textbook", "--token-file", tmp_path / "none"), "No such file"),
    ):
        code, stderr = refused_start(*words)
        lines = [x for x in stderr.splitlines() if not x.startswith("Warning:")]
        assert code == 1 and len(lines) == 1 and error in lines[0], stderr
    code, stderr = refused_start("textbook", "--workers", "0")
    assert code == 2


def test_listening_beyond_loopback_without_a_token_warns():
    host = "0.0.0.0"  # noqa: S104
    with socket.create_server((host, 0)) as taken:  # macOS shares a port between addresses
        words = ("textbook", "--host", host, "--port", taken.getsockname()[1])
        _, stderr = refused_start(*words)
    assert stderr.startswith("Warning: anybody who can reach 0.0.0.0 can send requests")


def test_ctrl_c_stops_the_server(serving):
    with serving("textbook") as (process, port, _):
        assert send(port, "GET", "/v2")[0] == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
