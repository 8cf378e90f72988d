"""Behind real proxies, nginx and HAProxy: refusals, uploads, a path prefix, a stop."""

import shutil
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving_client import JPEG, photo, request_json, send

WRONG = {"Authorization": "Bearer wrong", **JPEG}
RIGHT = {"Authorization": "Bearer secret", **JPEG}
NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log off; client_max_body_size 16m;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{server}; {extra} }}
        location /clothes/ {{ proxy_pass http://127.0.0.1:{prefixed}/; }}
    }}
}}
"""
HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend front
    bind 127.0.0.1:{port}
    use_backend prefixed if {{ path_beg /clothes/ }}
    default_backend back
backend back
    server one 127.0.0.1:{server} {extra}
backend prefixed
    http-request replace-path /clothes/(.*) /\\1
    server two 127.0.0.1:{prefixed}
"""
PROXIES = {  # name -> program, configuration, its extra line, arguments before the file's name
    "nginx, plain": ("nginx", NGINX, "", ["-c"]),
    "nginx, unbuffered": (
        "nginx",
        NGINX,
        'proxy_request_buffering off; proxy_http_version 1.1; proxy_set_header Connection "";',
        ["-c"],
    ),
    "haproxy": ("haproxy", HAPROXY, "", ["-f"]),
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def servers(serving, tmp_path_factory):
    """The processes and ports of a server with a token, and of one below /clothes."""
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text("secret\n")
    with (
        serving("textbook", "--token-file", token) as (_, port, _),
        serving("textbook", "--root-path", "/clothes") as (_, prefixed, _),
    ):
        yield port, prefixed


@pytest.fixture(params=PROXIES)
def proxy(request, servers, tmp_path):
    """The port of a proxy in front of the servers."""
    program, template, extra, words = PROXIES[request.param]
    path = shutil.which(program, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if path is None:
        pytest.skip(f"{program} is not installed")
    port, (server, prefixed) = free_port(), servers
    names = {"port": port, "server": server, "prefixed": prefixed, "folder": tmp_path}
    (tmp_path / "configuration").write_text(template.format(extra=extra, **names))
    call = [path, *words, tmp_path / "configuration"]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(call, stderr=log) as process:
        try:
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.05)
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


@pytest.mark.parametrize("size", [50_000, 4_000_000])
def test_a_wrong_token_is_refused_through_a_proxy(proxy, size):
    with ThreadPoolExecutor(4) as pool:
        posts = [
            pool.submit(send, proxy, "POST", "/predict", bytes(size), WRONG) for _ in range(20)
        ]
    assert [post.result()[0] for post in posts] == [401] * 20
    status, answer = request_json(proxy, "POST", "/predict", photo(), RIGHT)
    assert status == 200 and answer["top"]


def test_a_body_without_a_length_passes_a_proxy(proxy):
    body = photo()
    pieces = (body[k : k + 1000] for k in range(0, len(body), 1000))  # sent in chunks
    assert send(proxy, "POST", "/predict", pieces, RIGHT)[0] == 200


def test_links_below_a_path_lead_through_the_proxy(proxy):
    for path in ("/clothes/", "/clothes/docs", "/clothes/static/page.js", "/clothes/v2"):
        assert send(proxy, "GET", path)[0] == 200
    assert send(proxy, "POST", "/clothes/predict", photo(), JPEG)[0] == 200
