"""What transfer learning is worth: on Fashion-MNIST, and on photos of clothes.

    python benchmarks/transfer.py --weights mobilenet_v1_imagenet.weights.h5 [--photos DIR]

Trains the head of `mobilenet` on Fashion-MNIST, enlarged to 96 pixels; and on the photos the head
alone (`mobilenet --epochs 30`), the whole recipe, and `standard`, which starts from nothing. One
row a finished run into `transfer.csv` (finished rows are skipped), each by a process of its own,
whose seconds and memory count the features, which are not taken from a cache. Prints the README's
table.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _rows import finished_rows, keep
from improvements import mean_sd

ROWS = Path(__file__).with_suffix(".csv")
HEAD = "30"  # epochs of the head alone
WAYS = {
    ("Fashion-MNIST", "mobilenet, head alone"): ["mobilenet", "--epochs", HEAD],
    ("photos", "standard, from nothing"): ["standard"],
    ("photos", "mobilenet, head alone"): ["mobilenet", "--epochs", HEAD],
    ("photos", "mobilenet"): ["mobilenet"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="imagenet", help="imagenet, or a path")
    parser.add_argument("--photos", type=Path, help="class folders")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    done = {(row["data"], row["way"], int(row["seed"])) for row in finished_rows(ROWS)}
    for seed in range(arguments.seeds):
        for (data, way), words in WAYS.items():
            if (data, way, seed) in done or (data == "photos" and not arguments.photos):
                continue
            more = ["--weights", arguments.weights] if words[0] == "mobilenet" else []
            more += ["--data", str(arguments.photos)] if data == "photos" else []
            keep(ROWS, {"data": data, "way": way, **one_run([*words, *more], seed)})
    print(table(finished_rows(ROWS)))


def one_run(words: list[str], seed: int) -> dict[str, object]:
    """Train, in a process with an empty cache, and read what it found."""
    with tempfile.TemporaryDirectory() as folder:
        run, settings = Path(folder) / "run", {**os.environ, "XDG_CACHE_HOME": folder}
        if "--data" not in words:  # do not download it anew
            from fashion_cnn import load_data

            settings["FASHION_CNN_DATA"] = load_data().location
        program = str(Path(sys.executable).with_name("fashion-cnn"))
        call = [program, "train", *words, "--seed", str(seed), "--run", str(run), "--no-report"]
        began = time.perf_counter()
        with subprocess.Popen(call, env=settings, stderr=subprocess.DEVNULL) as process:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(call)}: ended with {process.returncode}")
        metrics = json.loads((run / "metrics.json").read_text())
        keys = ("validation_accuracy", "test_accuracy", "test_macro_f1")
        found = {key: round(metrics[key], 5) for key in keys}
        seconds = round(time.perf_counter() - began, 1)
        return {"seed": seed, **found, "seconds": seconds, "megabytes": used.ru_maxrss // 1024}


def table(rows: list[dict[str, str]]) -> str:
    """The README's table: mean ± sd over the seeds."""
    lines = [
        "| data | recipe | validation accuracy, % | test accuracy, % | macro F1, % | "
        "seconds | MB | n |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for data, way in WAYS:
        of_way = [row for row in rows if (row["data"], row["way"]) == (data, way)]
        if of_way:
            shares = ("validation_accuracy", "test_accuracy", "test_macro_f1")
            figures = [mean_sd([float(r[key]) for r in of_way], 100) for key in shares]
            figures += [f"{sum(float(r['seconds']) for r in of_way) / len(of_way):.0f}"]
            figures += [f"{max(int(r['megabytes']) for r in of_way):,}", str(len(of_way))]
            lines.append(f"| {data} | {way} | {' | '.join(figures)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
