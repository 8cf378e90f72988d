"""What a server bears: python benchmarks/serving.py [--models textbook photo] [--soak 10]

The server, and what loads it, on this machine. How much it can do is what wrk gets (a Debian
package; it asks again as soon as it is answered). How it takes a load that does not wait for it is
measured with requests at random times (exponential gaps, fixed seed) at half of that, all of it and
twice as much, as far as Python can ask so fast: the delay counts from when a request was due. Last,
minutes of twice as many photos as it can do, and the server's memory.
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
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

PROGRAM = Path(sys.executable).with_name("fashion-cnn")
MOST_OPEN = 400  # connections of the load that does not wait
FASTEST = 2500  # requests a second that it can make beside the server
WRK = {"binary": 16, "JSON": 16, "batches of 1,000": 1, "photos": 4}  # connections


@dataclass
class Heard:
    """Answers to requests at random times: seconds by status, and what was not answered."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    lost: int = 0


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["textbook", "photo"])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--soak", type=float, default=10, metavar="MINUTES")
    arguments = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("wrk is not installed; it is a package of Debian's")
    print(f"{'ready after':<28}" + ready(arguments.models, arguments.workers))
    for model in arguments.models:
        with served(model, arguments.workers) as (port, process):
            asked = requests(model)
            most = {}
            print(f"\n{model:<20}{'requests/s':>12}{'images/s':>12}{'p50, ms':>10}{'p99, ms':>10}")
            for kind, connections in WRK.items():
                time.sleep(3)  # what the one before has left in line
                rate, p50, p99 = wrk(port, asked[kind], connections, arguments.seconds)
                most[kind] = rate
                images = rate * (1000 if kind.startswith("batches") else 1)
                print(f"{kind:<20}{rate:>12,.0f}{images:>12,.0f}{p50:>10.2f}{p99:>10.2f}")
            print(f"\n{'':<20}{'offered/s':>10}{'good/s':>9}{'p50, ms':>9}{'p99':>8}", end="")
            print(f"{'refused/s':>11}{'p50, ms':>9}{'p99':>8}{'others':>8}")
            for kind in ("binary", "photos"):
                for share in (0.5, 1, 2):
                    if share * most[kind] < FASTEST:
                        row(kind, share, most[kind], port, asked[kind], arguments.seconds)
            if arguments.soak and model == arguments.models[-1]:
                soak(port, process, asked["photos"], 2 * most["photos"], 60 * arguments.soak)


@contextlib.contextmanager
def served(model: str, workers: int) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A server of its own: its port, and its process."""
    with tempfile.TemporaryFile() as log:
        call = [PROGRAM, "serve", model, "--port", "0", "--workers", str(workers)]
        with subprocess.Popen(call, stderr=log) as process:
            try:
                yield _port(log, process), process
            finally:
                process.terminate()


def _port(log: "io.BufferedRandom", process: subprocess.Popen[bytes]) -> int:
    while process.poll() is None:
        log.seek(0)
        if found := re.search(rb":(\d+) \(", log.read()):
            port = int(found[1])
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/v2/health/ready")
                if connection.getresponse().status == 200:
                    return port
        time.sleep(0.01)
    sys.exit("the server has ended")


def ready(models: list[str], workers: int) -> str:
    """Seconds from the start of the command to the first answer, median of five."""
    found = []
    for model in models:
        took = []
        for _ in range(5):
            began = time.perf_counter()
            with served(model, workers):
                took.append(time.perf_counter() - began)
        found.append(f"{model} {statistics.median(took):.2f} s")
    return ", ".join(found)


def requests(model: str) -> dict[str, bytes]:
    """Whole requests, head and body, by kind."""
    from PIL import Image, ImageDraw

    images = np.random.default_rng(0).integers(0, 256, (1000, 28, 28, 1), dtype=np.uint8)
    file = io.BytesIO()
    photo = Image.effect_noise((400, 533), 20).convert("RGB")
    ImageDraw.Draw(photo).polygon([(120, 60), (280, 60), (290, 480), (110, 480)], "navy")
    photo.save(file, "JPEG", quality=85)
    infer = f"/v2/models/{model}/infer"
    return {
        "binary": _binary(infer, images[:1]),
        "JSON": _request(infer, json.dumps(_tensors(images[:1], data=images[0].ravel().tolist()))),
        "batches of 1,000": _binary(infer, images),
        "photos": _request("/predict", file.getvalue(), **{"Content-Type": "image/jpeg"}),
    }


def _tensors(images: np.ndarray, **more: object) -> dict[str, object]:
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": list(images.shape), **more}
    return {"inputs": [tensor], "parameters": {"binary_data_output": "data" not in more}}


def _binary(path: str, images: np.ndarray) -> bytes:
    head = json.dumps(_tensors(images, parameters={"binary_data_size": images.size})).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    return _request(path, head + images.tobytes(), **length)


def _request(path: str, body: str | bytes, **headers: str) -> bytes:
    body = body.encode() if isinstance(body, str) else body
    headers = {"Host": "127.0.0.1", "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def wrk(port: int, request: bytes, connections: int, seconds: int) -> tuple[float, float, float]:
    """Requests a second, and the 50th and 99th percentile of the delay in ms; none refused."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "request").write_bytes(request)
        script = Path(folder) / "request.lua"
        script.write_text(
            f'local all = io.open("{folder}/request", "rb"):read("*a")\n'
            "request = function() return all end\n"
        )
        words = ["-t1", f"-c{connections}", f"-d{seconds}", "--latency", "-s", str(script)]
        call = ["wrk", *words, f"http://127.0.0.1:{port}/"]
        said = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said:
        sys.exit(f"with {connections} connections some are refused:\n{said}")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])
    p50, p99 = (_ms(re.search(rf"{n}%\s+([\d.]+)(us|ms|s)\b", said)) for n in (50, 99))
    return rate, p50, p99


