"""The textbook recipe trained for real, through the README's own command."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest


def trained(recipe, folder, *words):
    """Test accuracy in percent, as shown and as written."""
    call = [
        str(Path(sys.executable).with_name("fashion-cnn")),
        "train",
        recipe,
        "--no-report",
        *words,
    ]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    shown = float(re.search(r"Test accuracy: (\d\d\.\d\d)%", done.stdout)[1])
    metrics = json.loads((folder / f"runs/{recipe}-1/metrics.json").read_text())
    assert shown == pytest.approx(100 * metrics["test_accuracy"], abs=0.005)
    return shown


@pytest.mark.minutes
def test_the_textbook_lands_in_its_band(tmp_path, real_data):
    # after 6 of 10 epochs; below, something in the pipeline broke
    assert 89.3 <= trained("textbook", tmp_path, "--epochs", "6") <= 92.0


@pytest.mark.minutes
def test_sprint_passes_the_textbooks_accuracy_in_two_epochs(tmp_path, real_data):
    assert 91.6 <= trained("sprint", tmp_path) <= 93.1
