"""A server's start, stop and reload, its worker processes, and where it is deployed."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import PROGRAM
from onnx import TensorProto, helper
from serving_client import JPEG, infer_body, photo, request_json, send, send_raw, wait_for

from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.inference.model_files import PRESET_FOLDER

IMAGE = np.zeros((1, 28, 28, 1), np.uint8)
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="processes are read from /proc")


def copy_preset(name, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(PRESET_FOLDER / f"{name}.onnx", path)


def state_and_parent(pid):
    """The state of a process, such as Z of one that has ended, and its parent."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return "Z", 0
    return state, int(parent)


def is_running(pid):
    return state_and_parent(pid)[0] != "Z"


def children(pid):
    return [int(x) for x in os.listdir("/proc") if x.isdigit() and state_and_parent(x)[1] == pid]


@linux_only
@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_loses_no_request_with_a_connection_of_its_own(serving, workers):
    with serving("textbook", "--workers", workers) as (process, port, _):
        wait_for(lambda: workers == 1 or send(port, "GET", "/v2/health/ready")[0] == 200)
        stop, outcomes = threading.Event(), []

        def load():
            while not stop.is_set():
                try:
                    outcomes.append(
                        send(port, "POST", "/v2/models/textbook/infer", infer_body(IMAGE))[0]
                    )
                except ConnectionRefusedError:
                    outcomes.append("refused")
                    time.sleep(0.01)
                except OSError as error:
                    outcomes.append(repr(error))

        threads = [threading.Thread(target=load) for _ in range(6)]
        for thread in threads:
            thread.start()
        wait_for(lambda: outcomes.count(200) > 100)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        stop.set()
        for thread in threads:
            thread.join()
    assert set(outcomes) <= {200, 503, "refused"}


@pytest.mark.slow
def test_an_upload_ends_while_the_workers_stop(serving):
    body = photo()
    with serving("textbook", "--workers", "2") as (process, port, _):
        wait_for(lambda: send(port, "GET", "/v2/health/ready")[0] == 200)
        with socket.create_connection(("127.0.0.1", port), timeout=60) as upload:
            head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            upload.sendall(head.encode() + body[:100])
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)

            def is_refused():
                try:
                    return send(port, "GET", "/v2/health/ready")[0] is None
                except ConnectionRefusedError:
                    return True

            wait_for(is_refused)
            upload.sendall(body[100:])
            assert upload.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


def test_a_stop_ends_at_its_deadline_whatever_a_thread_does():
    """A network that never returns; the process ends all the same."""
    script = (
        "import time\n"
        "from fashion_cnn.inference.classifier import Classifier\n"
        "from fashion_cnn.serving import server, settings\n"
        "outputs = Classifier.outputs\n"
        "def slow(self, images):\n"
        "    time.sleep(1000 if images.max() == 9 else 0)\n"
        "    return outputs(self, images)\n"
        "Classifier.outputs = slow\n"
        "server.serve('textbook', settings.Settings(port=0, grace=1))\n"
    )
    call = [sys.executable, "-c", script]
    with started(*call) as process:
        port = int(re.search(r":(\d+) ", process.stderr.readline())[1])
        images = np.full((1, 28, 28, 1), 9, np.uint8)
        body = infer_body(images).encode()
        path = "/v2/models/textbook/infer"
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port)) as hanging:
            hanging.sendall(head.encode() + body)
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 1
        assert "stopped before all requests had ended" in process.stderr.read()


@linux_only
@pytest.mark.slow
def test_workers_end_with_their_parent(serving):
    with serving("textbook", "--workers", "2") as (process, port, _):
        wait_for(lambda: send(port, "GET", "/v2/health/ready")[0] == 200)
        pids = children(process.pid)
        assert len(pids) >= 2
        process.kill()
        process.wait()
        wait_for(lambda: not any(map(is_running, pids)), 20)
        with serving("textbook", "--port", port) as (_, same, _):
            assert same == port


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.6, 0.8, 1.0])
def test_a_reload_during_the_start_does_no_harm(share):
    call = [PROGRAM, "serve", "textbook", "--port", "0"]
    with started(*call) as process:
        began = time.monotonic()
        process.stderr.readline()
        seconds = time.monotonic() - began
    with started(*call) as process:
        time.sleep(share * seconds)
        process.send_signal(signal.SIGHUP)
        assert "Serving textbook" in process.stderr.readline()
        time.sleep(0.2)
        assert process.poll() is None


def test_a_link_keeps_its_name_after_a_reload(serving, tmp_path):
    for name in ("textbook", "standard"):
        copy_preset(name, tmp_path / f"{name}-7" / "model.onnx")
    (tmp_path / "current").symlink_to("textbook-7")
    with serving(tmp_path / "current") as (process, port, log):
        assert send(port, "GET", "/v2/models/current")[0] == 200
        (tmp_path / "next").symlink_to("standard-7")
        (tmp_path / "next").replace(tmp_path / "current")
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: "Reloaded current" in log.read_text())
        versions = request_json(port, "GET", "/v2/models/current")[1]["versions"]
    assert versions == [Classifier.load("standard").sha256]


