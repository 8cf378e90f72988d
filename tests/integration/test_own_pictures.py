"""A user's own folder of pictures: every command, from `data` to `audit`."""

import csv
import http.client
import json
import shutil

import numpy as np
import pyarrow.parquet
import pytest
from command import fashion_cnn
from PIL import Image, ImageDraw

from fashion_cnn import Classifier, load_data, predict
from fashion_cnn.run import Run

pytestmark = pytest.mark.slow

CLASSES = ("caf\u00e9 au lait", "ring", "\u30b7\u30e3\u30c4")


def draw_picture(path, kind, seed):
    """A bar, ring or cross with random colors and position, as a photo of 90x120."""
    rng = np.random.default_rng(seed)
    background, foreground = rng.integers(0, 110, 3), rng.integers(150, 256, 3)
    image = Image.fromarray(
        rng.integers(0, 40, (120, 90, 3), dtype=np.uint8) + background.astype(np.uint8)
    )
    draw, (x, y) = ImageDraw.Draw(image), rng.integers(8, 28, 2)
    foreground = tuple(map(int, foreground))
    if kind == 0:
        draw.rectangle((x, y + 30, x + 50, y + 44), fill=foreground)
    elif kind == 1:
        draw.ellipse((x, y + 10, x + 50, y + 60), outline=foreground, width=9)
    else:
        draw.line((x, y + 10, x + 50, y + 60), fill=foreground, width=12)
        draw.line((x + 50, y + 10, x, y + 60), fill=foreground, width=12)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def width(path):
    with Image.open(path) as image:
        return image.width


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        for kind, name in enumerate(CLASSES):
            for i in range(40):
                draw_picture(folder / "mine" / name / f"photo {i:02}.jpg", kind, 100 * kind + i)
        yield folder


@pytest.fixture(scope="module")
def weights(folder):
    """Random weights for MobileNet, with matching batch normalization statistics."""
    from fashion_cnn.keras_setup import keras

    keras.utils.set_random_seed(0)
    network = keras.applications.MobileNet(weights=None, input_shape=(48, 48, 3))
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    network(np.random.default_rng(0).normal(0, 0.5, (8, 48, 48, 3)), training=True)
    path = folder / "mobilenet.weights.h5"
    network.save_weights(path)
    return path


@pytest.fixture(scope="module")
def trained(folder, weights):
    options = ("--weights", weights, "--set", "image_size=48", "--set", "min_size=48")
    options += ("--epochs", "3", "--set", "head_epochs=2", "--set", "class_weights=true")
    return fashion_cnn("train", "mobilenet", "--data", "mine", *options, cwd=folder)


def test_data_lists_unreadable_files_and_duplicates(folder):
    shutil.copytree(folder / "mine", folder / "damaged")
    (folder / "damaged" / "ring" / "photo 00.jpg").write_text("not a picture")
    (folder / "damaged" / "ring" / "notes.txt").write_text("not a picture")
    original = folder / "damaged" / "ring" / "photo 01.jpg"
    for i in range(2, 30):
        shutil.copy(original, folder / "damaged" / "ring" / f"photo {i:02}.jpg")
    out = fashion_cnn("data", "--data", "damaged", cwd=folder).stdout
    assert "Images      color, the smallest 90 wide and 120 high" in out
    assert "Files       120, and 1 left out" in out
    assert "not pictures, or in no class folder): 1; the first: ring/notes.txt" in out
    assert "Unreadable  ring/photo 00.jpg: not a picture" in out
    assert "caf\u00e9 au lait" in out
    assert "unreadable files, left out: 1; the first: ring/photo 00.jpg" in out
    assert "test images are nearly identical to a training image" in out
    assert "Duplicates  0" not in out
    assert width(folder / "damaged-samples.png") > 300


def test_a_recipe_without_pretraining_works_on_a_small_folder(folder):
    result = fashion_cnn("train", "--data", "mine", "--no-report", "--run", "scratch", cwd=folder)
    assert "no test folder: a tenth of the training pictures" in result.stderr
    assert "few images: recipe adapted to 17 epochs, batches of 8, learning rate" in result.stderr
    metrics = json.loads((folder / "scratch/metrics.json").read_text())
    assert (metrics["test_examples"], metrics["train_examples"]) == (12, 96)
    assert metrics["test_accuracy"] >= 0.75
    again = ("train", "standard", "--data", "mine", "--run", "scratch", "--resume")
    assert "already finished" in fashion_cnn(*again, cwd=folder).stderr


