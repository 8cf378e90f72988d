"""Claim: one head node can direct the prediction of a billion images a day, 12 times over.

    python benchmarks/head.py [--only core|predict] [--cores 32 128]

First measures what one core does: images per second of three sizes, by `photo`. Then runs `predict
--output` on a Ray cluster whose cores only wait for as long as a core works, and return predictions
made before: Ray, the plan and the files are real. Larger clusters are simulated from the measured
times. Each figure is a row of `head.csv`; finished settings are skipped. Prints the first three
tables of docs/scale-limits.md.
Seeds: one run. Machine: 2 CPU cores. Duration: 15 minutes.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import _results as results
from _simulation import simulate
from scale import RAY_ENVIRONMENT, generate_photos

ROWS = Path(__file__).with_suffix(".csv")
SIZES = {(96, 96): 500, (400, 533): 200, (4000, 3000): 20}  # and the number of images
PART = 500  # images
PARTS_PER_CORE = 48
SIMULATED_CORES = (1000, 4000, 16_000)
BILLION_A_DAY = 1e9 / 86_400  # images per second
USD_PER_CORE_HOUR = 0.0425
MACHINE_CORES = 96


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("core", "predict"))
    parser.add_argument("--cores", type=int, nargs="+", default=[32, 128], metavar="N")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"

    def measure(measurement: str, setting: str, call: Callable[[], dict[str, object]]) -> None:
        if arguments.only in (None, measurement):
            measure_once(ROWS, measurement, setting, call)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in SIZES:
            measure("core", "{}x{}".format(*size), lambda size=size: measure_core(folder, size))
        measure("predict", "no work", lambda: run_cluster(folder, 4, 0.0))
        for cores in arguments.cores:
            setting = f"{cores} cores"
            measure("predict", setting, lambda n=cores: run_cluster(folder, n, seconds_per_part()))
        for cores in SIMULATED_CORES:
            measure("predict", f"{cores} cores, simulated", lambda n=cores: simulate_cluster(n))
    print("\n\n".join(tables(results.read_rows(ROWS))))


def measure_once(
    path: Path, measurement: str, setting: str, call: Callable[[], dict[str, object]]
) -> None:
    """Append a row for each metric that a call returns, unless the setting has rows already."""
    key = {"measurement": measurement, "setting": setting}
    if not results.is_finished(path, **key):
        for metric, value in call().items():
            results.append_row(path, {**key, "metric": metric, "value": value})


def read_value(path: Path, measurement: str, setting: str, metric: str) -> float:
    """Return a figure that was measured before."""
    key = {"measurement": measurement, "setting": setting, "metric": metric}
    rows = results.select(results.read_rows(path), **key)
    if not rows:
        raise SystemExit(f"{path}: got no {metric} of {measurement}, {setting}; measure it first")
    return float(rows[0]["value"])


def seconds_per_part() -> float:
    return PART / read_value(ROWS, "core", "96x96", "images_per_second")


def make_part(folder: Path, size: tuple[int, int], count: int) -> list[dict[str, object]]:
    """Generate photos and return them as a part of a plan."""
    paths = sorted(generate_photos(folder, count, size).glob("*/*.jpg"))
    return [{"name": str(path), "kind": "file", "row_group": 0} for path in paths]


def measure_core(folder: Path, size: tuple[int, int]) -> dict[str, object]:
    """Measure one core on files that are in memory already; the median of five times."""
    from fashion_cnn.inference.batch import predict_part
    from fashion_cnn.inference.classifier import Classifier

    part = make_part(folder / "{}x{}".format(*size), size, SIZES[size])
    content = Classifier.load("photo").content
    predict_part(part[:10], content)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        predictions = predict_part(part, content)
        seconds.append(time.process_time() - start)
    file_bytes = sum(Path(str(item["name"])).stat().st_size for item in part)
    return {
        "images_per_second": round(len(part) / statistics.median(seconds), 1),
        "bytes_per_image": file_bytes // len(part),
        "bytes_per_prediction": len(predictions) // len(part),
    }


@contextmanager
def waiting_cluster(cores: int, seconds: float, predictions: bytes) -> Iterator[str]:
    """Start a Ray cluster whose cores wait, then return these predictions; yield its address."""
    os.environ |= RAY_ENVIRONMENT
    from ray.cluster_utils import Cluster

    from fashion_cnn.inference import batch

    def wait(part: list[dict[str, object]], content: bytes) -> bytes:
        time.sleep(seconds)
        return predictions

    size = {"num_cpus": cores, "object_store_memory": 500_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=size)
    original, batch.predict_part = batch.predict_part, wait
    try:
        yield cluster.address
    finally:
        batch.predict_part = original
        cluster.shutdown()


def run_cluster(folder: Path, cores: int, seconds: float) -> dict[str, object]:
    """Predict parts on a cluster whose cores wait for `seconds` a part, and measure the head."""
    from fashion_cnn.inference import batch
    from fashion_cnn.inference.classifier import Classifier

    classifier = Classifier.load("photo")
    part = make_part(folder / "part", (96, 96), PART)
    predictions = batch.predict_part(part, classifier.content)
    parts = PARTS_PER_CORE * cores if seconds else 2000
    output, inputs = folder / f"{cores} cores", [str(folder / "part")] * parts
    times, cpu_times = [], []
    with waiting_cluster(cores, seconds, predictions) as address:
        start = time.monotonic()
        with batch.open_batch(inputs, classifier, output) as (missing, _):
            plan_seconds = time.monotonic() - start
            for _ in batch.predict_parts(missing, classifier, output, address):
                times.append(time.monotonic())
                cpu_times.append(time.process_time())
        start = time.monotonic()
        batch.count_pictures(output, parts)
        count_seconds = time.monotonic() - start
    # between them all processes have started (128 take 140 s on two cores) and none has ended
    first, last = len(times) * 3 // 4, len(times) - cores
    elapsed, cpu_seconds = times[last] - times[first], cpu_times[last] - cpu_times[first]
    rate = PART * (last - first) / elapsed
    result = {
        "images_per_second": round(rate),
        "head_cpu_utilization": round(cpu_seconds / elapsed, 3),
        "head_ms_per_part": round(1e3 * cpu_seconds / (last - first), 2),
        "plan_ms_per_part": round(1e3 * plan_seconds / parts, 2),
        "count_ms_per_part": round(1e3 * count_seconds / parts, 2),
    }
    if seconds:
        result |= simulate_cluster(cores)
        result["utilization"] = round(rate / (cores * PART / seconds), 3)
    return result


def simulate_cluster(cores: int) -> dict[str, object]:
    """Simulate a cluster whose head is as fast as it was measured to be without work."""
    seconds, parts = seconds_per_part(), PARTS_PER_CORE * cores
    head_seconds = PART / read_value(ROWS, "predict", "no work", "images_per_second")
    rate = PART * parts / simulate(cores, [[("head", head_seconds), ("", seconds)]] * parts)
    return {
        "simulated_images_per_second": round(rate),
        "simulated_utilization": round(rate * seconds / cores / PART, 3),
    }


def tables(rows: list[results.Row]) -> list[str]:
    """Return the tables of docs/scale-limits.md about prediction."""
    core_columns = {
        "images_per_second": "photos per second on one core",
        "bytes_per_image": "bytes per photo",
        "bytes_per_prediction": "bytes per prediction",
    }
    cluster_columns = {
        "images_per_second": "photos per second, measured",
        "utilization": "utilization of the cores, measured",
        "simulated_images_per_second": "photos per second, simulated",
        "simulated_utilization": "utilization, simulated",
    }
    core = results.select(rows, measurement="core")
    clusters = [x for x in results.select(rows, measurement="predict") if x["setting"] != "no work"]
    # such as `1000 cores, simulated`: the columns tell what is simulated
    clusters = [row | {"setting": with_commas(row["setting"].split()[0])} for row in clusters]
    return [
        metric_table(core, "photo, pixels", core_columns),
        billion_table(core),
        metric_table(clusters, "cores", cluster_columns),
    ]


def metric_table(rows: list[results.Row], setting: str, columns: dict[str, str]) -> str:
    """Return a table with a line for each setting; `columns` maps metrics to headings."""
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        lines.setdefault(row["setting"], {})[row["metric"]] = with_commas(row["value"])
    cells = ([name, *(values.get(x, "") for x in columns)] for name, values in lines.items())
    return results.markdown_table([setting, *columns.values()], cells)


def billion_table(rows: list[results.Row]) -> str:
    """Return what a billion images a day need, by the size of the images."""
    sizes = list(dict.fromkeys(row["setting"] for row in rows))
    amounts = []
    for size in sizes:
        values = results.numbers(results.select(rows, setting=size), "value")
        rate, image_bytes, prediction_bytes = values
        cores = BILLION_A_DAY / rate
        mbit, machine_mbit = (8e-6 * x * image_bytes for x in (BILLION_A_DAY, MACHINE_CORES * rate))
        amounts.append(
            [cores, 24 * USD_PER_CORE_HOUR * cores, mbit, machine_mbit, prediction_bytes]
        )
    labels = ["cores, all busy", "USD per day for these cores", "Mbit/s read by all machines"]
    labels += [f"Mbit/s read by a machine of {MACHINE_CORES} cores", "GB of predictions per day"]
    lines = zip(labels, *([f"{x:,.0f}" for x in column] for column in amounts), strict=True)
    return results.markdown_table(["photo, pixels", *sizes], lines)


def with_commas(value: str) -> str:
    return f"{int(value):,}" if value.isdecimal() else value


if __name__ == "__main__":
    main()
