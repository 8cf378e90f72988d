"""Small measured runs, for tests of exports and of what reads them."""

import dataclasses

from fashion_cnn import train
from fashion_cnn.evaluation import measure_run
from fashion_cnn.recipes import RECIPES
from fashion_cnn.run import Run

OPTIONS = {
    "textbook": {"dropout": 0.2},
    "standard": {"width": 8, "hidden": 8, "convolutions": 2},
    "marathon": {"width": 8, "stem": 2, "hidden": 8},
}


def train_small_run(data, recipe_name, folder, epochs=1):
    """Train a small network, measure it, and set its temperature to 1.7."""
    changes = {"epochs": epochs, "batch_size": 30, "options": OPTIONS[recipe_name]}
    train(dataclasses.replace(RECIPES[recipe_name], **changes), data, folder)
    run = Run(folder)
    measure_run(run, data)
    run.write_metrics({**run.metrics(), "temperature": 1.7})
    return run
