"""Epochs as one program, on a processor: what a GPU would run, at a small size."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fashion_cnn.run import read_history

FIT = """
import dataclasses, json, sys
import numpy as np
from fashion_cnn import train
from fashion_cnn.data import as_data
from fashion_cnn.framework import keras
from fashion_cnn.models import build_model
from fashion_cnn.models.forms import for_training
from fashion_cnn.recipes import RECIPES
from fashion_cnn.training import batches, resident
from fashion_cnn.training.optimizers import make_optimizer
import fashion_cnn.training as training

with np.load("data.npz") as saved:
    data = as_data(((saved["x"], saved["y"]), (saved["x_test"], saved["y_test"])))
small = {"width": 8, "hidden": 16, "dropout": 0.2}
recipe = dataclasses.replace(
    RECIPES["sprint"], options=small, augment=("flip", "shift", "erase"), label_smoothing=0.1,
    epochs=3, batch_size=29, validation="none", precision="float32",
)
made, make = [], training.make_epoch
training.is_resident = lambda images: True
training.make_epoch = lambda *given: made.append(given) or make(*given)


def both(recipe, run):
    trained = train(recipe, data, run)
    keras.utils.set_random_seed(recipe.seed)
    model = for_training(build_model("compact", (28, 28, 1), 4, small))
    steps = -(-len(data.train_labels) // recipe.batch_size)
    smoothing = 0.0 if recipe.teacher else 0.1
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)
    model.compile(make_optimizer(recipe, recipe.epochs * steps), loss, metrics=["accuracy"])
    curve, index = [], np.arange(len(data.train_labels))
    targets = training.targets_of(recipe, data)
    for epoch in range(recipe.epochs):
        (images, y), = batches.chunks(recipe, data, epoch, index, 10**6, targets=targets)
        y = y if y.ndim == 2 else np.eye(4)[y]
        fitted = model.fit(images, y, batch_size=29, shuffle=False, verbose=0)
        curve.append([fitted.history[key][0] for key in ("loss", "accuracy")])
    ours = [[row["loss"], row["accuracy"]] for row in trained.history]
    apart = [float(np.abs(a - np.asarray(b)).max()) for a, b in zip(
        trained.model.get_weights(), model.get_weights(), strict=True)]
    return ours, curve, max(apart)

found = [both(recipe, "run")]
training.bfloat16_is_fast = lambda: True
half = train(dataclasses.replace(recipe, precision="bfloat16"), data)
assert made[-1][0].layers[2].compute_dtype == "bfloat16"
assert all(weight.dtype == np.float32 for weight in half.model.get_weights())
soft = 0.6 * np.eye(4, dtype="float32")[data.train_labels] + np.float32(0.1)
training.targets_of = lambda recipe, data: soft
found.append(both(dataclasses.replace(recipe, teacher="textbook", learning_rate=0.02), "taught"))
assert len(made) == 3
print(json.dumps([found, [row["loss"] for row in half.history]]))
"""


SIDE_BY_SIDE = """
import dataclasses, json
import numpy as np
from fashion_cnn import train
from fashion_cnn.data import as_data
from fashion_cnn.recipes import RECIPES
from fashion_cnn.training.many import train_side_by_side

with np.load("data.npz") as saved:
    data = as_data(((saved["x"], saved["y"]), (saved["x_test"], saved["y_test"])))
recipe = dataclasses.replace(
    RECIPES["sprint"], batch_size=58, options={"width": 4, "hidden": 8, "dropout": 0.2},
    augment=("nudge",), validation="none",
)
together = train_side_by_side(recipe, data, (0, 1))
alone = [train(dataclasses.replace(recipe, seed=seed), data) for seed in (0, 1)]
apart = max(float(np.abs(a - b).max()) for one, other in zip(together, alone, strict=True)
            for a, b in zip(one.model.get_weights(), other.model.get_weights(), strict=True))
losses = [[[row["loss"] for row in one.history] for one in some] for some in (together, alone)]
print(json.dumps([*losses, apart]))
"""


@pytest.fixture
def on_jax(tiny_data, tmp_path):
    """Runs a program on JAX where the data is; what it prints, as JSON."""
    if not importlib.util.find_spec("jax"):
        pytest.skip("needs JAX")
    arrays = {"x": tiny_data.train_images, "y": tiny_data.train_labels}
    arrays |= {"x_test": tiny_data.test_images, "y_test": tiny_data.test_labels}
    np.savez(tmp_path / "data.npz", **arrays)

    def run(program):
        environment = {**os.environ, "KERAS_BACKEND": "jax", "XDG_CACHE_HOME": str(tmp_path)}
        call = [sys.executable, "-c", program]
        done = subprocess.run(call, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_an_epoch_on_the_device_is_fits_epoch(on_jax):
    found, half = on_jax(FIT)
    for ours, fitted, apart in found:  # by labels, and by what a teacher might say
        assert len(ours) == 3
        np.testing.assert_allclose(ours, fitted, rtol=1e-4)
        assert apart < 1e-3
        assert ours[-1][0] < ours[0][0] - 0.1  # it learns
    np.testing.assert_allclose(half, [loss for loss, _ in found[0][0]], rtol=0.1)  # in bfloat16


def test_the_benchmark_goes_on_where_its_time_was_over(real_data, tmp_path):
    """On a processor it shows that it runs; the figures are a GPU's."""
    if not importlib.util.find_spec("jax"):
        pytest.skip("needs JAX")
    script = str(Path(__file__).parents[2] / "benchmarks" / "gpu.py")
    call = [sys.executable, script, "--recipe", "sprint", "--images", "256", "--seeds", "1"]
    call += ["--runs", str(tmp_path / "runs"), "--rows", str(tmp_path / "rows.csv"), "--minutes"]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    ends = [
        subprocess.run([*call, minutes], env=environment, capture_output=True, text=True)
        for minutes in ("0", "9")
    ]
    assert ends[0].returncode == 1
    assert ends[0].stderr.splitlines()[-1] == "out of time; the same command goes on"
    assert ends[1].returncode == 0, ends[1].stderr
    assert len(read_history(tmp_path / "runs" / "sprint-256-0")["epoch"]) == 2
    (row,) = csv.DictReader((tmp_path / "rows.csv").read_text().splitlines())
    assert (row["recipe"], row["images"], row["seed"]) == ("sprint", "256", "0")
    assert 0 < float(row["of_the_matrix_rate"]) < 1 and 0 < float(row["of_the_memory_rate"]) < 1
    assert float(row["beside"]) > 0
    assert f"| sprint | 256 | 1 | {100 * float(row['test_accuracy']):.2f} |" in ends[1].stdout


def test_networks_side_by_side_learn_what_each_learns_alone(on_jax):
    together, alone, apart = on_jax(SIDE_BY_SIDE)
    np.testing.assert_allclose(together, alone, rtol=1e-4)
    assert abs(alone[0][0] - alone[1][0]) > 1e-3  # each has its own seed
    assert apart < 1e-3
