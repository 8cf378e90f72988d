"""The textbook recipe trained for real, through the README's own command."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.minutes
def test_the_textbook_lands_in_its_band(tmp_path, real_data):
    call = [
        str(Path(sys.executable).with_name("fashion-cnn")),
        "train",
        "textbook",
        "--epochs",
        "6",
    ]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    shown = float(re.search(r"Test accuracy: (\d\d\.\d\d)%", done.stdout)[1])
    metrics = json.loads((tmp_path / "runs/textbook-1/metrics.json").read_text())
    assert shown == pytest.approx(100 * metrics["test_accuracy"], abs=0.005)
    assert 89.3 <= shown <= 92.0  # after 6 of 10 epochs; below, something in the pipeline broke
