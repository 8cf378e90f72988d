"""Claim: one server process answers a thousand images a second, and refuses what exceeds its speed.

    python benchmarks/serving.py [--models textbook photo] [--soak 10]

Runs the server and its load on this machine. The capacity is what wrk measures (a Debian package;
it sends a request as soon as the one before is answered). Then requests come at random times
(exponential gaps, fixed seed), whether or not the earlier ones are answered: at half of the
capacity, at all of it and at twice as much, as far as Python can send them; the latency counts from
when a request was due. Last come minutes of twice as many photos as the capacity, and the server's
memory.
Seeds: one run. Machine: 2 CPU cores. Duration: 15 minutes.
"""

import argparse
import asyncio
import contextlib
import http.client
import io
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

PROGRAM = Path(sys.executable).with_name("fashion-cnn")
MAX_CONNECTIONS = 400  # of the load at random times
MAX_RATE = 2500  # requests per second that this script can send beside the server
WRK_CONNECTIONS = {"binary": 16, "JSON": 16, "batches of 1,000": 1, "photos": 4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["textbook", "photo"])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--soak", type=float, default=10, metavar="MINUTES")
    arguments = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("wrk: not installed; install Debian's package wrk")
    for model in arguments.models:
        print(f"{model} is ready after {startup_seconds(model, arguments.workers):.2f} s")
    for model in arguments.models:
        with start_server(model, arguments.workers) as (port, process):
            requests = build_requests(model)
            rates = measure_capacity(model, port, requests, arguments.seconds)
            measure_random_load(port, requests, rates, arguments.seconds)
            if arguments.soak and model == arguments.models[-1]:
                rate = 2 * rates["photos"]
                soak(port, process, requests["photos"], rate, 60 * arguments.soak)


@contextlib.contextmanager
def start_server(model: str, workers: int) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Start a server; yield its port, when it is ready, and its process."""
    with tempfile.TemporaryFile() as log:
        call = [PROGRAM, "serve", model, "--port", "0", "--workers", str(workers)]
        with subprocess.Popen(call, stderr=log) as process:
            try:
                yield wait_for_port(log, process), process
            finally:
                process.terminate()


def wait_for_port(log: "io.BufferedRandom", process: subprocess.Popen[bytes]) -> int:
    """Read the port from the log and wait until the server is ready."""
    while process.poll() is None:
        log.seek(0)
        if match := re.search(rb":(\d+) \(", log.read()):
            port = int(match[1])
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/v2/health/ready")
                if connection.getresponse().status == 200:
                    return port
        time.sleep(0.01)
    sys.exit("the server has ended")


def startup_seconds(model: str, workers: int) -> float:
    """Return the seconds from the command to a ready server, median of five."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        with start_server(model, workers):
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def build_requests(model: str) -> dict[str, bytes]:
    """Return complete HTTP requests, head and body, by kind."""
    from PIL import Image, ImageDraw

    images = np.random.default_rng(0).integers(0, 256, (1000, 28, 28, 1), dtype=np.uint8)
    file = io.BytesIO()
    photo = Image.effect_noise((400, 533), 20).convert("RGB")
    ImageDraw.Draw(photo).polygon([(120, 60), (280, 60), (290, 480), (110, 480)], "navy")
    photo.save(file, "JPEG", quality=85)
    path = f"/v2/models/{model}/infer"
    values = json.dumps(infer_body(images[:1], data=images[0].ravel().tolist())).encode()
    return {
        "binary": binary_request(path, images[:1]),
        "JSON": http_request(path, values, {}),
        "batches of 1,000": binary_request(path, images),
        "photos": http_request("/predict", file.getvalue(), {"Content-Type": "image/jpeg"}),
    }


def infer_body(images: np.ndarray, **fields: object) -> dict[str, object]:
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": list(images.shape), **fields}
    return {"inputs": [tensor], "parameters": {"binary_data_output": "data" not in fields}}


def binary_request(path: str, images: np.ndarray) -> bytes:
    head = json.dumps(infer_body(images, parameters={"binary_data_size": images.size})).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return http_request(path, head + images.tobytes(), headers)


