"""Recipes on one GPU: accuracy, seconds after compilation, and how near the chip's best they come.

    KERAS_BACKEND=jax python benchmarks/gpu.py [--recipe gpu-sprint ...] [--seeds 5] [--profile]

Trains on all 60,000 images without looking at any others, and meets the test images once, at the
end. A row a seed into `gpu.csv`; finished ones are skipped, and none is begun that would not end
within `--minutes`. With `--runs DIR` each has a run folder there, and may take longer: the same
command goes on with it after its last epoch. It runs on processors, too (`--images 500`), where it
shows nothing but that. `--profile` shows instead which operations an epoch's time goes into.
"""

import argparse
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from _rows import finished_rows, keep

ROWS = Path(__file__).with_suffix(".csv")
BACKWARD = 3  # a training step is three times the arithmetic of an answer
OPERATIONS = 15  # lines of a profile
OUT_OF_TIME = "out of time; the same command goes on"


def recipe_of(name: str):
    """A recipe, or what may become one: nobody has seen these on a GPU yet."""
    from fashion_cnn.recipes import RECIPES, find_recipe

    standard, thorough = RECIPES["standard"], RECIPES["thorough"]
    deep = {"width": 192, "repeats": 3, "drop_path": 0.2}
    erased = ("flip", "shift", "erase", "erase")
    candidates = {
        "gpu-sprint": replace(standard, batch_size=512, learning_rate=0.8),
        "gpu-standard": replace(thorough, batch_size=512, learning_rate=0.8),
        "record": replace(thorough, epochs=200, batch_size=256, options=deep, augment=erased),
    }
    return candidates[name] if name in candidates else find_recipe(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", nargs="+", default=["gpu-sprint"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, help="train on so many; all without")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--rows", type=Path, default=ROWS, help="the file for the rows")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="for run folders; none without")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    count = arguments.images or 60_000
    data = some(count)
    if arguments.profile:
        for name in arguments.recipe:
            print(f"\n{name}\n{profile(name, data)}")
        return
    end, longest = time.monotonic() + 60 * arguments.minutes, 0.0
    device, *rates = measure_device()
    for name in arguments.recipe:
        for seed in range(arguments.seeds):
            key = {"device": device, "recipe": name, "images": count, "seed": seed}
            done = [[row[x] for x in key] for row in finished_rows(arguments.rows)]
            if list(map(str, key.values())) in done:
                continue
            began = time.monotonic()
            if not arguments.runs and began + longest > end:
                raise SystemExit(OUT_OF_TIME)
            trained, beside = train(name, seed, data, arguments.runs, end)
            keep(arguments.rows, key | measure(name, data, trained, beside, *rates))
            longest = max(longest, time.monotonic() - began)
    print(table(finished_rows(arguments.rows)))


def measure_device() -> tuple[str, float, float]:
    """The device's name, operations a second of a bfloat16 matrix product, bytes a second."""
    import jax

    size = 8192 if jax.default_backend() != "cpu" else 512
    a = jax.random.normal(jax.random.key(0), (size, size), "bfloat16")
    product = jax.jit(lambda x: x @ x)
    seconds = seconds_of(lambda: product(a).block_until_ready())
    megabytes = jax.random.bits(jax.random.key(1), (size * size * 4,), "uint8")
    copied = jax.jit(lambda x: x ^ 1)
    moved = 2 * megabytes.nbytes / seconds_of(lambda: copied(megabytes).block_until_ready())
    device, rate = jax.devices()[0].device_kind, 2 * size**3 / seconds
    print(f"{device}: {rate / 1e12:.1f} TFLOP/s in bfloat16, {moved / 1e9:.0f} GB/s in memory")
    return device, rate, moved


def seconds_of(call: Callable[[], object]) -> float:
    call()
    times = []
    for _ in range(9):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def train(name: str, seed: int, data, runs: Path | None, end: float) -> tuple[object, float]:
    """Train with a seed; and how long all but the epochs took: building, compiling, saving."""
    from fashion_cnn.run import Run

    recipe = replace(recipe_of(name), validation="none", seed=seed)
    run = runs / f"{name}-{len(data.train_labels)}-{seed}" if runs else None
    before = sum(Run(run).history()["seconds"]) if run and (run / "history.csv").exists() else 0
    began = time.perf_counter()
    trained = train_until(recipe, data, run, end)
    return trained, time.perf_counter() - began - (trained.seconds - before)


def train_until(recipe, data, run: Path | None, end: float):
    """Train, in a run folder if there is to be one; out of time, it ends after an epoch."""
    from fashion_cnn import train as train_one
    from fashion_cnn.keras_setup import keras

    def stop(epoch: int, logs) -> None:
        if run and time.monotonic() > end:
            raise SystemExit(OUT_OF_TIME)

    heard = keras.callbacks.LambdaCallback(on_epoch_end=stop)
    begun = bool(run) and (run / "recipe.json").exists()
    return train_one(recipe, data, run, callbacks=[heard], resume=begun)


