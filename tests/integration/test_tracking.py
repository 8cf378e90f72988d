"""The two trackers of docs/train.md, run as they are there, with the real libraries."""

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "train.md").read_text(encoding="utf-8")
TINY = """
import numpy as np
import keras
from fashion_cnn import RECIPES, train
from dataclasses import replace
rng = np.random.default_rng(0)
x, y = rng.integers(0, 256, (60, 28, 28), dtype=np.uint8), np.arange(60) % 3
data = ((x, y), (x[:12], y[:12]))
TINY = replace(RECIPES["textbook"], epochs=2, batch_size=20)
"""


def example(word, folder):
    """Run the code of the page that names `word`, on tiny data."""
    (lines,) = [x for x in re.findall(r"```python\n(.*?)```", PAGE, re.S) if word in x]
    code = TINY + lines.replace('train("standard"', "train(TINY")
    assert "train(TINY, data, callbacks=" in code
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


def test_tensorboard_has_a_curve_of_every_epoch(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    example("TensorBoard", tmp_path)
    for split in ("train", "validation"):
        events = EventAccumulator(str(tmp_path / "logs" / split), size_guidance={"tensors": 0})
        events.Reload()
        assert {"epoch_loss", "epoch_accuracy"} <= set(events.Tags()["tensors"])
        assert len(events.Tensors("epoch_loss")) == 2


def test_mlflow_has_the_figures_of_every_epoch(tmp_path):
    example("mlflow", tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        rows = database.execute("select key, count(*) from metrics group by key").fetchall()
    assert {"loss": 2, "accuracy": 2, "val_loss": 2, "val_accuracy": 2}.items() <= dict(
        rows
    ).items()
