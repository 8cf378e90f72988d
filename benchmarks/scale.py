"""What several processes and machines give: training by two, and 100,000 pictures with a death.

    python benchmarks/scale.py [--pictures 100000] [--only train|predict]

Trains `sprint` with one process and with two. Answers generated photos (96x96, JPEG) by `photo`:
on all cores of this machine, and by a Ray cluster of two one-core machines (processes of this one)
of which one is ended half-way. One row each into `scale.csv`; finished rows are skipped.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
from _rows import finished_rows, keep

ROWS = Path(__file__).with_suffix(".csv")
PROGRAM = str(Path(sys.executable).with_name("fashion-cnn"))
SIDE = 96
GRAIN = 12  # of 256: 0.2 to 0.3 bytes a pixel at quality 80; real ones of this size: 0.23
COLUMNS = ("seconds", "test_accuracy", "val_accuracy", "rows", "different", "errors", "a_second")
COLUMNS += ("peak_mb",)
CLOSED = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "t" * 40, "RAY_USAGE_STATS_ENABLED": "0"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where they are, or will be and stay")
    parser.add_argument("--only", choices=("train", "predict"))
    arguments = parser.parse_args()
    done = {(row["what"], row["how"], int(row["count"])) for row in finished_rows(ROWS)}

    def once(what: str, how: str, count: int, measure) -> None:
        if arguments.only in (None, what) and (what, how, count) not in done:
            found = measure()
            row = {"what": what, "how": how, "count": count}
            keep(ROWS, row | {column: found.get(column, "") for column in COLUMNS})

    with tempfile.TemporaryDirectory() as folder:
        for processes in (1, 2):
            run = Path(folder) / f"{processes}"
            once("train", f"--processes {processes}", 1, lambda n=processes, run=run: train(n, run))
        count = arguments.pictures
        if arguments.only != "train":
            pictures = draw(arguments.folder or Path(folder) / "pictures", count)
            once("predict", "cluster, one dies", count, lambda: predict_on_two(pictures, count))
            once("predict", "all cores", count, lambda: predict(pictures, count))
    print("\n\n".join(tables(finished_rows(ROWS))))


def tables(rows: list[dict[str, str]]) -> list[str]:
    """The tables of docs/scale.md: trainings, and predictions."""
    found: dict[str, list[list[str]]] = {
        "train": [["`sprint` by", "validation accuracy after each epoch, %", "test accuracy, %"]],
        "predict": [["by", "rows", "different", "unreadable", "pictures a second"]],
    }
    found["train"][0] += ["seconds of the command"]
    found["predict"][0] += ["seconds of the command", "memory of all processes, MB"]
    for lines in found.values():
        lines.append(["---"] * len(lines[0]))
    for row in rows:
        line = [row["how"]]
        if row["what"] == "train":
            line += [", ".join(f"{100 * float(x):.2f}" for x in row["val_accuracy"].split())]
            line += [f"{100 * float(row['test_accuracy']):.2f}", row["seconds"]]
        else:
            line += [f"{int(row[key]):,}" for key in ("rows", "different", "errors")]
            line += [row["a_second"], row["seconds"], f"{int(row['peak_mb']):,}"]
        found[row["what"]].append(line)
    return ["\n".join(f"| {' | '.join(line)} |" for line in lines) for lines in found.values()]


def train(processes: int, run: Path) -> dict[str, object]:
    """Train by so many processes, and read what came out."""
    from fashion_cnn.run import Run

    call = [PROGRAM, "train", "sprint", "--processes", str(processes), "--no-report"]
    began = time.monotonic()
    subprocess.run([*call, "--run", str(run)], check=True, stderr=subprocess.DEVNULL)
    seconds, history = time.monotonic() - began, Run(run).history()
    accuracy = {"test_accuracy": Run(run).metrics()["test_accuracy"]}
    curve = " ".join(f"{x:.4f}" for x in history["val_accuracy"])
    return {"seconds": round(seconds, 1), **accuracy, "val_accuracy": curve}


def draw(folder: Path, count: int, size: tuple[int, int] = (SIDE, SIDE)) -> Path:
    """Photos of the test images' garments on white, as grainy, and so as large, as photos are."""
    import numpy as np
    from PIL import Image

    from fashion_cnn import load_data

    images = load_data().test_images
    for i in range(len(list(folder.glob("*/*.jpg"))), count):
        place = folder / f"{i // 1000:03d}" / f"{i:06d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        garment = np.asarray(Image.fromarray(255 - images[i % len(images)]).resize(size))
        grain = np.random.default_rng(i).standard_normal(garment.shape, np.float32)
        photo = np.clip(garment + GRAIN * grain, 0, 255).astype(np.uint8)
        Image.fromarray(photo).convert("RGB").save(place, quality=80)
    return folder


def predict(
    pictures: Path, count: int, words: tuple[str, ...] = (), half_way=lambda: None, root: int = 0
) -> dict[str, object]:
    """Predict all of them and count the rows; calls `half_way` when half of the parts exist."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "answers"
        call = [PROGRAM, "predict", str(pictures), "--output", str(output), *words]
        began = time.monotonic()
        with subprocess.Popen(call, stderr=subprocess.DEVNULL) as process:
            peak, ended = [0], threading.Event()
            roots = [process.pid, *([root] if root else [])]
            threading.Thread(target=watch, args=(roots, peak, ended), daemon=True).start()
            half = -(-count // 1000)
            while process.poll() is None:
                if half and len(list(output.glob("part-*"))) >= half:
                    half = 0
                    half_way()
                time.sleep(0.2)
            ended.set()
        seconds = time.monotonic() - began
        if process.returncode:
            raise SystemExit(f"{' '.join(call)}: failed")
        paths = pq.read_table(output, columns=["path"])["path"].to_pylist()
        errors = pq.read_table(output, columns=["error"])["error"].drop_null()
    return {
        "seconds": round(seconds, 1),
        "rows": len(paths),
        "different": len(set(paths)),
        "errors": len(errors),
        "a_second": round(len(paths) / seconds, 1),
        "peak_mb": round(peak[0] / 1e6),
    }


def predict_on_two(pictures: Path, count: int) -> dict[str, object]:
    """The same by a cluster, whose second machine ends half-way."""
    os.environ |= CLOSED
    from ray.cluster_utils import Cluster

    size = {"num_cpus": 1, "object_store_memory": 200_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
    other = cluster.add_node(**size)
    try:
        words = ("--cluster", cluster.address)
        return predict(
            pictures,
            count,
            words,
            lambda: cluster.remove_node(other, allow_graceful=False),
            os.getpid(),
        )
    finally:
        cluster.shutdown()


def watch(roots: list[int], peak: list[int], ended: threading.Event) -> None:
    """The most memory (proportional set size) of processes and all below them, in bytes."""
    while not ended.wait(1):
        below = {}
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(status.read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            below.setdefault(parent, []).append(int(status.parent.name))
        todo, found = list(roots), set()
        while todo:
            one = todo.pop()
            if one not in found:
                found.add(one)
                todo += below.get(one, [])
        peak[0] = max(peak[0], sum(map(share, found)))


def share(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(x.split()[1]) for x in lines if x.startswith("Pss:")), 0)


if __name__ == "__main__":
    main()
