"""Somebody's own folder of pictures, from the command line to everything that comes after."""

import csv
import json
import shutil

import numpy as np
import pytest
from command import fashion_cnn
from PIL import Image, ImageDraw

from fashion_cnn import Classifier, predict

pytestmark = pytest.mark.slow

CLASSES = ("caf\u00e9 au lait", "ring", "\u30b7\u30e3\u30c4")


def draw(path, kind, seed):
    """A bar, a ring or a cross of any colour anywhere on any ground, as a photo of 90x120."""
    rng = np.random.default_rng(seed)
    ground, ink = rng.integers(0, 110, 3), rng.integers(150, 256, 3)
    image = Image.fromarray(
        rng.integers(0, 40, (120, 90, 3), dtype=np.uint8) + ground.astype(np.uint8)
    )
    pen, (x, y), ink = ImageDraw.Draw(image), rng.integers(8, 28, 2), tuple(map(int, ink))
    if kind == 0:
        pen.rectangle((x, y + 30, x + 50, y + 44), fill=ink)
    elif kind == 1:
        pen.ellipse((x, y + 10, x + 50, y + 60), outline=ink, width=9)
    else:
        pen.line((x, y + 10, x + 50, y + 60), fill=ink, width=12)
        pen.line((x + 50, y + 10, x, y + 60), fill=ink, width=12)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def width(path):
    with Image.open(path) as image:
        return image.width


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        for kind, name in enumerate(CLASSES):
            for i in range(40):
                draw(place / "mine" / name / f"photo {i:02}.jpg", kind, 100 * kind + i)
        yield place


@pytest.fixture(scope="module")
def weights(place):
    """MobileNet's, as random numbers with statistics that fit."""
    from fashion_cnn.keras_setup import keras

    keras.utils.set_random_seed(0)
    network = keras.applications.MobileNet(weights=None, input_shape=(48, 48, 3))
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    network(np.random.default_rng(0).normal(0, 0.5, (8, 48, 48, 3)), training=True)
    path = place / "mobilenet.weights.h5"
    network.save_weights(path)
    return path


@pytest.fixture(scope="module")
def trained(place, weights):
    words = ("--weights", weights, "--set", "image_size=48", "--set", "min_size=48")
    words += ("--epochs", "3", "--set", "head_epochs=2", "--set", "class_weights=true")
    return fashion_cnn("train", "mobilenet", "--data", "mine", *words, cwd=place)


def test_the_data_is_looked_at(place):
    shutil.copytree(place / "mine", place / "spoilt")
    (place / "spoilt" / "ring" / "photo 00.jpg").write_text("no picture")
    (place / "spoilt" / "ring" / "notes.txt").write_text("no picture")
    same = place / "spoilt" / "ring" / "photo 01.jpg"
    for i in range(2, 30):
        shutil.copy(same, place / "spoilt" / "ring" / f"photo {i:02}.jpg")
    out = fashion_cnn("data", "--data", "spoilt", cwd=place).stdout
    assert "Images      colour, the smallest 90 wide and 120 high" in out
    assert "Files       120, and 1 that are no pictures" in out
    assert "Unreadable  ring/photo 00.jpg: not a picture" in out
    assert "caf\u00e9 au lait" in out
    assert "1 files cannot be read and are left out" in out
    assert "test images are all but the same as a training image" in out
    assert "Duplicates  0" not in out
    assert width(place / "spoilt-samples.png") > 300


def test_a_scratch_recipe_learns_from_a_small_folder(place):
    done = fashion_cnn("train", "--data", "mine", "--no-report", "--run", "scratch", cwd=place)
    assert "no test folder: a tenth of the training pictures" in done.stderr
    assert "few images: 17 epochs, batches of 8" in done.stderr
    metrics = json.loads((place / "scratch/metrics.json").read_text())
    assert (metrics["test_examples"], metrics["train_examples"]) == (12, 96)
    assert metrics["test_accuracy"] >= 0.75
    again = ("train", "standard", "--data", "mine", "--run", "scratch", "--resume")
    assert "already finished" in fashion_cnn(*again, cwd=place).stderr