def _ms(found: re.Match[str] | None) -> float:
    return float(found[1]) * {"us": 1e-3, "ms": 1, "s": 1e3}[found[2]] if found else float("nan")


def row(kind: str, share: float, most: float, port: int, request: bytes, seconds: float) -> None:
    """One load of the table."""
    began = time.perf_counter()
    heard = asyncio.run(open_loop(port, request, share * most, seconds))
    seconds = time.perf_counter() - began
    good, refused = heard.seconds.pop(200, []), heard.seconds.pop(503, [])
    others = heard.lost + sum(map(len, heard.seconds.values()))
    print(
        f"{kind + f', {share:g} x':<20}{share * most:>10,.0f}{len(good) / seconds:>9,.0f}", end=""
    )
    print(f"{_at(good, 50):>9.1f}{_at(good, 99):>8.1f}{len(refused) / seconds:>11,.0f}", end="")
    print(f"{_at(refused, 50):>9.1f}{_at(refused, 99):>8.1f}{others:>8}")


def _at(seconds: list[float], percent: int) -> float:
    return 1e3 * float(np.percentile(seconds, percent)) if seconds else float("nan")


class Client(asyncio.Protocol):
    """A connection that is kept: one request at a time."""

    def __init__(self) -> None:
        self.heard = b""
        self.answer: asyncio.Future[int] | None = None
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard += data
        head, ended, body = self.heard.partition(b"\r\n\r\n")
        if ended and len(body) >= int(re.search(rb"(?i)content-length: (\d+)", head)[1]):
            self.heard = b""
            self.closed = self.closed or b"connection: close" in head.lower()
            if self.answer and not self.answer.done():
                self.answer.set_result(int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self.answer and not self.answer.done():
            self.answer.set_exception(ConnectionError("closed"))


async def open_loop(port: int, request: bytes, rate: float, seconds: float) -> Heard:
    """Ask at random times, whatever has been answered by then."""
    loop, heard, gaps = asyncio.get_running_loop(), Heard(), random.Random(0)  # noqa: S311
    free: list[Client] = []
    tasks: set[asyncio.Task[None]] = set()
    room = asyncio.Semaphore(MOST_OPEN)

    async def one(due: float) -> None:
        async with room:
            try:
                while free and free[-1].closed:
                    free.pop()
                if free:
                    client = free.pop()
                else:
                    _, client = await loop.create_connection(Client, "127.0.0.1", port)
                client.answer = loop.create_future()
                client.transport.write(request)
                status = await client.answer
                heard.seconds.setdefault(status, []).append(loop.time() - due)
                free.append(client)
            except OSError:
                heard.lost += 1

    due = loop.time()
    end = due + seconds
    while (due := due + gaps.expovariate(rate)) < end:
        if (wait := due - loop.time()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(one(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    for client in free:
        client.transport.close()
    return heard


def soak(
    port: int, process: subprocess.Popen[bytes], request: bytes, rate: float, seconds: float
) -> None:
    """Minutes of too much: what was answered, and the server's memory as it goes."""
    statuses: Counter[int] = Counter()
    memory = [_megabytes(process.pid)]
    parts = max(2, round(seconds / 30))
    lost = 0
    for _ in range(parts):
        heard = asyncio.run(open_loop(port, request, rate, seconds / parts))
        statuses.update({status: len(found) for status, found in heard.seconds.items()})
        lost += heard.lost
        memory.append(_megabytes(process.pid))
    print(f"\n{seconds / 60:g} minutes of {rate:,.0f} photos/s: {dict(statuses)}, {lost} lost")
    print(f"memory, MB: {' '.join(f'{x:.0f}' for x in memory)}")


def _megabytes(pid: int) -> float:
    """Of a process and its children, resident."""
    text = subprocess.run(
        [shutil.which("ps") or "ps", "-o", "rss=", "--pid", str(pid), "--ppid", str(pid)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return sum(map(int, text.split())) / 1024


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