@contextlib.contextmanager
def started(*call):
    """A process whose standard error can be read, killed at the end."""
    with subprocess.Popen(call, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def broken_model(path, last_node, batch="n"):
    """A model of textbook's shapes with a card, whose outputs are not what they should be."""
    card = {p.key: p.value for p in onnx.load(PRESET_FOLDER / "textbook.onnx").metadata_props}
    nodes = [
        helper.make_node("Cast", ["pixels"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["f"], ["g"]),
        helper.make_node("ReduceSum", ["g", "axis"], ["s"], keepdims=1),
        helper.make_node("Mul", ["s", "zero"], ["z"]),
        last_node,
        helper.make_node("Add", ["y", "tenth"], ["probabilities"]),
    ]
    constants = [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
        helper.make_tensor("tenth", TensorProto.FLOAT, [10], [0.1] * 10),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, [batch, 28, 28, 1])
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, 10])
    graph = helper.make_graph(nodes, "g", [pixels], [output], constants)
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    helper.set_model_props(model, card)
    path.write_bytes(model.SerializeToString())


BROKEN = {
    "no probabilities": (helper.make_node("Div", ["z", "z"], ["y"]), "n"),  # NaN
    "cannot predict 2 images": (helper.make_node("Identity", ["z"], ["y"]), 1),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_model_that_cannot_predict_is_not_served(serving, tmp_path, reason):
    broken_model(tmp_path / "broken.onnx", *BROKEN[reason])
    copy_preset("textbook", tmp_path / "model.onnx")
    with serving(tmp_path / "model.onnx") as (process, port, log):
        assert send(port, "GET", "/v2/health/ready")[0] == 200  # only now it reloads
        shutil.copy(tmp_path / "broken.onnx", tmp_path / "model.onnx")
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: "keeping the loaded model" in log.read_text())
        assert reason in log.read_text()
        images = np.concatenate([IMAGE, IMAGE])
        assert send(port, "POST", "/v2/models/model/infer", infer_body(images))[0] == 200
    call = [PROGRAM, "serve", "--port", "0", tmp_path / "broken.onnx"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and reason in done.stderr and done.stderr.count("\n") == 1


def test_below_a_path_all_links_lead_back(serving):
    with serving("textbook", "--root-path", "/clothes") as (_, port, _):
        for path in ("/", "/docs"):
            page = send(port, "GET", path)[2].decode()
            links = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)["']""", page)
            rooted = [x for x in links if x.startswith("/") and not x.startswith("/clothes/")]
            assert links and not rooted
        assert send(port, "GET", "/static/page.js")[0] == 200
        assert send(port, "GET", "/v2/models/textbook/")[0] == 404  # and no redirect
        assert send(port, "POST", "/predict", photo(), JPEG)[0] == 200


@pytest.mark.parametrize("path", ["/", "/v2/health/live", "/v2/health/ready"])
def test_head_requests_are_answered_without_a_body(serving_textbook, path):
    request = f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    head, _, body = send_raw(serving_textbook, request.encode()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ") and not body


@pytest.fixture(scope="module")
def serving_textbook(serving):
    words = [word for host in ("127.0.0.1", "x", "::1") for word in ("--allow-host", host)]
    with serving("textbook", *words) as (_, port, _):
        yield port


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((name, 200) for name in ("127.0.0.1", "x:8000", "X", "[::1]:80")),
        *((name, 400) for name in ("evil.example", "x.evil.example", "[::1")),
    ],
)
def test_only_allowed_hosts_are_answered(serving_textbook, host, status):
    assert send(serving_textbook, "GET", "/v2", headers={"Host": host})[0] == status
    assert send(serving_textbook, "GET", "/v2/health/live", headers={"Host": host})[0] == 200


def test_the_scheme_of_a_token_may_have_any_letters(serving, tmp_path):
    (tmp_path / "token").write_text("secret\n")
    with serving("textbook", "--token-file", tmp_path / "token") as (_, port, _):
        for value, status in {
            "Bearer secret": 200,
            "bearer secret": 200,
            "BEARER secret": 200,
            "bearer Secret": 401,
            "Basic secret": 401,
            "bearer": 401,
        }.items():
            assert send(port, "GET", "/v2", headers={"Authorization": value})[0] == status


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--allow-origin", "https://shop.example/", "without a path or a slash"),
        ("--allow-origin", "shop.example", "such as https://shop.example"),
        ("--allow-host", "https://shop.example", "such as photos.example"),
        ("--root-path", "clothes/", "such as /clothes"),
        ("--root-path", "/kläder", "such as /clothes"),
        ("--root-path", "//evil.example", "such as /clothes"),
        ("--token-file", "one\ntwo", "got 2 lines"),
        ("--token-file", " \n", "empty"),
    ],
)
def test_options_that_can_never_match_are_refused(tmp_path, option, value, reason):
    if option == "--token-file":
        (tmp_path / "token").write_text(value)
        value = tmp_path / "token"
    call = [PROGRAM, "serve", "textbook", "--port", "0", option, value]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and reason in done.stderr and done.stderr.count("\n") == 1


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return socket.has_dualstack_ipv6()


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_all_addresses_of_both_families_are_listened_at():
    call = [PROGRAM, "serve", "textbook", "--port", "0", "--host", "::"]
    with started(*call) as process:
        assert "anybody who can reach ::" in process.stderr.readline()
        port = int(re.search(r"\[::\]:(\d+)", process.stderr.readline())[1])
        for host in ("::1", "127.0.0.1"):
            connection = http.client.HTTPConnection(host, port, timeout=30)
            connection.request("GET", "/v2/health/live")
            assert json.loads(connection.getresponse().read()) == {"live": True}
            connection.close()
