"""Searches, and several seeds of a recipe."""

import json
import statistics
import subprocess
import time
from dataclasses import replace

import numpy as np
import pytest
from command import PROGRAM, die, fashion_cnn
from multi_process import QUICK, SEARCH_SPACE, read_csv

from fashion_cnn import load_data
from fashion_cnn.data.decisions import Decision, pixels_sha256, to_csv
from fashion_cnn.experiments.search_space import read_space
from fashion_cnn.experiments.tune import open_study, tune
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.parallel.pool import open_pool
from fashion_cnn.recipes import find_recipe
from fashion_cnn.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fast_compilation")]


def test_a_killed_search_is_resumed_and_runs_each_trial_once(few_images, tmp_path):
    folder, space = tmp_path / "search", tmp_path / "space.json"
    space.write_text(json.dumps(SEARCH_SPACE))
    (tmp_path / "quick.json").write_text(QUICK.to_json())
    call = (
        "tune",
        tmp_path / "quick.json",
        "--data",
        few_images,
        "--space",
        space,
        "--output",
        folder,
    )
    call = [PROGRAM, *map(str, call), "--set", "batch_size=32", "--trials", "5"]
    with subprocess.Popen(call, stderr=subprocess.DEVNULL) as process:
        for _ in range(1200):
            if len(read_csv(folder / "trials.csv")) >= 2:
                break
            time.sleep(0.05)
        process.kill()
    before = read_csv(folder / "trials.csv")
    assert 2 <= len(before) < 5
    with (folder / "journal.log").open("ab") as journal:
        journal.write(b'{"op_code": 4, "work')  # as when the disk is full
    fashion_cnn(*call[1:])
    after = read_csv(folder / "trials.csv")
    assert after[: len(before)] == before
    assert sorted(int(row["trial"]) for row in after) == [0, 1, 2, 3, 4]
    assert (folder / "trials.png").stat().st_size > 10_000
    complete = {row["trial"]: row for row in after if row["state"] == "COMPLETE"}
    best = max(complete.values(), key=lambda row: float(row["val_accuracy"]))
    recipe = find_recipe(str(folder / "best.json"))
    assert recipe.learning_rate == float(best["learning_rate"])
    assert recipe == find_recipe(str(folder / f"trial-{best['trial']}" / "recipe.json"))
    history = Run(folder / f"trial-{best['trial']}").history()
    assert history["val_accuracy"][-1] == float(
        best["val_accuracy"]
    )  # the last epoch, not the best
    first = find_recipe(str(folder / "trial-0" / "recipe.json"))
    assert (first.learning_rate, first.options["dropout"]) == (0.001, 0.0)  # the recipe itself
    assert not list(folder.rglob("predictions.npz"))  # the test images were not used
    other = fashion_cnn(*call[1:], "--set", "epochs=2", status=1)
    assert f"{folder}: started with another recipe" in other.stderr


def test_a_trial_that_cannot_train_is_a_failed_row(few_images, tmp_path, serial_pool):
    rates = {"learning_rate": [1e30, 0.001]}
    rows = tune(
        replace(QUICK, optimizer="sgd"), {"source": str(few_images)}, rates, 3, tmp_path / "rates"
    )
    failed = [row for row in rows if row["learning_rate"] == 1e30]
    assert failed
    for row in failed:
        assert (row["state"], row["val_accuracy"]) == ("FAIL", None)
        assert "--learning-rate" in row["error"]
    with pytest.raises(ValueError, match="no trial was completed"):
        tune(QUICK, {"source": str(few_images)}, {"batch_size": [400_000]}, 1, tmp_path / "none")
    models = {"model": ["compact", "textbook"], "hidden": [8], "dropout": {"low": 0, "high": 0.5}}
    rows = tune(
        replace(QUICK, epochs=1), {"source": str(few_images)}, models, 5, tmp_path / "models"
    )
    failed = [row for row in rows if row["model"] == "textbook"]
    assert 0 < len(failed) < 5
    assert all("hidden: unknown" in row["error"] for row in failed)
    assert any(0 < row["dropout"] < 1 for row in rows)


