"""Claim: on one GPU `gpu-sprint` reaches 94 % in seconds; how much of the GPU's speed it uses.

    KERAS_BACKEND=jax python benchmarks/gpu.py [--minutes 9] [--predictions DIR] [--profile]
        [--recipe NAME ...] [--seeds N]

Trains the recipes of `PLAN`, the most valuable first, on all 60,000 images without validation, and
measures the test images once, at the end. Each seed is a row of `gpu.csv`; finished rows are
skipped, so that several machines and days can add rows, and no training is started that would not
end within `--minutes`. The table comes last. With `--runs DIR` each training has a run folder there
and may take longer: the same command resumes it after its last epoch. `--predictions` writes the
probabilities for the test and the training images (float16) of each training of `record`, for
teachers, and prints the test accuracy of the mean of all in the folder (`record-ensemble`).
`--profile` prints which operations the time of an epoch is spent in, and trains nothing else.
On a CPU (`--images 500`) it only shows that it runs.
Seeds: those of `PLAN`. Machine: one GPU. Duration: at most `--minutes`, 9 by default.
"""

import argparse
import functools
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import _results as results
import numpy as np

ROWS = Path(__file__).with_suffix(".csv")
TRAINING_COST = 3  # the arithmetic of a training step, relative to a forward pass
PROFILE_LINES = 15
EVALUATION_SECONDS = 10  # at most, after a training
REPEATS = 20  # of which the fastest counts
PLAN = {"gpu-sprint": 50, "record": 3, "gpu-standard": 10}  # recipe -> seeds
FIRST_MINUTES = {"record": 5.0}  # how long a training may take that has no row yet. Default: 1
OUT_OF_TIME = "out of time; run the same command again to continue"


