"""The models that come with the package, on the real test images."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from rounding import are_beyond_rounding

from fashion_cnn import RECIPES, Classifier
from fashion_cnn.inference import model_files
from fashion_cnn.inference.model_files import PRESET_FOLDER, PRESETS, presets
from fashion_cnn.recipe import recipe_from_dict

MAX_TOTAL_BYTES = 14_000_000
FASHION_MNIST = [name for name in PRESETS if name != "clothes"]  # trained on it


@pytest.mark.slow
@pytest.mark.parametrize("name", FASHION_MNIST)
def test_a_preset_is_as_accurate_as_its_card_says(name, real_data):
    """On all 10,000; rounding on another processor may decide between almost equal classes."""
    classifier, card = Classifier.load(name), presets()[name]
    probabilities = classifier.probabilities(real_data.test_images[..., np.newaxis])
    accuracy = (probabilities.argmax(1) == real_data.test_labels).mean()
    undecided = (~are_beyond_rounding(probabilities)).mean()
    assert abs(accuracy - card["test"]["accuracy"]) <= undecided + 1e-9
    assert undecided < 0.001
    low, high = card["test"]["accuracy_interval"]
    assert low < accuracy < high
    assert card["test"]["examples"] == len(probabilities) == 10_000
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("name", FASHION_MNIST)
def test_a_card_is_complete(name, real_data):
    card = presets()[name]
    assert (
        card["sha256"] == hashlib.sha256((PRESET_FOLDER / f"{name}.onnx").read_bytes()).hexdigest()
    )
    assert card["class_names"] == list(real_data.class_names)
    assert card["data"]["sha256"] == real_data.sha256
    recipe = recipe_from_dict(card["recipe"])
    command = f"fashion-cnn train {name if recipe == RECIPES[name] else 'recipe.json'}"
    command = f"python benchmarks/presets.py {name}" if recipe.teacher else command
    assert card["command"] == command
    assert card["license"] == "MIT" and card["recipe"]["name"] == name
    assert 0 < card["threshold"] < 1 and card["temperature"] > 0 and card["temperature_folded"]
    assert card["test"]["calibrated_ece"] < (0.2 if name == "photo" else 0.02)
    assert card["parity"]["largest_difference"] <= 1e-4
    assert card["preparation"] == "photo"


def test_all_presets_together_are_small():
    assert sum(path.stat().st_size for path in PRESET_FOLDER.iterdir()) < MAX_TOTAL_BYTES


def test_presets_are_ordered_by_accuracy(real_data):
    """By the figures of their cards; a more accurate one takes longer."""
    accuracy = {name: card["test"]["accuracy"] for name, card in presets().items()}
    assert accuracy["textbook"] < accuracy["standard"] < accuracy["thorough"]


def test_a_damaged_preset_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "presets"
    shutil.copytree(PRESET_FOLDER, folder)
    monkeypatch.setattr(model_files, "PRESET_FOLDER", folder)
    Classifier.load("textbook")
    (folder / "textbook.onnx").write_bytes((folder / "standard.onnx").read_bytes())
    with pytest.raises(ValueError, match=r"textbook\.onnx: damaged"):
        Classifier.load("textbook")


def test_the_default_preset_needs_no_name():
    path = PRESET_FOLDER / "clothes.onnx.json"
    assert Classifier.load().card["preset"] == json.loads(path.read_text())["preset"] == "clothes"