def test_a_trial_whose_process_dies_is_a_failed_row(few_images, tmp_path, monkeypatch, serial_pool):
    with monkeypatch.context() as patch:
        patch.setattr("fashion_cnn.experiments.tune.open_pool", open_pool)
        patch.setattr("fashion_cnn.experiments.tune._run_trial", die)
        with pytest.raises(ValueError, match=r"no trial was completed .its process died 3 ti"):
            tune(QUICK, {"source": str(few_images)}, SEARCH_SPACE, 1, tmp_path / "dead")
    rows = tune(
        QUICK, {"source": str(few_images)}, SEARCH_SPACE, 2, tmp_path / "dead"
    )  # the search goes on
    assert [(row["state"], row["seconds"] > 0) for row in rows] == [
        ("COMPLETE", True),
        ("FAIL", False),
    ]
    open_study(tmp_path / "dead", QUICK).ask()  # as if killed before it had any value
    rows = tune(QUICK, {"source": str(few_images)}, SEARCH_SPACE, 3, tmp_path / "dead")
    assert [row["state"] for row in rows] == ["COMPLETE", "FAIL", "FAIL"]
    open_study(tmp_path / "dead", QUICK).enqueue_trial(
        {"dropout": 0.2}
    )  # as if killed before it started
    assert len(tune(QUICK, {"source": str(few_images)}, SEARCH_SPACE, 4, tmp_path / "dead")) == 4


def test_an_invalid_space_is_refused(few_images, tmp_path):
    with pytest.raises(ValueError, match="validation: got test"):
        tune(
            replace(QUICK, validation="test"),
            {"source": str(few_images)},
            SEARCH_SPACE,
            1,
            tmp_path / "test",
        )
    for text in (
        "{",
        "[]",
        '{"epochs": {"low": 1, "high": 3, "step": 0}}',
        '{"dropout": {"low": "0.1", "high": "0.5"}}',
        '{"flip_average": {"low": false, "high": true}}',
        '{"validation": ["test"]}',
        '{"color": [1]}',
        '{"dropout": {"low": 0.1}}',
        '{"momentum": [2.0]}',
    ):
        (tmp_path / "space.json").write_text(text)
        with pytest.raises(ValueError, match=r"space\.json: "):
            read_space(tmp_path / "space.json", QUICK)


def test_seeds_are_runs_and_their_ensemble_is_a_run(few_images, tmp_path):
    folder = tmp_path / "seeds"
    (tmp_path / "quick.json").write_text(replace(QUICK, flip_average=True).to_json())
    image = load_data(few_images).train_images[0]
    decisions = tmp_path / "decisions.csv"
    decided = Decision("train/0", pixels_sha256(image), "none", was="Bag")
    decisions.write_bytes(to_csv([decided]).encode())
    call = ("train", tmp_path / "quick.json", "--data", few_images, "--seeds", "2", "--run", folder)
    call += ("--decisions", decisions)
    trained = fashion_cnn(*call, "--ensemble")
    assert Run(folder / "seed-0").recipe_values()["batch_size"] == 32  # as the file says
    rows = read_csv(folder / "seeds.csv")
    assert [row["seed"] for row in rows] == ["0", "1"]
    accuracies = [Run(folder / f"seed-{i}").metrics()["test_accuracy"] for i in (0, 1)]
    assert [float(row["test_accuracy"]) for row in rows] == accuracies
    mean, sd = 100 * statistics.mean(accuracies), 100 * statistics.stdev(accuracies)
    assert f"Test accuracy: {mean:.2f} ± {sd:.2f} % (mean and sd of 2 seeds)" in trained.stdout
    members = [Run(folder / f"seed-{i}").predictions() for i in (0, 1)]
    averaged = Run(folder / "ensemble").predictions()["test_probabilities"]
    expected = sum(x["test_probabilities"] for x in members) / 2
    np.testing.assert_allclose(averaged, expected, atol=1e-6)
    assert np.abs(members[0]["test_probabilities"] - expected).max() > 0.001
    card = Classifier.load(folder / "ensemble").card
    assert "--seeds 2 --ensemble" in card["command"]
    again = fashion_cnn(*call)
    assert again.stdout.splitlines()[:4] == trained.stdout.splitlines()[:4]
    for wrong in (("--processes", "2"), ("--resume",)):
        fashion_cnn(*call, *wrong, status=2)
