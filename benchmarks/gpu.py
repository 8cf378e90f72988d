"""Recipes on one GPU: accuracy, seconds after compilation, and how near the chip's best they come.

    KERAS_BACKEND=jax python benchmarks/gpu.py [--recipe sprint ...] [--seeds 5] [--side-by-side K]

Trains on all 60,000 images without looking at any others, and meets the test images once, at the
end. A row a seed into `gpu.csv`; finished ones are skipped, and none is begun that would not end
within `--minutes`. It runs on processors, too (`--images 500`), where it shows nothing but that.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from _rows import finished_rows, keep

ROWS = Path(__file__).with_suffix(".csv")
BACKWARD = 3  # a training step is three times the arithmetic of an answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", nargs="+", default=["sprint", "quick", "standard"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--side-by-side", type=int, default=1, metavar="K", help="seeds at a time")
    parser.add_argument("--images", type=int, help="train on so many; all without")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--rows", type=Path, default=ROWS, help="the file for the rows")
    arguments = parser.parse_args()
    end, longest = time.monotonic() + 60 * arguments.minutes, 0.0
    device, ceiling = measure_device()
    k, count = arguments.side_by_side, arguments.images or 60_000
    for name in arguments.recipe:
        for first in range(0, arguments.seeds, k):
            seeds = range(first, min(first + k, arguments.seeds))
            about = {"device": device, "recipe": name, "images": count, "side_by_side": k}
            done = {
                tuple(row[x] for x in (*about, "seed")) for row in finished_rows(arguments.rows)
            }
            if all((*map(str, about.values()), str(seed)) in done for seed in seeds):
                continue
            began = time.monotonic()
            if began + longest > end:
                raise SystemExit("out of time; the same command goes on")
            for row in train(name, seeds, count, k, ceiling):
                keep(arguments.rows, about | row)
            longest = max(longest, time.monotonic() - began)
    print(table(finished_rows(arguments.rows)))


def measure_device() -> tuple[str, float]:
    """The device's name, and the operations a second of its best matrix product in bfloat16."""
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
    return device, rate


def seconds_of(call: Callable[[], object]) -> float:
    call()
    times = []
    for _ in range(9):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def train(
    name: str, seeds: range, count: int, side_by_side: int, ceiling: float
) -> list[dict[str, object]]:
    """Train with each seed; what each came to."""
    from frontier import flops

    from fashion_cnn import evaluate, load_data
    from fashion_cnn import train as train_one
    from fashion_cnn.data import as_data
    from fashion_cnn.models import build_model
    from fashion_cnn.recipes import find_recipe
    from fashion_cnn.training.many import train_side_by_side

    all_data = load_data()
    images, labels = all_data.train_images[:count], all_data.train_labels[:count]
    data = as_data(((images, labels), (all_data.test_images, all_data.test_labels)))
    recipe = replace(find_recipe(name), validation="none")
    began = time.perf_counter()
    if side_by_side > 1:
        found = train_side_by_side(recipe, data, seeds)
    else:
        found = [train_one(replace(recipe, seed=seed), data) for seed in seeds]
    whole, seconds, rows = time.perf_counter() - began, found[0].seconds, []
    rate = len(found) * recipe.epochs * count / seconds
    operations = BACKWARD * flops(build_model(recipe.model, options=recipe.options))
    for seed, trained in zip(seeds, found, strict=True):
        measured = evaluate(trained.model, data.test_images, data.test_labels)
        rows.append({"seed": seed, "test_accuracy": round(measured["accuracy"], 4)})
        rows[-1] |= {"seconds": seconds, "beside": round(whole - seconds, 2)}
        rows[-1] |= {"images_a_second": round(rate)}
        rows[-1] |= {"of_the_matrix_rate": round(rate * operations / ceiling, 4)}
    return rows


def table(rows: list[dict[str, str]]) -> str:
    """One line a recipe and way: mean and standard deviation over seeds."""
    heads = ["device", "recipe", "images", "at a time", "test accuracy, %", "seconds", "beside"]
    heads += ["images a second", "of the matrix rate, %", "n"]
    lines, groups = [heads, ["---"] * len(heads)], {}
    for row in rows:
        key = tuple(row[x] for x in ("device", "recipe", "images", "side_by_side"))
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
        lines.append([*line, f"{100 * middle['of_the_matrix_rate']:.1f}", str(len(group))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
