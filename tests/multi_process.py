"""Recipes, callbacks and checks for the tests of several processes and machines."""

import csv
from contextlib import suppress

import pyarrow.parquet as pq
from rounding import ROUNDING, relative_difference

from fashion_cnn.evaluation import load_model
from fashion_cnn.recipe import Recipe

# A small network and small steps, which do not amplify rounding (docs/decisions/0009).
STABLE = Recipe(
    "stable",
    model="compact",
    options={"stem": 2, "width": 2, "blocks": 1, "hidden": 4, "dropout": 0.3},
    optimizer="sgd",
    learning_rate=0.0001,
    ema=0.9,
    batch_size=36,
    epochs=2,
    augment=("flip", "shift"),
    skip_easy=0.3,
    validation="none",
)
IMAGES = 49 * 36 + 17  # 50 steps an epoch; the last batch cannot be shared

# For experiments on the fixture `few_images`.
SMALL = {"stem": 4, "width": 4, "blocks": 1, "hidden": 8}
QUICK = Recipe("quick", model="compact", options=SMALL, epochs=3, batch_size=32)
SEARCH_SPACE = {"learning_rate": {"low": 0.001, "high": 0.01, "log": True}, "dropout": [0.0, 0.2]}


def weights(run):
    return load_model(run).get_weights()


def assert_same_weights(run, one_process):
    """A run's weights are those of a training by one process, up to rounding."""
    start, end = one_process
    assert relative_difference(weights(run), end, start) < ROUNDING


class AfterFirstEpoch:
    """A callback that calls `action` once, after the first epoch, and lists finished epochs."""

    def __init__(self, action):
        self.action, self.finished = action, []

    def set_params(self, params):
        pass

    def on_epoch_begin(self, epoch):
        pass

    def on_train_batch_end(self, batch, logs):
        pass

    def on_epoch_end(self, epoch, logs):
        self.finished.append(epoch)
        if self.action:
            self.action, action = None, self.action
            action()


def read_csv(path):
    with suppress(FileNotFoundError), open(path, newline="") as file:
        return list(csv.DictReader(file))
    return []


def assert_each_predicted_once(output, picture_folder):
    rows = pq.read_table(output).to_pylist()
    paths = [row["path"] for row in rows]
    assert paths == sorted(map(str, picture_folder.rglob("*.png")))
    assert all(row["label"] and row["error"] is None for row in rows)