def load_images(count: int):
    """Load the first training images and all test images."""
    from fashion_cnn import load_data
    from fashion_cnn.data import as_data

    data = load_data()
    images, labels = data.train_images[:count], data.train_labels[:count]
    return as_data(((images, labels), (data.test_images, data.test_labels)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", nargs="+", default=list(PLAN))
    parser.add_argument("--seeds", type=int, help="Default: those of PLAN")
    parser.add_argument("--images", type=int, default=60_000, help="Default: all 60,000")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--rows", type=Path, default=ROWS, help="CSV file of the rows")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="run folders. Default: none")
    parser.add_argument("--predictions", type=Path, metavar="DIR", help="of record. Default: none")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    data = load_images(arguments.images)
    if arguments.profile:
        for name in arguments.recipe:
            print(f"\n{name}\n{profile(name, data)}")
        return
    end = time.monotonic() + 60 * arguments.minutes
    device, *rates = measure_device()
    software = describe_software()
    for name in arguments.recipe:
        for seed in range(arguments.seeds or PLAN.get(name, 5)):
            key = {"device": device, "recipe": name, "images": arguments.images, "seed": seed}
            path = arguments.predictions and arguments.predictions / f"{name}-{seed}.npz"
            is_kept = name != "record" or not path or path.exists()
            if is_kept and results.is_finished(arguments.rows, **key):
                continue
            rows = results.read_rows(arguments.rows)
            seconds = expected_seconds(name, results.select(rows, device=device))
            if not arguments.runs and time.monotonic() + seconds > end:
                print(f"{name}: {OUT_OF_TIME}")
                break
            trained, overhead = train(name, seed, data, arguments.runs, end)
            if not is_kept:
                write_predictions(path, trained.model, data)
            row = key | measure(name, data, trained, overhead, *rates) | software
            if not results.is_finished(arguments.rows, **key):
                results.append_row(arguments.rows, row)
    print(table(results.read_rows(arguments.rows)))
    if arguments.predictions:
        print(measure_ensemble(arguments.predictions, data.test_labels))


def expected_seconds(name: str, rows: list[results.Row]) -> float:
    """Return how long a training of a recipe took at most, or may take if there is none."""
    timed = [row for row in results.select(rows, recipe=name) if row["seconds"]]
    seconds = [float(row["seconds"]) + float(row["overhead_seconds"]) for row in timed]
    return max(seconds, default=60 * FIRST_MINUTES.get(name, 1.0)) + EVALUATION_SECONDS


def write_predictions(path: Path, model, data) -> None:
    """Write the probabilities for the test and the training images, float16 (n, classes)."""
    from fashion_cnn.evaluation import predict

    path.parent.mkdir(parents=True, exist_ok=True)
    images = {"test": data.test_images, "train": data.train_images}
    arrays = {key: predict(model, x).astype(np.float16) for key, x in images.items()}
    np.savez(path, **arrays)


def measure_ensemble(folder: Path, labels: np.ndarray) -> str:
    """Return the test accuracy of the mean of the probabilities that were written."""
    files = sorted(folder.glob("record-*.npz"))
    if not files:
        return f"record-ensemble: no predictions of record in {folder}"
    mean = np.mean([np.load(file)["test"].astype(np.float32) for file in files], 0)
    accuracy = 100 * np.mean(mean.argmax(1) == labels)
    return f"record-ensemble: {accuracy:.2f} % on the test images, n = {len(files)} networks"


def describe_software() -> dict[str, str]:
    """Return columns with the versions of Python, Keras, JAX and the GPU's driver."""
    versions = str(results.machine_columns(("keras", "jax"))["versions"])
    program = shutil.which("nvidia-smi")
    if not program:
        return {"versions": versions, "driver": ""}
    call = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    output = subprocess.run(call, capture_output=True, text=True).stdout
    return {"versions": versions, "driver": output.splitlines()[0] if output else ""}


def measure_device() -> tuple[str, float, float]:
    """Return the device's name, FLOP/s of a bfloat16 matrix product, and bytes/s of a copy.

    Both are those of the fastest of several calls on large arrays.
    """
    import jax

    on_gpu = jax.default_backend() != "cpu"
    size, nbytes = (8192, 4 << 30) if on_gpu else (512, 4 << 20)
    matrix = jax.random.normal(jax.random.key(0), (size, size), "bfloat16")
    array = jax.numpy.zeros(nbytes // 4, "uint32")
    product, copy = jax.jit(lambda x: x @ x), jax.jit(lambda x: x ^ 1)
    product_seconds, copy_seconds = (
        min(
            results.time_call(lambda: function(x).block_until_ready())  # noqa: B023 (called now)
            for _ in range(REPEATS)
        )
        for function, x in ((product, matrix), (copy, array))
    )
    flops, bandwidth = 2 * size**3 / product_seconds, 2 * nbytes / copy_seconds
    device = jax.devices()[0].device_kind
    print(f"{device}: {flops / 1e12:.1f} TFLOP/s in bfloat16, {bandwidth / 1e9:.0f} GB/s in memory")
    return device, flops, bandwidth


def train(name: str, seed: int, data, runs: Path | None, end: float) -> tuple[object, float]:
    """Train; also return the seconds outside the epochs: building, compiling, saving."""
    from fashion_cnn.recipes import find_recipe
    from fashion_cnn.run import Run

    recipe = replace(find_recipe(name), validation="none", seed=seed)
    run = Run(runs / f"{name}-{len(data.train_labels)}-{seed}") if runs else None
    earlier_seconds = run.train_seconds() if run else 0
    start = time.perf_counter()
    trained = train_until(recipe, data, run, end)
    return trained, time.perf_counter() - start - (trained.seconds - earlier_seconds)


def train_until(recipe, data, run, end: float):
    """Train. With a run folder, stop after the epoch in which the time is over."""
    from fashion_cnn import train
    from fashion_cnn.keras_setup import keras

    def stop(epoch: int, logs) -> None:
        if run and time.monotonic() > end:
            raise SystemExit(OUT_OF_TIME)

    callback = keras.callbacks.LambdaCallback(on_epoch_end=stop)
    resume = bool(run) and run.is_started
    return train(recipe, data, run, callbacks=[callback], resume=resume)


def measure(
    name: str, data, trained, overhead: float, peak_flops: float, bandwidth: float
) -> dict[str, object]:
    """Return the figures of a training as columns of a row."""
    from inference import count_flops

    from fashion_cnn import evaluate
    from fashion_cnn.models import build_model
    from fashion_cnn.recipes import find_recipe
    from fashion_cnn.training.batches import epoch_images

    recipe = find_recipe(name)
    epochs = range(recipe.epochs)
    images = sum(epoch_images(recipe, epoch, len(data.train_labels)) for epoch in epochs)
    rate = images / trained.seconds
    flops = TRAINING_COST * count_flops(build_model(recipe.model, options=recipe.options))
    accuracy = evaluate(trained.model, data.test_images, data.test_labels)["accuracy"]
    return {
        "test_accuracy": round(accuracy, 4),
        "seconds": round(trained.seconds, 3),
        "overhead_seconds": round(overhead, 2),
        "images_per_second": round(rate),
        "matmul_utilization": round(rate * flops / peak_flops, 4),
        "bandwidth_utilization": round(rate * bytes_per_image(name) / bandwidth, 4),
    }


@functools.cache  # compiles a step
def bytes_per_image(name: str) -> float:
    """Return the bytes that the kernels of XLA's training step read and write for an image."""
    import jax

    from fashion_cnn.models import build_model
    from fashion_cnn.recipes import find_recipe
    from fashion_cnn.training.jax import get_state, make_step
    from fashion_cnn.training.normalization import training_copy
    from fashion_cnn.training.phases import available_precision, compile_model

    recipe = find_recipe(name)
    network = build_model(recipe.model, options=recipe.options)
    network = training_copy(network, available_precision(recipe))
    model, size = compile_model(network, recipe, recipe.learning_rate, 1), recipe.batch_size
    model.optimizer.build(model.trainable_variables)
    batch = np.zeros((size, 28, 28, 1), np.uint8), np.zeros(size, np.int32)
    program = jax.jit(make_step(model, None)).lower(get_state(model), batch).compile()
    return program.cost_analysis()["bytes accessed"] / size


def profile(name: str, data) -> str:
    """Return a table of the operations in which the time of the second epoch is spent."""
    import jax

    from fashion_cnn import train
    from fashion_cnn.keras_setup import keras
    from fashion_cnn.recipes import find_recipe

    with tempfile.TemporaryDirectory() as folder:

        def start_trace(epoch: int, logs) -> None:
            if epoch == 1:
                options = jax.profiler.ProfileOptions()
                options.python_tracer_level = 0
                jax.profiler.start_trace(folder, profiler_options=options)

        callback = keras.callbacks.LambdaCallback(
            on_epoch_begin=start_trace, on_train_end=lambda logs: jax.profiler.stop_trace()
        )
        recipe = replace(find_recipe(name), epochs=2, validation="none")
        train(recipe, data, callbacks=[callback])
        (file,) = Path(folder).glob("**/*.xplane.pb")
        planes = list(jax.profiler.ProfileData.from_file(str(file)).planes)
    device_lines = [line for plane in planes if "/device:" in plane.name for line in plane.lines]
    streams = [line for line in device_lines if line.name.startswith("Stream")]  # others are sums
    times: Counter[str] = Counter()
    for line in streams or [line for plane in planes for line in plane.lines]:
        for event in line.events:
            times[re.sub(r"[._]?\d+", "", event.name)] += event.duration_ns
    lines = [
        [operation[:60], f"{duration / 1e6:.1f}", f"{100 * duration / times.total():.1f}"]
        for operation, duration in times.most_common(PROFILE_LINES)
    ]
    return results.markdown_table(["operation", "ms", "share, %"], lines)


def table(rows: list[results.Row]) -> str:
    """Return a line for each recipe: mean ± sd of the accuracies, medians of the rest."""
    header = ["device", "recipe", "images", "test accuracy, %", "seconds", "overhead, s"]
    header += ["images per second", "of the matmul rate, %", "of the memory bandwidth, %", "n"]
    groups: dict[tuple[str, ...], list[results.Row]] = {}
    for row in rows:
        groups.setdefault((row["device"], row["recipe"], row["images"]), []).append(row)
    formats = {  # column -> scale and format
        "seconds": (1, ".2f"),
        "overhead_seconds": (1, ".1f"),
        "images_per_second": (1, ",.0f"),
        "matmul_utilization": (100, ".1f"),
        "bandwidth_utilization": (100, ".1f"),
    }
    lines = []
    for key, group in groups.items():
        line = [*key, results.mean_sd(group, "test_accuracy", 100)]
        for column, (scale, style) in formats.items():
            values = [scale * float(row[column]) for row in group if row[column]]
            line.append(format(statistics.median(values), style) if values else "")
        lines.append([*line, str(len(group))])
    return results.markdown_table(header, lines)


if __name__ == "__main__":
    main()