def test_every_command_leaves_an_unreadable_picture_out(folder):
    for path in (folder / "mine").glob("*/photo [01]*"):
        copy = folder / "unreadable" / path.parent.name / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    (folder / "unreadable" / "ring" / "photo 07.jpg").write_text("not a picture")
    note = "unreadable files, left out: 1; the first: ring/photo 07.jpg (not a picture"
    data, small = ("--data", "unreadable"), ("--set", "image_size=16", "--set", "epochs=1")
    for command in (
        ("train", "sprint", *data, *small, "--no-report", "--run", "unread"),
        ("tune", "sprint", *data, *small, "--trials", "1", "--output", "unread-tune"),
        ("audit", *data, "--recipe", "sprint", "--folds", "2", "--output", "unread-audit"),
    ):
        assert note in fashion_cnn(*command, cwd=folder).stderr
    fashion_cnn("evaluate", "unread", cwd=folder)
    metrics = json.loads((folder / "unread" / "metrics.json").read_text())
    assert sum(metrics[f"{split}_examples"] for split in ("train", "validation", "test")) == 59
    command = ("predict", "unreadable", "--model", "unread")
    printed = fashion_cnn(*command, cwd=folder, status=1).stdout
    assert printed.count("photo") == 60
    assert any("photo 07.jpg" in x and "not a picture" in x for x in printed.splitlines())
    fashion_cnn(*command, "--output", "rows", cwd=folder, status=None)
    rows = pyarrow.parquet.read_table(folder / "rows" / "part-0000000.parquet").to_pylist()
    (unreadable,) = [row for row in rows if row["error"]]
    assert len(rows) == 60
    assert unreadable["path"].endswith("photo 07.jpg") and "not a picture" in unreadable["error"]


def test_transfer_learning_in_two_phases_is_reported_and_exported(folder, trained):
    assert "3 epochs, the first 2 of the head alone" in trained.stderr
    assert "augmentations are not applied to it: zoom, color" in trained.stderr
    run = folder / "runs" / "mobilenet-1"
    names = {path.name for path in run.iterdir()}
    assert {"report.html", "model.onnx", "model.onnx.json", "model.onnx.md", "gradcam.png"} <= names
    page = (run / "report.html").read_text()
    assert "caf\u00e9 au lait" in page
    out = fashion_cnn("evaluate", run, "--json", cwd=folder).stdout
    assert (
        json.loads(out)["test_accuracy"]
        == json.loads((run / "metrics.json").read_text())["test_accuracy"]
    )
    card = (run / "model.onnx.md").read_text()
    assert "| caf\u00e9 au lait |" in card
    assert "It was trained on 96 images; 12 were held out" in card
    fashion_cnn("compare", run, "scratch", cwd=folder)


def test_photos_of_any_size_are_prepared_as_for_training(folder, trained):
    run, photo = folder / "runs" / "mobilenet-1", folder / "mine" / "ring" / "photo 00.jpg"
    with Image.open(photo) as file:
        image = file.convert("RGB")
    small = image.resize((48, 48), Image.Resampling.BICUBIC)
    expected = predict(run, np.asarray(small)[np.newaxis])[0].argmax()
    classifier = Classifier.load(run)
    np.testing.assert_array_equal(classifier.prepare(str(photo)).pixels, np.asarray(small))
    assert classifier.predict(str(photo)).label == CLASSES[expected]
    image.resize((900, 1200)).save(folder / "large.png")
    options = ("--model", run, "--explain", "why.png", "--show", "all.png", "--format", "jsonl")
    row = json.loads(fashion_cnn("predict", "large.png", *options, cwd=folder).stdout)
    assert row["top"][0]["label"] in CLASSES
    assert width(folder / "why.png") > 300


def test_the_exported_model_measures_similarity_and_has_prediction_sets(folder, trained):
    assert "No picture is called unknown: 12 validation images; at least 149" in trained.stdout
    run = Run(folder / "runs" / "mobilenet-1")
    results, data = run.predictions(), load_data(str(folder / "mine"), 48)
    assert results["cluster_means"].shape[1] == 1024
    classes = results["cluster_classes"]
    assert set(classes) == {0, 1, 2, -1} and results["cluster_means"].nbytes <= 300_000
    assert results["cluster_means"][classes >= 0].nbytes <= 120_000
    classifier = Classifier.load(run.folder)
    rows, similarity = classifier.outputs(data.test_images)
    np.testing.assert_allclose(rows.argmax(1), results["test_probabilities"].argmax(1))
    np.testing.assert_allclose(similarity, results["test_similarity"], atol=1e-4)
    predict_one = ("predict", "mine/ring/photo 00.jpg", "--model", run, "--format", "jsonl")
    printed = fashion_cnn(*predict_one, "--set-coverage", "0.9", cwd=folder).stdout
    row = json.loads(printed)
    assert -2 <= row["similarity"] <= 1
    assert row["top"][0] == {"label": row["label"], "probability": row["probability"]}
    least = classifier.card["prediction_sets"]["0.9"]
    assert all(entry["probability"] >= least - 1e-6 for entry in row["top"][1:])
    error = fashion_cnn(*predict_one, "--set-coverage", "0.99", cwd=folder, status=1).stderr
    assert "got 0.99; available: 0.8, 0.9 (the model has 12 validation pictures" in error


def test_the_server_measures_the_same_similarity(folder, trained, serving):
    run, photo = folder / "runs" / "mobilenet-1", folder / "mine" / "ring" / "photo 00.jpg"
    expected = Classifier.load(run).predict(str(photo))
    with serving(run) as (_, port, _):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/predict", photo.read_bytes())
        body = json.load(connection.getresponse())
        connection.close()
    assert (body["label"], body["verdict"]) == (expected.label, expected.verdict)
    assert body["similarity"] == pytest.approx(expected.similarity, abs=1e-4)


