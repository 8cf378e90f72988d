"""Claim: with OpenVINO, `predict --output` classifies photos at 1.5 times the rate or more.

    python benchmarks/bulk.py --photos DIR [--before PYTHON] [--rounds 3]

Resizes photos of DIR/train/<class> to 3,000 of 400x533 and 1,000 of 1200x1600 pixels, and
classifies each size with `predict --output`, the preset `clothes` and all cores: as it is chosen by
itself, in float32, and, with PYTHON of an environment that has another version of the package, by
that version, in turns. Also measures the stages of the work in one process with one thread, on the
first 100 photos of each size. Each round is rows of `bulk.csv` under the name of the processor;
finished rows are skipped. Prints the table of docs/results.md.
Seeds: none. Machine: 2 CPU cores. Duration: 7 minutes, 10 with `--before`.
"""

import argparse
import inspect
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import _results as results

ROWS = Path(__file__).with_suffix(".csv")
SIZES = {"400x533": 3000, "1200x1600": 1000}  # pixels -> photos
STAGED = 100
STAGES = ("read", "prepare", "network")
BEFORE, FLOAT32, NOW = "before", "float32", "by itself"
PACKAGES = ("onnxruntime", "openvino", "pillow")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="a folder with train/<class>/<photo>")
    parser.add_argument("--before", metavar="PYTHON", help="of another version. Default: none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stages", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="auto", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stages:
        print(json.dumps(measure_stages(arguments.stages, arguments.precision)))
        return
    if not arguments.photos:
        sys.exit("--photos: expected a folder")
    pythons = {FLOAT32: sys.executable, NOW: sys.executable}
    if arguments.before:
        pythons = {BEFORE: arguments.before, **pythons}
    processor = results.machine_columns()["processor"]
    keys: list[dict[str, object]] = [
        {"processor": processor, "size": size, "version": version, "round": k}
        for k, size, version in itertools.product(range(arguments.rounds), SIZES, pythons)
    ]
    with tempfile.TemporaryDirectory() as folder:

        def run(processor: str, size: str, version: str, round: int) -> dict[str, object]:
            photos = make_photos(arguments.photos, Path(folder), size)
            return measure(pythons[version], version, photos)

        print(table(results.run_missing(ROWS, keys, run)))


def make_photos(source: Path, folder: Path, size: str) -> Path:
    """Write resized photos into a folder, if they are not there yet."""
    from PIL import Image

    target = folder / size
    if target.exists():
        return target
    target.mkdir()
    paths = sorted((source / "train").glob("*/*.jpg"))
    pixels = tuple(map(int, size.split("x")))
    for k in range(SIZES[size]):
        photo = Image.open(paths[k % len(paths)]).convert("RGB")
        photo.resize(pixels, Image.Resampling.BICUBIC).save(target / f"{k:04d}.jpg", quality=90)
    return target


def measure(python: str, version: str, photos: Path) -> dict[str, object]:
    """Classify a folder by the command, and its first photos stage by stage."""
    precision = ["--precision", "float32"] if version == FLOAT32 else []
    with tempfile.TemporaryDirectory() as output:
        call = [python, "-m", "fashion_cnn", "predict", str(photos), "--output", f"{output}/out"]
        seconds, _ = results.run_command([*call, *precision], os.environ)
    call = [python, __file__, "--stages", str(photos), *precision]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # as in the processes of the command
    done = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    stages = json.loads(done.stdout.splitlines()[-1])
    rate = len(list(photos.iterdir())) / seconds
    row: dict[str, object] = {"seconds": f"{seconds:.2f}", "photos_per_second": f"{rate:.4g}"}
    row |= {f"{name}_ms": f"{stages[name]:.3g}" for name in STAGES}
    return row | {key: stages[key] for key in ("runtime", "versions")}


def measure_stages(photos: Path, precision: str) -> dict[str, object]:
    """Return the ms a photo of each stage, by whatever version of the package this Python has."""
    import numpy as np

    from fashion_cnn import Classifier

    has_runtimes = "bulk" in inspect.signature(Classifier.load).parameters
    settings = {"precision": precision, "bulk": True} if has_runtimes else {}
    classifier = Classifier.load("clothes", threads=1, **settings)
    paths = sorted(photos.iterdir())[:STAGED]
    classifier.predict([paths[0]] * 9)  # compiles the network
    times, result = {}, None
    prepared: list = []
    calls = {
        "read": lambda: [path.read_bytes() for path in paths],
        "prepare": lambda: prepared.extend(map(classifier.prepare, paths)),
        "network": lambda: classifier.outputs(np.stack([x.pixels for x in prepared])),
    }
    for name, call in calls.items():
        start = time.process_time()
        result = call()
        times[name] = 1e3 * (time.process_time() - start) / len(paths)
    if len(result[0]) != len(paths):
        raise SystemExit(f"got {len(result[0])} predictions for {len(paths)} photos")
    runtime = getattr(classifier, "runtime", "ONNX Runtime, float32")
    return times | {"runtime": runtime, "versions": results.machine_columns(PACKAGES)["versions"]}


def table(rows: list[results.Row]) -> str:
    """Return the table of docs/results.md: medians over the rounds, ratios round by round."""
    header = ["processor", "photos", "version", "runtime", "photos per second"]
    header += ["relative to before", "read, ms", "decode and prepare, ms", "network, ms", "n"]
    lines = []
    for keys in dict.fromkeys((row["processor"], row["size"], row["version"]) for row in rows):
        processor, size, version = keys
        runs = results.select(rows, processor=processor, size=size, version=version)
        others = results.select(rows, processor=processor, size=size, version=BEFORE)
        rates = results.ratios(runs, others, "photos_per_second", by="round")
        line = [processor, f"{SIZES[size]:,} of {size}", version, runs[0]["runtime"]]
        line.append(results.median(runs, "photos_per_second", 0))
        line.append(f"{statistics.median(rates):.2f}" if rates else "")
        line += [results.median(runs, f"{name}_ms") for name in STAGES]
        lines.append([*line, len(runs)])
    return results.markdown_table(header, lines)


if __name__ == "__main__":
    main()
