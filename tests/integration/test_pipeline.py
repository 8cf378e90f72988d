"""The command line on the real data, in a process of its own, for a few steps."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PICTURES = {"accuracy.png", "loss.png", "predictions.png", "confusion_matrix.png"}
FILES = PICTURES | {
    "recipe.json",
    "environment.json",
    "history.csv",
    "model.keras",
    "metrics.json",
    "predictions.npz",
    "SHA256SUMS",
}


def fashion_cnn(*words, cwd):
    call = [str(Path(sys.executable).with_name("fashion-cnn")), *map(str, words)]
    return subprocess.run(call, cwd=cwd, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, real_data):
    """One epoch with few, large steps; everything after training is as ever."""
    folder = tmp_path_factory.mktemp("project")
    words = ("train", "textbook", "--epochs", "1", "--batch-size", "1000", "--set", "dropout=0.1")
    return folder, fashion_cnn(*words, cwd=folder)


def test_the_eight_steps_are_shown(trained):
    _, done = trained
    assert done.returncode == 0, done.stderr
    steps = ("Load", "Normalise", "Build", "Compile", "Train", "Evaluate", "Visualise", "Predict")
    for number, step in enumerate(steps, 1):
        assert f"\n{number} {step}" in f"\n{done.stderr}"
    assert "(26, 26, 32)" in done.stderr
    assert "241,546" in done.stderr
    assert "Epoch  1/1  loss" in done.stderr
    assert "oneDNN" not in done.stderr and "WARNING" not in done.stderr


def test_results_are_on_standard_output(trained):
    _, done = trained
    lines = done.stdout.splitlines()
    assert len([line for line in lines if line.startswith("  ") and line.endswith("%")]) == 10
    assert any(line.startswith("Test accuracy: ") for line in lines)
    assert lines[-1] == "Run: runs/textbook-1"


def test_the_run_folder_is_whole(trained):
    folder, _ = trained
    run = folder / "runs" / "textbook-1"
    assert {p.name for p in run.iterdir()} == FILES | {"checkpoints"}
    check = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=run, capture_output=True).returncode == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["test_examples"], metrics["validation_examples"]) == (10_000, 5_000)
    assert (metrics["train_examples"], metrics["parameters"]) == (55_000, 241_546)
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


def test_predict_on_a_file(trained, real_data):
    folder, _ = trained
    names = []
    for i in range(3):
        Image.fromarray(real_data.test_images[i]).save(folder / f"{i}.png")
        names.append(f"{i}.png")
    done = fashion_cnn("predict", *names, "--format", "jsonl", "--top", "2", cwd=folder)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["path"] for row in rows] == names
    with np.load(folder / "runs/textbook-1/predictions.npz", allow_pickle=False) as saved:
        expected = saved["test_probabilities"][:3]
    for row, probabilities in zip(rows, expected, strict=True):
        assert row["label"] == real_data.class_names[probabilities.argmax()]
        assert row["probability"] == pytest.approx(probabilities.max(), abs=1e-4)
        assert len(row["top"]) == 2


def test_a_run_resumed_from_the_command_line_says_it_is_done(trained):
    folder, _ = trained
    run = folder / "runs" / "textbook-1"
    before = (run / "history.csv").read_text()
    done = fashion_cnn("train", "--run", run, "--resume", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "already finished" in done.stderr
    assert (run / "history.csv").read_text() == before
    other = fashion_cnn("train", "textbook-plus", "--run", run, "--resume", cwd=folder)
    assert other.returncode == 2
    assert "started with another recipe" in other.stderr


def test_a_run_broken_off_is_resumed_to_the_same_end(trained):
    folder, _ = trained
    run = folder / "runs" / "textbook-1"
    broken = folder / "runs" / "broken"
    shutil.copytree(run, broken)
    for name in ("SHA256SUMS", "model.keras", "metrics.json", "predictions.npz", "history.csv"):
        (broken / name).unlink()
    done = fashion_cnn("train", "--run", broken, "--resume", cwd=folder)
    assert done.returncode == 0, done.stderr
    for name in ("history.csv", "metrics.json", "recipe.json"):
        assert (broken / name).read_text() == (run / name).read_text()


def test_data_is_shown_and_sampled(tmp_path):
    done = fashion_cnn("data", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Verified") == 4
    assert "all             55,000       5,000  10,000" in done.stdout
    assert (tmp_path / "fashion-mnist-samples.png").stat().st_size > 10_000