def test_transfer_in_two_phases_with_everything_after_it(place, trained):
    assert "3 epochs, the first 2 of the head alone" in trained.stderr
    assert "features that are computed once: without zoom, colour" in trained.stderr
    run = place / "runs" / "mobilenet-1"
    names = {path.name for path in run.iterdir()}
    assert {"report.html", "model.onnx", "model.onnx.json", "model.onnx.md", "gradcam.png"} <= names
    page = (run / "report.html").read_text()
    assert "caf\u00e9 au lait" in page
    out = fashion_cnn("evaluate", run, "--json", cwd=place).stdout
    assert (
        json.loads(out)["test_accuracy"]
        == json.loads((run / "metrics.json").read_text())["test_accuracy"]
    )
    card = (run / "model.onnx.md").read_text()
    assert "| caf\u00e9 au lait |" in card
    assert "It was trained on 96 images; 12 were held out" in card
    fashion_cnn("compare", run, "scratch", cwd=place)


def test_photos_of_any_size_are_prepared_as_they_were_for_training(place, trained):
    run, photo = place / "runs" / "mobilenet-1", place / "mine" / "ring" / "photo 00.jpg"
    with Image.open(photo) as file:
        image = file.convert("RGB")
    small = image.resize((48, 48), Image.Resampling.BICUBIC)
    expected = predict(run, np.asarray(small)[np.newaxis])[0].argmax()
    classifier = Classifier.load(run)
    np.testing.assert_array_equal(classifier.prepare(str(photo)).pixels, np.asarray(small))
    assert classifier.predict(str(photo)).label == CLASSES[expected]
    image.resize((900, 1200)).save(place / "large.png")
    words = ("--model", run, "--explain", "why.png", "--show", "all.png", "--format", "jsonl")
    row = json.loads(fashion_cnn("predict", "large.png", *words, cwd=place).stdout)
    assert row["top"][0]["label"] in CLASSES
    assert width(place / "why.png") > 300


def test_other_runtimes_and_the_audit(place, trained):
    fashion_cnn("export", "runs/mobilenet-1", "--format", "savedmodel", cwd=place)
    words = ("--data", "mine", "--recipe", "short.json", "--folds", "2")
    recipe = {"name": "short", "model": "compact", "epochs": 2, "batch_size": 8}
    (place / "short.json").write_text(json.dumps(recipe))
    fashion_cnn("audit", *words, cwd=place)
    with open(place / "audit" / "suspects.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert all((place / "mine" / row["file"]).is_file() for row in rows)


def test_a_source_that_has_changed_is_refused(place, trained):
    shutil.copytree(place / "mine", place / "moving")
    words = ("train", "sprint", "--data", "moving", "--run", "changed", "--no-report")
    words += ("--epochs", "1")
    fashion_cnn(*words, cwd=place)
    draw(place / "moving" / "ring" / "photo 03.jpg", 1, 999)
    for verb in ("evaluate", "report"):
        error = fashion_cnn(verb, "changed", cwd=place, status=1).stderr
        assert "moving has changed since it was trained" in error
    (place / "changed" / "metrics.json").unlink()
    for name in ("SHA256SUMS", "model.keras"):
        (place / "changed" / name).unlink()
    error = fashion_cnn(*words, "--resume", cwd=place, status=1).stderr
    assert "was started on other data (" in error


def test_weights_that_are_not_there_leave_nothing(place):
    words = ("train", "mobilenet", "--data", "mine", "--weights", "nowhere.h5", "--run", "none")
    error = fashion_cnn(*words, cwd=place, status=1).stderr
    assert "nowhere.h5" in error.splitlines()[-1]
    assert not (place / "none").exists()
