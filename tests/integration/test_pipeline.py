"""The command line on real images, from a training of a few steps to all that reads its run."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import fashion_cnn
from PIL import Image
from rounding import are_beyond_rounding

from fashion_cnn import Classifier
from fashion_cnn.evaluation.calibration import apply_temperature

pytestmark = pytest.mark.slow

PICTURES = {
    f"{name}.png"
    for name in (
        "accuracy",
        "confident_mistakes",
        "confusion_matrix",
        "coverage",
        "embedding_map",
        "gradcam",
        "learning_rate",
        "loss",
        "per_class",
        "predictions",
        "reliability",
        "robustness",
        "uncertain",
    )
}
FILES = PICTURES | {
    "explanations.npz",
    "model.onnx",
    "model.onnx.json",
    "model.onnx.md",
    "report.html",
    "robustness.json",
    "recipe.json",
    "environment.json",
    "history.csv",
    "model.keras",
    "metrics.json",
    "predictions.npz",
    "SHA256SUMS",
}


QUICK = ("--epochs", "1", "--batch-size", "200")


@pytest.fixture(scope="module")
def data(first_images):
    """A fifth of Fashion-MNIST."""
    return first_images(train=12_000, test=2_000)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    """One epoch with few, large steps; everything after training is as ever."""
    folder = tmp_path_factory.mktemp("project")
    words = ("train", "textbook", *QUICK, "--set", "dropout=0.1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fashion_cnn.data.load_fashion_mnist", lambda: data)
        yield folder, fashion_cnn(*words, cwd=folder)


def test_the_eight_steps_are_shown(trained):
    _, done = trained
    assert done.returncode == 0
    steps = ("Load", "Normalize", "Build", "Compile", "Train", "Evaluate", "Visualize", "Predict")
    for number, step in enumerate(steps, 1):
        assert f"\n{number} {step}" in f"\n{done.stderr}"
    assert "(26, 26, 32)" in done.stderr
    assert "241,546" in done.stderr
    assert "Epoch  1/1  loss" in done.stderr


def test_results_are_on_standard_output(trained):
    _, done = trained
    lines = done.stdout.splitlines()
    assert len([line for line in lines if line.startswith("  ") and line.endswith("%")]) == 10
    assert any(line.startswith("Test accuracy: ") for line in lines)
    assert lines[-2:] == ["Run: runs/textbook-1", "Report: runs/textbook-1/report.html"]


def test_the_run_folder_is_complete(trained, data):
    folder, _ = trained
    run = folder / "runs" / "textbook-1"
    assert {p.name for p in run.iterdir()} == FILES | {"checkpoints", "svg"}
    assert {p.stem for p in (run / "svg").glob("*.svg")} == {Path(name).stem for name in PICTURES}
    program = ["sha256sum"] if sys.platform == "linux" else ["shasum", "-a", "256"]  # of macOS
    check = [*program, "--check", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=run, capture_output=True).returncode == 0
    metrics = json.loads((run / "metrics.json").read_text())
    examples = [metrics[f"{split}_examples"] for split in ("train", "validation", "test")]
    held_out = len(data.validation_index)
    assert examples == [12_000 - held_out, held_out, 2_000]
    assert metrics["parameters"] == 241_546
    explained = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    for key in metrics:
        assert f"`{re.sub('^(test|validation)_', '', key)}`" in explained, key
    with np.load(run / "predictions.npz", allow_pickle=False) as saved:
        right = saved["test_probabilities"].argmax(1) == saved["test_labels"]
        assert right.mean() == metrics["test_accuracy"]
    with open(run / "history.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["val_accuracy"]) == pytest.approx(metrics["validation_accuracy"], abs=1e-6)
    for name in PICTURES:
        with Image.open(run / name) as picture:
            assert picture.width >= 1000
            assert np.asarray(picture.convert("L")).std() > 10


def test_evaluate_gives_the_same_number_to_the_last_digit(trained):
    folder, _ = trained
    done = fashion_cnn("evaluate", "runs/textbook-1", "--json", cwd=folder)
    again = json.loads(done.stdout)
    metrics = json.loads((folder / "runs/textbook-1/metrics.json").read_text())
    assert again == {key: metrics[key] for key in again}
    assert "test_accuracy" in again and "test_loss" in again


def test_predict_on_a_file(trained, data):
    folder, _ = trained
    names = []
    for i in range(3):
        Image.fromarray(data.test_images[i]).save(folder / f"{i}.png")
        names.append(f"{i}.png")
    words = (*names, "--model", "runs/textbook-1", "--format", "jsonl", "--top", "2")
    done = fashion_cnn("predict", *words, cwd=folder)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["path"] for row in rows] == names
    with np.load(folder / "runs/textbook-1/predictions.npz", allow_pickle=False) as saved:
        expected = saved["test_probabilities"]
    temperature = json.loads((folder / "runs/textbook-1/metrics.json").read_text())["temperature"]
    expected = apply_temperature(expected, temperature)
    for row, probabilities in zip(rows, expected[:3], strict=True):
        assert row["label"] == data.class_names[probabilities.argmax()]
        assert row["probability"] == pytest.approx(probabilities.max(), abs=1e-4)
        assert len(row["top"]) == 2
    classifier = Classifier.load(folder / "runs/textbook-1")
    found = classifier.probabilities(data.test_images[..., np.newaxis])
    np.testing.assert_allclose(found, expected, atol=1e-4)  # all 2,000
    clear = are_beyond_rounding(expected)
    assert (found.argmax(1) == expected.argmax(1))[clear].all()
    assert clear.mean() > 0.99


def test_what_cannot_be_read_is_said_in_its_place(trained, data):
    folder, _ = trained
    (folder / "mixed").mkdir()
    Image.fromarray(data.test_images[0]).save(folder / "mixed" / "a.png")
    (folder / "mixed" / "b.png").write_text("no picture")
    Image.fromarray(data.test_images[1]).save(folder / "mixed" / "c.png")
    Image.new("RGB", (90, 60), "beige").save(folder / "mixed" / "d.png")
    words = ("predict", "mixed", "none.png", "--model", "photo")
    words += ("--format", "jsonl", "--unsure", "ask.csv")
    done = fashion_cnn(*words, cwd=folder, status=1)
    assert "2 of 5 pictures could not be read" in done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["path"] for row in rows] == [
        "mixed/a.png",
        "mixed/b.png",
        "mixed/c.png",
        "mixed/d.png",
        "none.png",
    ]
    assert ["error" in row for row in rows] == [False, True, False, False, True]
    with open(folder / "ask.csv", newline="") as file:
        asked = list(csv.DictReader(file))
    assert [row["path"] for row in asked] == [
        row["path"] for row in rows if row.get("verdict") != "sure"
    ]
    assert list(asked[0]) == ["path", "label", "probability", "verdict", "note", "error"]
    assert asked[-2]["note"] == rows[3]["note"] != ""
    words = ("predict", "mixed", "--format", "csv", "--top", "1")
    shown = fashion_cnn(*words, cwd=folder, status=1).stdout
    assert [row["path"] for row in csv.DictReader(shown.splitlines())] == [
        f"mixed/{x}.png" for x in "abcd"
    ]


def test_savedmodel_from_the_command_line(trained):
    folder, _ = trained
    words = ("export", "runs/textbook-1", "--format", "savedmodel", "--output", "out")
    fashion_cnn(*words, cwd=folder)
    assert (folder / "out" / "saved_model.pb").is_file()
    assert json.loads((folder / "out.json").read_text())["parity"]["same_predictions"]


def test_a_run_resumed_from_the_command_line_says_it_is_done(trained):
    folder, _ = trained
    run = folder / "runs" / "textbook-1"
    before = (run / "history.csv").read_text()
    done = fashion_cnn("train", "--run", run, "--resume", cwd=folder)
    assert "already finished" in done.stderr
    assert (run / "history.csv").read_text() == before
    words = ("train", "textbook-plus", "--run", run, "--resume")
    other = fashion_cnn(*words, cwd=folder, status=2)
    assert "started with another recipe" in other.stderr


def test_an_interrupted_run_is_resumed_to_the_same_result(trained):
    folder, _ = trained
    run = folder / "runs" / "textbook-1"
    broken = folder / "runs" / "broken"
    shutil.copytree(run, broken)
    for name in ("SHA256SUMS", "model.keras", "metrics.json", "predictions.npz", "history.csv"):
        (broken / name).unlink()
    fashion_cnn("train", "--run", broken, "--resume", "--no-report", cwd=folder)
    for name in ("history.csv", "metrics.json", "recipe.json"):
        assert (broken / name).read_text() == (run / name).read_text()


def test_a_trained_run_is_only_evaluated(trained):
    folder, _ = trained
    run, stopped = (folder / "runs" / name for name in ("textbook-1", "stopped"))
    shutil.copytree(run, stopped)
    for name in ("SHA256SUMS", "metrics.json", "predictions.npz"):
        (stopped / name).unlink()
    environment = json.loads((stopped / "environment.json").read_text())
    environment |= {"own_model": True}  # which the command line could not train
    (stopped / "environment.json").write_text(json.dumps(environment))
    model = (stopped / "model.keras").read_bytes()
    done = fashion_cnn("train", "--run", stopped, "--resume", "--no-report", cwd=folder)
    assert "5 Train       already done" in done.stderr
    assert (stopped / "model.keras").read_bytes() == model
    assert (stopped / "metrics.json").read_text() == (run / "metrics.json").read_text()
    shutil.rmtree(stopped)


def test_a_finished_run_is_trained_on_from_the_command_line(trained):
    folder, _ = trained
    run = folder / "runs" / "longer"
    shutil.copytree(folder / "runs" / "textbook-1", run)
    before = (run / "model.onnx").read_bytes()
    fashion_cnn("train", "--run", run, "--resume", "--epochs", "2", "--no-report", cwd=folder)
    assert len((run / "history.csv").read_text().splitlines()) == 1 + 2
    assert (run / "model.onnx").read_bytes() != before
    assert not (run / "report.html").exists()  # it showed one epoch
    again = fashion_cnn("train", "--run", run, "--resume", "--epochs", "2", cwd=folder)
    assert "already finished" in again.stderr
    shutil.rmtree(run)


def test_runs_are_compared(trained):
    folder, _ = trained
    words = ("train", "textbook", *QUICK, "--seed", "1", "--no-report")
    fashion_cnn(*words, cwd=folder)
    assert not (folder / "runs/textbook-2/report.html").exists()
    runs = ("runs/textbook-1", "runs/textbook-2")
    shown = fashion_cnn("compare", *runs, cwd=folder).stdout
    found = json.loads(fashion_cnn("compare", *runs, "--json", cwd=folder).stdout)
    (pair,) = found["pairs"]
    accuracy = [found["runs"][run]["test_accuracy"] for run in runs]
    assert pair["only_first"] - pair["only_second"] == round(2000 * (accuracy[0] - accuracy[1]))
    assert f"{100 * accuracy[0]:.2f} (" in shown and f"{pair['p_value']:.2g}" in shown
    assert (folder / "comparison.png").stat().st_size > 10_000


def test_data_is_shown_and_sampled(tmp_path, fewer_images):
    fewer_images(train=600, test=100)
    done = fashion_cnn("data", cwd=tmp_path)
    assert done.stdout.count("Verified") == 4
    assert "total              540          60     100" in done.stdout
    assert (tmp_path / "fashion-mnist-samples.png").stat().st_size > 10_000
