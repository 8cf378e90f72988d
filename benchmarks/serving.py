"""Claim: one server process answers a thousand images a second, and refuses what exceeds its speed.

    python benchmarks/serving.py [--models textbook photo] [--soak 10]

Runs a server for each load, and the load itself, on this machine. The capacity is what wrk measures
(a Debian package; it sends a request as soon as the one before is answered). Other loads send
requests at random times (exponential gaps, fixed seed), whether or not the earlier ones are
answered, at half of the capacity and at twice as much; the latency counts from when a request was
due. Last come minutes of twice as many photos as the capacity, and the server's memory during it.
Each load is a row of `serving.csv`; finished rows are skipped.
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
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import _results as results
import numpy as np

ROWS = Path(__file__).with_suffix(".csv")
PROGRAM = Path(sys.executable).with_name("fashion-cnn")
MAX_CONNECTIONS = 400  # of the load at random times
MAX_RATE = 2500  # requests per second that this script can send beside the server
WRK_CONNECTIONS = {"binary": 16, "JSON": 16, "batches of 1,000": 1, "photos": 4}
SOAK = "one photo, at twice this rate, for minutes"
LOADS = {  # load -> (requests, rate relative to what wrk measures; None: wrk measures it)
    "one image, raw bytes": ("binary", None),
    "one image, raw bytes, at half of this rate": ("binary", 0.5),
    "one image, JSON": ("JSON", None),
    "1,000 images, raw bytes": ("batches of 1,000", None),
    "one photo, 400x533": ("photos", None),
    "one photo, at half of this rate": ("photos", 0.5),
    "one photo, at twice this rate": ("photos", 2),
    SOAK: ("photos", 2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["textbook", "photo"])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument(
        "--soak", type=float, default=10, metavar="MINUTES", help="with the last model; 0 is none"
    )
    arguments = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("wrk: not installed; install Debian's package wrk")
    keys = [
        {"model": model, "workers": arguments.workers, "load": load}
        for model in arguments.models
        for load in LOADS
        if load != SOAK or (arguments.soak and model == arguments.models[-1])
    ]
    seconds = {SOAK: 60 * arguments.soak}
    run = partial(measure_load, seconds=dict.fromkeys(LOADS, arguments.seconds) | seconds)
    rows = results.run_missing(ROWS, keys, run)
    print("\n\n".join(tables(rows, arguments.workers)))


def tables(rows: list[results.Row], workers: int = 1) -> list[str]:
    """Return two tables: the rate and latency of each load; start, overload and memory."""
    rows = results.select(rows, workers=workers)
    models = list(dict.fromkeys(row["model"] for row in rows))
    header = ["load", *(f"`{x}`: {y}" for x in models for y in ("requests/s", "p99, ms"))]
    lines = [
        [load, *(x for model in models for x in load_cells(rows, model, load))]
        for load in LOADS
        if load != SOAK
    ]
    columns = ["model", "seconds until ready", "starts", "minutes of twice as many photos"]
    columns += ["answered", "refused", "failed", "memory, MB"]
    overloads = []
    for model in models:
        starts = results.select(rows, model=model)
        ready = results.median(starts, "ready_seconds")
        cells = [""] * 5
        for row in results.select(starts, load=SOAK):
            counts = [f"{int(row[x]):,}" for x in ("answered", "refused", "failed")]
            memory = f"{row['memory_mb_low']} to {row['memory_mb_high']}"
            cells = [f"{round(float(row['seconds']) / 60, 1):g}", *counts, memory]
        overloads.append([f"`{model}`", ready, len(starts), *cells])
    return [results.markdown_table(header, lines), results.markdown_table(columns, overloads)]


def load_cells(rows: list[results.Row], model: str, load: str) -> list[str]:
    """Return the cells of requests per second and of the 99th percentile of the latency."""
    for row in results.select(rows, model=model, load=load):
        seconds, refused = float(row["seconds"]), int(row["refused"])
        if not seconds:
            return [f"not measured (more than {MAX_RATE:,})", ""]
        rate, p99 = int(row["answered"]) / seconds, f"{float(row['p99_ms']):,.1f}"
        images = f" ({1000 * rate:,.0f} images)" if load.startswith("1,000") else ""
        text = f"{rate:,.0f}{images}" if rate >= 10 else f"{rate:.1f}{images}"
        if refused:
            text += f", {refused / seconds:,.0f} refused"
            p99 += f", refusals {float(row['refused_p99_ms']):,.1f}"
        return [text, p99]
    return ["", ""]


def measure_load(
    model: str, workers: int, load: str, seconds: dict[str, float]
) -> dict[str, object]:
    """Start a server, send it a load for some seconds, and count its responses."""
    kind, factor = LOADS[load]
    request = build_requests(model)[kind]
    start = time.perf_counter()
    with start_server(model, workers) as (port, process):
        ready_seconds = time.perf_counter() - start
        warm_up(port, request)
        memory = [resident_mb(process.pid)]
        if factor is None:
            result = run_wrk(port, request, WRK_CONNECTIONS[kind], seconds[load])
            memory.append(resident_mb(process.pid))
        else:
            rate = factor * capacity(model, workers, kind)
            result = send_for(port, process.pid, request, rate, seconds[load], memory)
    return {
        **result,
        "ready_seconds": round(ready_seconds, 2),
        "memory_mb_low": round(min(memory)),
        "memory_mb_high": round(max(memory)),
        **results.machine_columns(("onnxruntime", "fastapi", "uvicorn")),
    }


def capacity(model: str, workers: int, kind: str) -> float:
    """Return the requests per second that wrk has measured."""
    load = next(x for x, (requests, factor) in LOADS.items() if requests == kind and not factor)
    (row,) = results.select(results.read_rows(ROWS), model=model, workers=workers, load=load)
    return int(row["answered"]) / float(row["seconds"])


def send_for(
    port: int, pid: int, request: bytes, rate: float, seconds: float, memory: list[float]
) -> dict[str, object]:
    """Send requests at random times; append the server's memory every half a minute."""
    latencies: dict[int, list[float]] = defaultdict(list)
    elapsed = 0.0
    parts = max(1, round(seconds / 30)) if rate <= MAX_RATE else 0
    for _ in range(parts):
        start = time.perf_counter()
        sent = asyncio.run(send_at_random(port, request, rate, seconds / parts))
        elapsed += time.perf_counter() - start
        for status, times in sent.items():
            latencies[status] += times
        memory.append(resident_mb(pid))
    good, refused = latencies.pop(200, []), latencies.pop(503, [])
    p50, p99 = (1e3 * float(np.percentile(good or [np.nan], x)) for x in (50, 99))
    failed = sum(map(len, latencies.values()))
    return load_columns(elapsed, len(good), p50, p99, refused, failed)


