"""The preset `clothes`, on drawings and on what is no clothes; and on photos where they are."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from drawn import COLORS, GARMENTS, NO_CLOTHES, garment

from fashion_cnn import Classifier
from fashion_cnn.inference.model_files import PRESET_FOLDER, presets

pytestmark = pytest.mark.slow

PHOTOS = Path(os.environ.get("FASHION_CNN_PHOTOS", Path(__file__).parents[3] / "shared" / "photos"))


@pytest.fixture(scope="module")
def classifier():
    return Classifier.load("clothes")


def test_its_card_is_complete():
    card, content = presets()["clothes"], (PRESET_FOLDER / "clothes.onnx").read_bytes()
    assert card["sha256"] == hashlib.sha256(content).hexdigest()
    assert len(card["class_names"]) == len(card["test"]["per_class"]) == 10
    assert card["recipe"]["name"] == "efficientnet" and "fashion-cnn train" in card["command"]
    assert card["recipe"]["options"]["weights"] == "imagenet"
    assert "Apache-2.0" in card["license"] and "CC0" in card["license"]
    assert 0 < card["threshold"] < 1 and -1 < card["unknown_below"] < 1
    assert card["temperature_folded"] and card["sure_accuracy"] == 0.98
    assert card["cross_validation"]["photos"] == card["split"]["validation"]
    assert set(card["test"]["verdicts"]) == {"sure", "unsure", "unknown"}
    assert card["parity"]["largest_difference"] < 0.05


def test_drawn_garments(classifier):
    drawings = [(name, garment(name, color)) for name in GARMENTS for color in COLORS]
    labels = [prediction.label for prediction in classifier.predict([x for _, x in drawings])]
    correct = sum(label == name for label, (name, _) in zip(labels, drawings, strict=True))
    assert correct >= 0.75 * len(drawings)


def test_what_is_no_clothes_is_not_sure(classifier):
    """Noise, text, faces and landscapes that are drawn here; sample pictures of scikit-image."""
    skimage = pytest.importorskip("skimage.data")
    folder = Path(skimage.__file__).parent
    samples = [str(path) for path in sorted(folder.iterdir()) if path.suffix in (".png", ".jpg")]
    assert len(samples) >= 20
    drawings = [draw(seed) for draw in NO_CLOTHES.values() for seed in range(10)]
    is_sure = [prediction.sure for prediction in classifier.predict([*samples, *drawings])]
    assert np.mean(is_sure) <= 0.05
    of_kinds = np.reshape(is_sure[len(samples) :], (len(NO_CLOTHES), 10))
    assert of_kinds.mean(1).max() <= 0.1


def test_photos_by_others(classifier):
    """Of `validation`, as the card says; rounding may decide between almost equal classes."""
    folder = PHOTOS / "validation"
    if not folder.is_dir():
        pytest.skip(f"{folder}: no such folder; FASHION_CNN_PHOTOS names one with photos")
    names = dict(zip(sorted(os.listdir(folder)), classifier.card["class_names"], strict=True))
    paths = sorted(folder.glob("*/*"))
    predictions = classifier.predict([str(path) for path in paths])
    correct = [x.label == names[y.parent.name] for x, y in zip(predictions, paths, strict=True)]
    assert len(paths) == classifier.card["test"]["examples"]
    assert np.mean(correct) == pytest.approx(classifier.card["test"]["accuracy"], abs=0.006)
