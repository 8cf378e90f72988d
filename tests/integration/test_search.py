"""Searches and seeds."""

import json
import statistics
import subprocess
import time
from dataclasses import replace

import numpy as np
import pytest
from command import PROGRAM, die, fashion_cnn
from scaling import QUICK, SPACE, read_csv

from fashion_cnn.experiments.tune import _study, read_space, tune
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.parallel.pool import tasks
from fashion_cnn.recipes import find_recipe
from fashion_cnn.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quickly_compiled")]


def test_a_search_that_was_killed_goes_on_and_tries_each_trial_once(few, tmp_path):
    folder, space = tmp_path / "search", tmp_path / "space.json"
    space.write_text(json.dumps(SPACE))
    (tmp_path / "quick.json").write_text(QUICK.to_json())
    call = ("tune", tmp_path / "quick.json", "--data", few, "--space", space, "--output", folder)
    call = [PROGRAM, *map(str, call), "--set", "batch_size=32", "--trials", "5"]
    with subprocess.Popen(call, stderr=subprocess.DEVNULL) as process:
        for _ in range(1200):
            if len(read_csv(folder / "trials.csv")) >= 2:
                break
            time.sleep(0.05)
        process.kill()
    before = read_csv(folder / "trials.csv")
    assert 2 <= len(before) < 5
    fashion_cnn(*call[1:])
    after = read_csv(folder / "trials.csv")
    assert after[: len(before)] == before
    assert sorted(int(row["trial"]) for row in after) == [0, 1, 2, 3, 4]
    assert (folder / "trials.png").stat().st_size > 10_000
    whole = {row["trial"]: row for row in after if row["state"] == "COMPLETE"}
    best = max(whole.values(), key=lambda row: float(row["val_accuracy"]))
    recipe = find_recipe(str(folder / "best.json"))
    assert recipe.learning_rate == float(best["learning_rate"])
    assert recipe == find_recipe(str(folder / f"trial-{best['trial']}" / "recipe.json"))
    history = Run(folder / f"trial-{best['trial']}").history()
    assert history["val_accuracy"][-1] == float(best["val_accuracy"])  # its end, not its best
    first = find_recipe(str(folder / "trial-0" / "recipe.json"))
    assert (first.learning_rate, first.options["dropout"]) == (0.001, 0.0)  # the recipe itself
    assert not list(folder.rglob("predictions.npz"))  # the test images were not looked at
    other = fashion_cnn(*call[1:], "--set", "epochs=2", status=1)
    assert f"{folder}: begun with another recipe" in other.stderr


def test_a_trial_that_cannot_be_is_a_row(few, tmp_path, tasks_here):
    steep = {"learning_rate": [1e30, 0.001]}
    rows = tune(replace(QUICK, optimizer="sgd"), str(few), steep, 3, tmp_path / "steep")
    failed = [row for row in rows if row["learning_rate"] == 1e30]
    assert failed
    for row in failed:
        assert (row["state"], row["val_accuracy"]) == ("FAIL", None)
        assert "--learning-rate" in row["error"]
    with pytest.raises(ValueError, match="no trial came to its end"):
        tune(QUICK, str(few), {"batch_size": [400_000]}, 1, tmp_path / "none")
    models = {"model": ["compact", "textbook"], "hidden": [8], "dropout": {"low": 0, "high": 0.5}}
    rows = tune(replace(QUICK, epochs=1), str(few), models, 5, tmp_path / "models")
    failed = [row for row in rows if row["model"] == "textbook"]
    assert 0 < len(failed) < 5
    assert all("hidden: unknown" in row["error"] for row in failed)
    assert any(0 < row["dropout"] < 1 for row in rows)


def test_a_trial_whose_process_dies_is_a_row(few, tmp_path, monkeypatch, tasks_here):
    with monkeypatch.context() as patch:
        patch.setattr("fashion_cnn.experiments.tune.tasks", tasks)
        patch.setattr("fashion_cnn.experiments.tune._try", die)
        with pytest.raises(ValueError, match=r"no trial came to its end .its process died 3 ti"):
            tune(QUICK, str(few), SPACE, 1, tmp_path / "dead")
    rows = tune(QUICK, str(few), SPACE, 2, tmp_path / "dead")  # goes on all the same
    assert [(row["state"], row["seconds"] > 0) for row in rows] == [
        ("COMPLETE", True),
        ("FAIL", False),
    ]
    _study(tmp_path / "dead", QUICK).ask()  # killed before it knew any value
    rows = tune(QUICK, str(few), SPACE, 3, tmp_path / "dead")
    assert [row["state"] for row in rows] == ["COMPLETE", "FAIL", "FAIL"]
    _study(tmp_path / "dead", QUICK).enqueue_trial({"dropout": 0.2})  # killed before it was begun
    assert len(tune(QUICK, str(few), SPACE, 4, tmp_path / "dead")) == 4


def test_a_wrong_space_is_refused(few, tmp_path):
    with pytest.raises(ValueError, match="validation: got test"):
        tune(replace(QUICK, validation="test"), str(few), SPACE, 1, tmp_path / "test")
    for text in (
        "{",
        "[]",
        '{"epochs": {"low": 1, "high": 3, "step": 0}}',
        '{"dropout": {"low": "0.1", "high": "0.5"}}',
        '{"flip_average": {"low": false, "high": true}}',
        '{"validation": ["test"]}',
        '{"colour": [1]}',
        '{"dropout": {"low": 0.1}}',
        '{"momentum": [2.0]}',
    ):
        (tmp_path / "space.json").write_text(text)
        with pytest.raises(ValueError, match=r"space\.json: "):
            read_space(tmp_path / "space.json", QUICK)


def test_seeds_are_runs_whose_mean_is_one_model(few, tmp_path):
    folder = tmp_path / "seeds"
    (tmp_path / "quick.json").write_text(replace(QUICK, flip_average=True).to_json())
    call = ("train", tmp_path / "quick.json", "--data", few, "--seeds", "2", "--run", folder)
    said = fashion_cnn(*call, "--ensemble")
    assert Run(folder / "seed-0").recipe_values()["batch_size"] == 32  # as the file says
    rows = read_csv(folder / "seeds.csv")
    assert [row["seed"] for row in rows] == ["0", "1"]
    found = [Run(folder / f"seed-{i}").metrics()["test_accuracy"] for i in (0, 1)]
    assert [float(row["test_accuracy"]) for row in rows] == found
    mean, sd = 100 * statistics.mean(found), 100 * statistics.stdev(found)
    assert f"Test accuracy: {mean:.2f} ± {sd:.2f} % (mean and sd of 2 seeds)" in said.stdout
    each = [Run(folder / f"seed-{i}").predictions() for i in (0, 1)]
    together = Run(folder / "ensemble").predictions()["test_probabilities"]
    expected = sum(one["test_probabilities"] for one in each) / 2
    np.testing.assert_allclose(together, expected, atol=1e-6)
    assert np.abs(each[0]["test_probabilities"] - expected).max() > 0.001
    card = Classifier.load(folder / "ensemble").card
    assert "--seeds 2 --ensemble" in card["command"]
    again = fashion_cnn(*call)
    assert again.stdout.splitlines()[:4] == said.stdout.splitlines()[:4]
    for wrong in (("--processes", "2"), ("--resume",)):
        fashion_cnn(*call, *wrong, status=2)