def load_columns(
    seconds: float,
    answered: int,
    p50: float,
    p99: float,
    refused: Sequence[float] = (),
    failed: int = 0,
) -> dict[str, object]:
    """Return the columns of what a load measured; the percentiles are in ms."""
    refused_p99 = 1e3 * float(np.percentile(refused or [np.nan], 99))
    return {
        "seconds": round(seconds, 2),
        "answered": answered,
        "p50_ms": round(p50, 2),
        "p99_ms": round(p99, 2),
        "refused": len(refused),
        "refused_p99_ms": round(refused_p99, 2),
        "failed": failed,
    }


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


def warm_up(port: int, request: bytes) -> None:
    """Send requests for a second; return when the last one is answered."""
    end = time.monotonic() + 1
    with socket.create_connection(("127.0.0.1", port)) as connection:
        while time.monotonic() < end:
            connection.sendall(request)
            response = http.client.HTTPResponse(connection)
            response.begin()
            response.read()


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


def run_wrk(port: int, request: bytes, connections: int, seconds: float) -> dict[str, object]:
    """Send requests by wrk, each as soon as the one before is answered; return its columns."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "request").write_bytes(request)
        script = Path(folder) / "request.lua"
        script.write_text(
            f'local all = io.open("{folder}/request", "rb"):read("*a")\n'
            "request = function() return all end\n"
        )
        options = ["-t1", f"-c{connections}", f"-d{seconds:.0f}", "--latency", "-s", str(script)]
        call = ["wrk", *options, f"http://127.0.0.1:{port}/"]
        output = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output:
        sys.exit(f"wrk: some requests on {connections} connections were refused:\n{output}")
    answered = int(re.search(r"(\d+) requests in", output)[1])
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])
    unit_ms = {"us": 1e-3, "ms": 1, "s": 1e3}
    percentiles = []
    for percent in (50, 99):
        match = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)\b", output)
        percentiles.append(float(match[1]) * unit_ms[match[2]] if match else float("nan"))
    return load_columns(answered / rate if rate else seconds, answered, *percentiles)


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


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process and its children."""
    program = shutil.which("ps") or "ps"
    call = [program, "-o", "rss=", "--pid", str(pid), "--ppid", str(pid)]
    output = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    return sum(map(int, output.split())) * 1024 / 1e6


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