def test_audit_fits_a_named_recipe_to_few_images(folder):
    options = ("--data", "mine", "--recipe", "sprint", "--folds", "99")
    refused = fashion_cnn("audit", *options, cwd=folder, status=1)
    assert "recipe adapted to" in refused.stderr
    assert "folds: got 99; expected 2.." in refused.stderr


def test_savedmodel_export_and_audit(folder, trained):
    fashion_cnn("export", "runs/mobilenet-1", "--format", "savedmodel", cwd=folder)
    options = ("--data", "mine", "--recipe", "short.json", "--folds", "2")
    recipe = {"name": "short", "model": "compact", "epochs": 2, "batch_size": 8}
    (folder / "short.json").write_text(json.dumps(recipe))
    fashion_cnn("audit", *options, cwd=folder)
    with open(folder / "audit" / "suspects.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert all((folder / "mine" / row["file"]).is_file() for row in rows)


def test_a_source_that_has_moved_is_taken_and_one_that_has_changed_is_refused(folder, trained):
    shutil.copytree(folder / "mine", folder / "changing")
    options = ("train", "sprint", "--data", "changing", "--run", "changed", "--no-report")
    options += ("--epochs", "1")
    fashion_cnn(*options, cwd=folder)
    (folder / "changing").rename(folder / "moved")
    error = fashion_cnn("evaluate", "changed", cwd=folder, status=1).stderr
    assert "changing; give --data the place where it is now" in error
    fashion_cnn("evaluate", "changed", "--data", "moved", cwd=folder)
    (folder / "moved").rename(folder / "changing")
    draw_picture(folder / "changing" / "ring" / "photo 03.jpg", 1, 999)
    for verb in ("evaluate", "report"):
        error = fashion_cnn(verb, "changed", cwd=folder, status=1).stderr
        assert "changing is not what this run was trained on, or has changed" in error
    (folder / "changed" / "metrics.json").unlink()
    for name in ("SHA256SUMS", "model.keras"):
        (folder / "changed" / name).unlink()
    error = fashion_cnn(*options, "--resume", cwd=folder, status=1).stderr
    assert "changing is not what this run was trained on, or has changed" in error


def test_groups_travel_with_every_run(folder):
    files = sorted((folder / "mine").rglob("*.jpg"))
    for path in files:
        copy = folder / "grouped" / path.relative_to(folder / "mine")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)

    def write_groups(name, group_of):
        lines = [f"{p.relative_to(folder / 'mine').as_posix()},{group_of(p)}" for p in files]
        (folder / name).write_text("\n".join(["file,group", *lines]), encoding="utf-8")

    write_groups("grouped/groups.csv", lambda path: int(path.stem[-2:]) // 4)
    write_groups("same.csv", lambda path: int(path.stem[-2:]) // 4)
    data = ("--data", "grouped", "--groups", "grouped/groups.csv")
    train = ("train", "textbook", *data, "--set", "image_size=28", "--run", "by-group")
    printed = fashion_cnn(*train, "--epochs", "1", "--no-report", cwd=folder).stderr
    assert "groups by groups.csv: 10, the largest of 12 pictures" in printed
    metrics = json.loads((folder / "by-group" / "metrics.json").read_text())
    assert (metrics["train_examples"], metrics["test_examples"]) == (96, 12)  # 8 groups, and 1
    again = json.loads(fashion_cnn("evaluate", "by-group", "--json", cwd=folder).stdout)
    assert again["test_accuracy"] == metrics["test_accuracy"]
    assert "--groups groups.csv" in (folder / "by-group" / "model.onnx.md").read_text()
    audit = ("audit", "by-group", *data, "--recipe", "sprint", "--folds", "10")
    error = fashion_cnn(*audit, cwd=folder, status=1).stderr
    assert "folds: got 10; expected 2..9, the number of groups" in error
    small = ("--set", "image_size=16", "--set", "epochs=1", "--set", "batch_size=32")
    best = fashion_cnn("tune", "sprint", *data, *small, "--trials", "1", cwd=folder).stdout
    assert "best.json --data grouped --groups groups.csv" in best
    for run in ("by-group", "tune-sprint/trial-0"):
        environment = json.loads((folder / run / "environment.json").read_text())
        assert environment["data"]["groups"] == "groups.csv"
    more = ("train", "--run", "by-group", "--resume", "--epochs", "2", "--no-report")
    error = fashion_cnn(*more, "--groups", "same.csv", cwd=folder, status=1).stderr
    assert "was started with --groups groups.csv; got /" in error
    write_groups("grouped/groups.csv", lambda path: path.stem[-1])
    error = fashion_cnn(*more, cwd=folder, status=1).stderr
    assert "is not what this run was trained on with --groups groups.csv, or has" in error


def test_missing_weights_leave_no_run(folder):
    options = ("train", "mobilenet", "--data", "mine", "--weights", "nowhere.h5", "--run", "none")
    error = fashion_cnn(*options, cwd=folder, status=1).stderr
    assert "nowhere.h5" in error.splitlines()[-1]
    assert not (folder / "none").exists()
