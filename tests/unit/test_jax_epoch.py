"""Epochs as one program, on a processor: what a GPU would run, at a small size."""

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import jax_environment, run_on_jax, write_data_npz
from rounding import ROUNDING

from fashion_cnn.run import Run

pytestmark = pytest.mark.slow

FIT = """
import dataclasses, json
import numpy as np
from dense_network import network
from fashion_cnn import train
from fashion_cnn.data import load_data
from fashion_cnn.keras_setup import keras
from fashion_cnn.recipes import RECIPES
from fashion_cnn.training import batches, jax, loop, phases
from fashion_cnn.training.normalization import training_copy
from fashion_cnn.training.optimizers import make_optimizer
from rounding import relative_difference
data = load_data("data.npz")
recipe = dataclasses.replace(
    RECIPES["sprint"], augment=("flip", "shift", "erase"), label_smoothing=0.1, epochs=3,
    batch_size=29, skip_easy=0.0, validation="none", precision="float32", learning_rate=0.3,
)


loop.build_model = network
made, make = [], jax.compile_epoch
jax.fits_on_device = lambda images: True
jax.compile_epoch = lambda *given: made.append(given) or make(*given)


def fit(recipe, seed):
    # the same epochs by Keras's own loop: the weights at both ends, and the figures of each epoch
    keras.utils.set_random_seed(seed)
    model = training_copy(network())
    start = model.get_weights()
    steps = -(-len(data.train_labels) // recipe.batch_size)
    smoothing = 0.0 if recipe.teacher else recipe.label_smoothing
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)
    model.compile(make_optimizer(recipe, recipe.epochs * steps), loss, metrics=["accuracy"])
    curve, index = [], np.arange(len(data.train_labels))
    targets = loop.training_targets(recipe, data)
    for epoch in range(recipe.epochs):
        plan = batches.epoch_plan(recipe, epoch, index, np.zeros(len(data.train_labels)))
        (_, images, y), = batches.chunks(recipe, data, plan, 10**6, targets=targets)
        y = y if y.ndim == 2 else np.eye(4)[y]
        fitted = model.fit(images, y, batch_size=29, shuffle=False, verbose=0)
        curve.append([fitted.history[key][0] for key in ("loss", "accuracy")])
    return start, model.get_weights(), curve


def both(recipe, run):
    trained = train(recipe, data, run)
    ours = [[row["loss"], row["accuracy"]] for row in trained.history]
    start, end, curve = fit(recipe, recipe.seed)
    return ours, curve, relative_difference(trained.model.get_weights(), end, start)


results = [both(recipe, "run")]
start, end, _ = fit(recipe, recipe.seed)
other_start, other_end, _ = fit(recipe, recipe.seed + 1)
moved = [a + (b - c) for a, b, c in zip(start, other_end, other_start, strict=True)]
other_seed = relative_difference(moved, end, start)
phases.bfloat16_is_fast = lambda: True
half = train(dataclasses.replace(recipe, precision="bfloat16"), data)
assert made[-1][0].layers[2].compute_dtype == "bfloat16"
assert all(weight.dtype == np.float32 for weight in half.model.get_weights())
soft = 0.6 * np.eye(4, dtype="float32")[data.train_labels] + np.float32(0.1)
loop.training_targets = lambda recipe, data: soft
results.append(both(dataclasses.replace(recipe, teacher="textbook"), "taught"))
assert len(made) == 3
print(json.dumps([results, [row["loss"] for row in half.history], other_seed]))
"""


@pytest.fixture
def on_jax(tiny_data, tmp_path):
    """Runs a program on JAX where the data is; what it prints, as JSON."""
    if not importlib.util.find_spec("jax"):
        pytest.skip("needs JAX")
    write_data_npz(tmp_path / "data.npz", tiny_data)

    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    return lambda program: json.loads(run_on_jax(program, cwd=tmp_path, **cache))


def test_an_epoch_on_the_device_is_fits_epoch(on_jax):
    results, half, other_seed = on_jax(FIT)
    for ours, fitted, distance in results:  # by labels, and by what a teacher might say
        assert len(ours) == 3
        np.testing.assert_allclose(ours, fitted, rtol=ROUNDING)
        assert distance < ROUNDING
        assert ours[-1][0] < ours[0][0] - 0.1  # it learns
    assert other_seed > 100 * ROUNDING
    np.testing.assert_allclose(half, [loss for loss, _ in results[0][0]], rtol=0.1)  # in bfloat16


# `random` interpolates, so NumPy and JAX may round a pixel differently (test_augment.py)
INGREDIENTS = """
import dataclasses, json
from convolution import network
from fashion_cnn import RECIPES, load_data, train
from fashion_cnn.keras_setup import keras
from fashion_cnn.training import jax, loop
from rounding import relative_difference

data = load_data("data.npz")
recipe = dataclasses.replace(
    RECIPES["sprint"], optimizer="muon", schedule="cosine", bias_rate=2.0, sam=0.05, cutmix=0.5,
    augment=("alternate_flip", "shift", "erase"), label_smoothing=0.1, epochs=3, batch_size=29,
    validation="none", precision="float32", learning_rate=0.05, seed=3, skip_easy=0.3,
)
loop.build_model = network


def weights(on_device, **changes):
    jax.fits_on_device = lambda images: on_device
    return train(dataclasses.replace(recipe, **changes), data).model.get_weights()


keras.utils.set_random_seed(recipe.seed)
start, plain = network().get_weights(), weights(False)
changes = {"cutmix": 0.4, "sam": 0.0, "bias_rate": 1.0, "optimizer": "sgd", "schedule": "triangle"}
changes |= {"augment": ("flip", "shift", "erase"), "skip_easy": 0.5, "batch_size": 29}
print(json.dumps({
    key: relative_difference(weights(True, **{key: value}), plain, start)
    for key, value in changes.items()
}))
"""


def test_an_epoch_on_the_device_is_the_plain_one_with_every_setting(on_jax):
    distances = on_jax(INGREDIENTS)
    assert distances.pop("batch_size") < ROUNDING  # the only one that is unchanged
    assert len(distances) == 7 and min(distances.values()) > 30 * ROUNDING


def test_gpu_benchmark_continues_after_its_time_limit(real_data, tmp_path):
    """On a CPU this shows that it runs; the figures are meant for a GPU."""
    if not importlib.util.find_spec("jax"):
        pytest.skip("needs JAX")
    script = str(Path(__file__).parents[2] / "benchmarks" / "gpu.py")
    call = [sys.executable, script, "--recipe", "sprint", "--images", "256", "--seeds", "1"]
    call += ["--runs", str(tmp_path / "runs"), "--rows", str(tmp_path / "rows.csv"), "--minutes"]
    environment = jax_environment()
    runs = [
        subprocess.run([*call, minutes], env=environment, capture_output=True, text=True)
        for minutes in ("0", "9")
    ]
    assert runs[0].returncode == 1
    message = "out of time; run the same command again to continue"
    assert runs[0].stderr.splitlines()[-1] == message
    assert runs[1].returncode == 0, runs[1].stderr
    assert len(Run(tmp_path / "runs" / "sprint-256-0").history()["epoch"]) == 3
    (row,) = csv.DictReader((tmp_path / "rows.csv").read_text().splitlines())
    assert (row["recipe"], row["images"], row["seed"]) == ("sprint", "256", "0")
    assert 0 < float(row["matmul_utilization"]) < 1 and 0 < float(row["bandwidth_utilization"]) < 1
    assert float(row["overhead_seconds"]) > 0
    assert f"| sprint | 256 | {100 * float(row['test_accuracy']):.2f} |" in runs[1].stdout
