"""Claim: two processes train as one does; 100,000 images survive the loss of a machine.

    python benchmarks/scale.py [--images 100000] [--only train|predict]

Trains `sprint` with one process and with two. Predicts generated photos (96x96, JPEG) by `photo`:
on all cores of this machine, and on a Ray cluster of two machines with one core each (processes of
this machine) of which one is removed half-way. Each is a row of `scale.csv`; finished rows are
skipped. Prints the last two tables of docs/scale-limits.md.
Seeds: one run each. Machine: 2 CPU cores. Duration: 30 minutes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import _results as results

ROWS = Path(__file__).with_suffix(".csv")
PROGRAM = str(Path(sys.executable).with_name("fashion-cnn"))
SIZE = (96, 96)
NOISE = 12  # sd, of 255: 0.2 to 0.3 bytes a pixel at quality 80; real photos of this size: 0.23
COLUMNS = ("seconds", "test_accuracy", "val_accuracy", "rows", "distinct_paths", "errors")
COLUMNS += ("images_per_second", "peak_mb")
RAY_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "t" * 40,
    "RAY_USAGE_STATS_ENABLED": "0",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="images that exist, or are generated and kept")
    parser.add_argument("--only", choices=("train", "predict"))
    arguments = parser.parse_args()

    def measure(command: str, setup: str, count: int, call: Callable) -> None:
        key = {"command": command, "setup": setup, "count": count}
        if arguments.only in (None, command) and not results.is_finished(ROWS, **key):
            result = call()
            results.append_row(ROWS, key | {column: result.get(column, "") for column in COLUMNS})

    with tempfile.TemporaryDirectory() as folder:
        for processes in (1, 2):
            run = Path(folder) / f"{processes}"
            setup = f"--processes {processes}"
            measure("train", setup, 1, lambda n=processes, run=run: train(n, run))
        count = arguments.images
        if arguments.only != "train":
            images = generate_photos(arguments.folder or Path(folder) / "images", count)
            lost = "cluster, one machine lost"
            measure("predict", lost, count, lambda: predict_on_cluster(images, count))
            measure("predict", "all cores", count, lambda: predict(images, count))
    print("\n\n".join(tables(results.read_rows(ROWS))))


def tables(rows: list[results.Row]) -> list[str]:
    """Return the tables of docs/scale-limits.md about commands: training, and prediction."""
    header = ["options of `train sprint`", "validation accuracy after each epoch, %"]
    header += ["test accuracy, %", "seconds"]
    trainings = []
    for row in results.select(rows, command="train"):
        curve = ", ".join(f"{100 * float(x):.2f}" for x in row["val_accuracy"].split())
        accuracy = f"{100 * float(row['test_accuracy']):.2f}"
        trainings.append([f"`{row['setup']}`", curve, accuracy, row["seconds"]])
    predictions = []
    for row in results.select(rows, command="predict"):
        counts = [f"{int(row[key]):,}" for key in ("rows", "distinct_paths", "errors")]
        memory = f"{int(row['peak_mb']):,}"
        speed = [row["images_per_second"], row["seconds"], memory]
        predictions.append([row["setup"], *counts, *speed])
    columns = ["run on", "rows", "distinct paths", "errors", "photos per second"]
    columns += ["seconds", "peak memory, MB"]
    return [results.markdown_table(header, trainings), results.markdown_table(columns, predictions)]


def train(processes: int, run: Path) -> dict[str, object]:
    """Train with this number of processes and return the run's figures."""
    from fashion_cnn.run import Run

    call = [PROGRAM, "train", "sprint", "--processes", str(processes), "--no-report"]
    start = time.monotonic()
    subprocess.run([*call, "--run", str(run)], check=True, stderr=subprocess.DEVNULL)
    return {
        "seconds": round(time.monotonic() - start, 1),
        "test_accuracy": Run(run).metrics()["test_accuracy"],
        "val_accuracy": " ".join(f"{x:.4f}" for x in Run(run).history()["val_accuracy"]),
    }


def generate_photos(folder: Path, count: int, size: tuple[int, int] = SIZE) -> Path:
    """Write test images on white with noise, so that the files are as large as real photos."""
    import numpy as np
    from PIL import Image

    from fashion_cnn import load_data

    images = load_data().test_images
    for i in range(len(list(folder.glob("*/*.jpg"))), count):
        path = folder / f"{i // 1000:03d}" / f"{i:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        garment = np.asarray(Image.fromarray(255 - images[i % len(images)]).resize(size))
        noise = np.random.default_rng(i).standard_normal(garment.shape, np.float32)
        photo = np.clip(garment + NOISE * noise, 0, 255).astype(np.uint8)
        Image.fromarray(photo).convert("RGB").save(path, quality=80)
    return folder


def predict(
    images: Path,
    count: int,
    options: tuple[str, ...] = (),
    at_half: Callable[[], object] = lambda: None,
    cluster_process: int = 0,
) -> dict[str, object]:
    """Predict all images and count the rows; call `at_half` when half of the parts exist."""
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "predictions"
        call = [
            PROGRAM,
            "predict",
            str(images),
            "--model",
            "photo",
            "--output",
            str(output),
            *options,
        ]
        start = time.monotonic()
        with subprocess.Popen(call, stderr=subprocess.DEVNULL) as process:
            peak, ended = [0], threading.Event()
            watched = (cluster_process or process.pid, peak, ended)
            threading.Thread(target=watch_memory, args=watched, daemon=True).start()
            half = -(-count // 1000)
            while process.poll() is None:
                if half and len(list(output.glob("part-*"))) >= half:
                    half = 0
                    at_half()
                time.sleep(0.2)
            ended.set()
        seconds = time.monotonic() - start
        if process.returncode:
            raise SystemExit(f"{' '.join(call)}: exit status {process.returncode}")
        paths = pq.read_table(output, columns=["path"])["path"].to_pylist()
        errors = pq.read_table(output, columns=["error"])["error"].drop_null()
    return {
        "seconds": round(seconds, 1),
        "rows": len(paths),
        "distinct_paths": len(set(paths)),
        "errors": len(errors),
        "images_per_second": round(len(paths) / seconds, 1),
        "peak_mb": round(peak[0] / 1e6),
    }


def predict_on_cluster(images: Path, count: int) -> dict[str, object]:
    """Predict on a cluster of two machines of which the second is removed half-way."""
    os.environ |= RAY_ENVIRONMENT
    from ray.cluster_utils import Cluster

    size = {"num_cpus": 1, "object_store_memory": 200_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
    node = cluster.add_node(**size)

    def remove_node() -> None:
        cluster.remove_node(node, allow_graceful=False)

    try:
        return predict(images, count, ("--cluster", cluster.address), remove_node, os.getpid())
    finally:
        cluster.shutdown()


def watch_memory(root: int, peak: list[int], ended: threading.Event) -> None:
    """Record the peak memory (proportional set size, bytes) of a process and its descendants."""
    import psutil

    while not ended.wait(1):
        total = 0
        with suppress(psutil.Error):
            for process in (psutil.Process(root), *psutil.Process(root).children(recursive=True)):
                with suppress(psutil.Error):
                    total += process.memory_full_info().pss
        peak[0] = max(peak[0], total)


if __name__ == "__main__":
    main()
