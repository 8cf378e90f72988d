"""`pip install .` without extras: only its requirements can be imported here."""

import json
import re
import subprocess
import sys
from importlib import metadata

import pytest
from PIL import Image, ImageDraw

from fashion_cnn.inference.model_files import PRESETS

pytestmark = pytest.mark.slow

BLOCK = """
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from fashion_cnn.cli import main
main()
"""


def add_requirements(name, names):
    """Add a distribution and those it requires, without extras, as pip would install them."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in names:
        return names
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return names  # of another platform
    names.add(key)
    for line in lines:
        if "extra ==" not in line:
            add_requirements(re.match(r"[\w.-]+", line)[0], names)
    return names


@pytest.fixture(scope="module")
def run_bare():
    """Runs the command line where only the requirements can be imported."""
    required = add_requirements("fashion-cnn", set())
    assert "onnxruntime" in required and "keras" not in required
    distributions = metadata.packages_distributions()
    allowed = {re.sub(r"[-_.]+", "-", name).lower() for name in required}
    blocked = {
        module
        for module, names in distributions.items()
        if not any(re.sub(r"[-_.]+", "-", name).lower() in allowed for name in names)
    }
    assert {"keras", "tensorflow", "matplotlib", "sklearn", "onnx"} <= blocked
    code = BLOCK.format(blocked=blocked)

    def run(*words, cwd):
        call = [sys.executable, "-c", code, *words]
        return subprocess.run(call, cwd=cwd, capture_output=True, text=True, timeout=100)

    return run


def test_every_preset_predicts(run_bare, tmp_path, real_data):
    Image.fromarray(real_data.test_images[0]).save(tmp_path / "boot.png")
    photo = Image.new("RGB", (300, 400), "#e8e4dc")
    legs = [(95, 20), (205, 20), (225, 380), (170, 380), (150, 120), (130, 380), (75, 380)]
    ImageDraw.Draw(photo).polygon(legs, "#303060")
    photo.save(tmp_path / "trousers.jpg")
    for name in PRESETS:
        words = ("predict", "boot.png", "trousers.jpg", "--model", name, "--format", "jsonl")
        done = run_bare(*words, "--show", f"{name}.png", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        boot, trousers = (json.loads(line)["label"] for line in done.stdout.splitlines())
        if name == "clothes":
            assert trousers == "trousers"
        else:
            assert (boot, trousers) == ("Ankle boot", "Trouser")
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


def test_other_commands_name_the_extra_that_they_need(run_bare, tmp_path):
    done = run_bare("train", "sprint", cwd=tmp_path)
    assert done.returncode == 1
    assert 'is not installed: pip install "fashion-cnn[train]"' in done.stderr
    assert "Traceback" not in done.stderr
    assert "Load" not in done.stderr and not any(tmp_path.iterdir())
    done = run_bare("label", "audit", cwd=tmp_path)
    assert 'is not installed: pip install "fashion-cnn[label]"' in done.stderr
    assert run_bare("presets", cwd=tmp_path).returncode == 0
    assert run_bare("recipes", cwd=tmp_path).returncode == 0