def http_request(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    headers = {"Host": "127.0.0.1", "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def measure_capacity(
    model: str, port: int, requests: dict[str, bytes], seconds: int
) -> dict[str, float]:
    """Print what wrk measures; return the requests per second of each kind."""
    print(f"\n{model:<20}{'requests/s':>12}{'images/s':>12}{'p50, ms':>10}{'p99, ms':>10}")
    rates = {}
    for kind, connections in WRK_CONNECTIONS.items():
        time.sleep(3)  # until the queue is empty
        rate, p50, p99 = run_wrk(port, requests[kind], connections, seconds)
        rates[kind] = rate
        images = rate * (1000 if kind.startswith("batches") else 1)
        print(f"{kind:<20}{rate:>12,.0f}{images:>12,.0f}{p50:>10.2f}{p99:>10.2f}")
    return rates


def run_wrk(port: int, request: bytes, connections: int, seconds: int) -> tuple[float, ...]:
    """Return requests per second, and the 50th and 99th percentile of the latency in ms."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "request").write_bytes(request)
        script = Path(folder) / "request.lua"
        script.write_text(
            f'local all = io.open("{folder}/request", "rb"):read("*a")\n'
            "request = function() return all end\n"
        )
        options = ["-t1", f"-c{connections}", f"-d{seconds}", "--latency", "-s", str(script)]
        call = ["wrk", *options, f"http://127.0.0.1:{port}/"]
        output = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output:
        sys.exit(f"wrk: some requests on {connections} connections were refused:\n{output}")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])
    unit_ms = {"us": 1e-3, "ms": 1, "s": 1e3}
    percentiles = []
    for percent in (50, 99):
        match = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)\b", output)
        percentiles.append(float(match[1]) * unit_ms[match[2]] if match else float("nan"))
    return rate, *percentiles


def measure_random_load(
    port: int, requests: dict[str, bytes], rates: dict[str, float], seconds: float
) -> None:
    """Print a table of loads at random times, relative to the capacity."""
    print(f"\n{'':<20}{'offered/s':>10}{'good/s':>9}{'p50, ms':>9}{'p99':>8}", end="")
    print(f"{'refused/s':>11}{'p50, ms':>9}{'p99':>8}{'others':>8}")
    for kind in ("binary", "photos"):
        for factor in (0.5, 1, 2):
            rate = factor * rates[kind]
            if rate >= MAX_RATE:
                continue
            start = time.perf_counter()
            latencies = asyncio.run(send_at_random(port, requests[kind], rate, seconds))
            elapsed = time.perf_counter() - start
            good, refused = latencies.pop(200, []), latencies.pop(503, [])
            others = sum(map(len, latencies.values()))
            print(f"{f'{kind}, {factor:g} x':<20}{rate:>10,.0f}", end="")
            for width, times in ((9, good), (11, refused)):
                p50, p99 = 1e3 * np.percentile(times or [np.nan], (50, 99))
                print(f"{len(times) / elapsed:>{width},.0f}{p50:>9.1f}{p99:>8.1f}", end="")
            print(f"{others:>8}")


class Client(asyncio.Protocol):
    """A connection that is kept open, with one request at a time."""

    def __init__(self) -> None:
        self.received = b""
        self.response: asyncio.Future[int] | None = None
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, separator, body = self.received.partition(b"\r\n\r\n")
        if separator and len(body) >= int(re.search(rb"(?i)content-length: (\d+)", head)[1]):
            self.received = b""
            self.closed = self.closed or b"connection: close" in head.lower()
            if self.response and not self.response.done():
                self.response.set_result(int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self.response and not self.response.done():
            self.response.set_exception(ConnectionError("closed"))


async def send_at_random(
    port: int, request: bytes, rate: float, seconds: float
) -> dict[int, list[float]]:
    """Send requests at random times, whether or not the earlier ones are answered.

    Returns: the latencies in seconds by HTTP status, with 0 for a connection that failed.
    """
    loop, rng = asyncio.get_running_loop(), random.Random(0)  # noqa: S311 (no secret)
    latencies: dict[int, list[float]] = defaultdict(list)
    idle: list[Client] = []
    tasks: set[asyncio.Task[None]] = set()
    connections = asyncio.Semaphore(MAX_CONNECTIONS)

    async def send(due: float) -> None:
        async with connections:
            try:
                while idle and idle[-1].closed:
                    idle.pop()
                if idle:
                    client = idle.pop()
                else:
                    _, client = await loop.create_connection(Client, "127.0.0.1", port)
                client.response = loop.create_future()
                client.transport.write(request)
                status = await client.response
                idle.append(client)
            except OSError:
                status = 0
            latencies[status].append(loop.time() - due)

    due = loop.time()
    end = due + seconds
    while (due := due + rng.expovariate(rate)) < end:
        if (wait := due - loop.time()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(send(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    for client in idle:
        client.transport.close()
    return latencies


def soak(
    port: int, process: subprocess.Popen[bytes], request: bytes, rate: float, seconds: float
) -> None:
    """Print the responses to minutes of overload, and the server's memory during it."""
    statuses: Counter[int] = Counter()
    memory = [resident_mb(process.pid)]
    parts = max(2, round(seconds / 30))
    for _ in range(parts):
        latencies = asyncio.run(send_at_random(port, request, rate, seconds / parts))
        statuses.update({status: len(x) for status, x in latencies.items()})
        memory.append(resident_mb(process.pid))
    lost = statuses.pop(0, 0)
    print(f"\n{seconds / 60:g} minutes of {rate:,.0f} photos/s: {dict(statuses)}, {lost} lost")
    print(f"memory, MB: {' '.join(f'{x:.0f}' for x in memory)}")


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process and its children."""
    program = shutil.which("ps") or "ps"
    call = [program, "-o", "rss=", "--pid", str(pid), "--ppid", str(pid)]
    output = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    return sum(map(int, output.split())) / 1024


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