def measure(
    name: str, data, trained, beside: float, ceiling: float, bandwidth: float
) -> dict[str, object]:
    """What a training came to."""
    from frontier import flops

    from fashion_cnn import evaluate
    from fashion_cnn.models import build_model

    recipe = recipe_of(name)
    rate = recipe.epochs * len(data.train_labels) / trained.seconds
    operations = BACKWARD * flops(build_model(recipe.model, options=recipe.options))
    accuracy = evaluate(trained.model, data.test_images, data.test_labels)["accuracy"]
    return {
        "test_accuracy": round(accuracy, 4),
        "seconds": round(trained.seconds, 3),
        "beside": round(beside, 2),
        "images_a_second": round(rate),
        "of_the_matrix_rate": round(rate * operations / ceiling, 4),
        "of_the_memory_rate": round(rate * bytes_an_image(recipe) / bandwidth, 4),
    }


def some(count: int):
    """The first training images, and all test images."""
    from fashion_cnn import load_data
    from fashion_cnn.data import as_data

    data = load_data()
    images, labels = data.train_images[:count], data.train_labels[:count]
    return as_data(((images, labels), (data.test_images, data.test_labels)))


def bytes_an_image(recipe) -> float:
    """What XLA counts of a training step: read and written by all its kernels, an image."""
    import jax

    from fashion_cnn.models import build_model
    from fashion_cnn.training.jax import get_state, make_step
    from fashion_cnn.training.normalization import training_copy
    from fashion_cnn.training.phases import available_precision, compile_model

    network = training_copy(
        build_model(recipe.model, options=recipe.options), available_precision(recipe)
    )
    model, size = compile_model(network, recipe, recipe.learning_rate, 1), recipe.batch_size
    model.optimizer.build(model.trainable_variables)
    batch = np.zeros((size, 28, 28, 1), np.uint8), np.zeros(size, np.int32)
    program = jax.jit(make_step(model, None)).lower(get_state(model), batch).compile()
    return program.cost_analysis()["bytes accessed"] / size


def profile(name: str, data) -> str:
    """A table of the operations that an epoch's time goes into, the second epoch's."""
    import jax

    from fashion_cnn import train as train_one
    from fashion_cnn.keras_setup import keras

    times: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:

        def begin(epoch: int, logs) -> None:
            if epoch == 1:
                options = jax.profiler.ProfileOptions()
                options.python_tracer_level = 0
                jax.profiler.start_trace(folder, profiler_options=options)

        heard = keras.callbacks.LambdaCallback(
            on_epoch_begin=begin, on_train_end=lambda logs: jax.profiler.stop_trace()
        )
        recipe = replace(recipe_of(name), epochs=2, validation="none")
        train_one(recipe, data, callbacks=[heard])
        (file,) = Path(folder).glob("**/*.xplane.pb")
        planes = list(jax.profiler.ProfileData.from_file(str(file)).planes)
    on_device = [line for plane in planes if "/device:" in plane.name for line in plane.lines]
    streams = [line for line in on_device if line.name.startswith("Stream")]  # others sum these up
    for line in streams or [line for plane in planes for line in plane.lines]:
        for event in line.events:
            times[re.sub(r"[._]?\d+", "", event.name)] += event.duration_ns
    lines = ["| operation | ms | share, % |", "| --- | --- | --- |"]
    for operation, spent in times.most_common(OPERATIONS):
        share = 100 * spent / times.total()
        lines.append(f"| {operation[:60]} | {spent / 1e6:.1f} | {share:.1f} |")
    return "\n".join(lines)


def table(rows: list[dict[str, str]]) -> str:
    """One line a recipe: mean and standard deviation over seeds."""
    heads = ["device", "recipe", "images", "test accuracy, %", "seconds", "beside"]
    heads += ["images a second", "of the matrix rate, %", "of the memory rate, %", "n"]
    lines, groups = [heads, ["---"] * len(heads)], {}
    for row in rows:
        key = tuple(row[x] for x in ("device", "recipe", "images"))
        groups.setdefault(key, []).append(row)
    for key, group in groups.items():
        of = {
            x: [float(row[x]) for row in group] for x in group[0] if x not in ("device", "recipe")
        }
        accuracy = 100 * np.array(of["test_accuracy"])
        spread = f" ± {accuracy.std(ddof=1):.2f}" if len(group) > 1 else ""
        middle = {x: statistics.median(values) for x, values in of.items()}
        line = [*key, f"{accuracy.mean():.2f}{spread}", f"{middle['seconds']:.2f}"]
        line += [f"{middle['beside']:.1f}", f"{middle['images_a_second']:,.0f}"]
        line += [f"{100 * middle[f'of_the_{x}_rate']:.1f}" for x in ("matrix", "memory")]
        lines.append([*line, str(len(group))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
