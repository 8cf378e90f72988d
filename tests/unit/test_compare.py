import json

import numpy as np
import pytest

from fashion_cnn.evaluation.compare import compare_runs, mcnemar
from fashion_cnn.run import Run

LABELS = np.arange(100) % 2


def make_run(folder, wrong, labels=LABELS, sha256="one"):
    folder.mkdir()
    predicted = labels.copy()
    predicted[list(wrong)] ^= 1
    probabilities = np.eye(2)[predicted]
    Run(folder).write_predictions({"test_probabilities": probabilities, "test_labels": labels})
    data = {"source": "fashion-mnist", "sha256": {"x_test": sha256}, "class_names": ["a", "b"]}
    Run(folder).write_environment({"data": data})
    Run(folder).write_metrics({"test_accuracy": 1 - len(wrong) / 100})
    return folder


def test_comparison_of_two_runs(tmp_path):
    a = make_run(tmp_path / "a", range(10))
    b = make_run(tmp_path / "b", range(8, 12))
    comparison = compare_runs([Run(run) for run in (a, b)])
    assert comparison["runs"][str(a)]["test_accuracy"] == pytest.approx(0.9)
    (pair,) = comparison["pairs"]
    assert (pair["only_first"], pair["only_second"]) == (2, 8)
    assert pair["difference"] == pytest.approx(-0.06)
    assert pair["p_value"] == mcnemar(2, 8)
    assert json.loads(json.dumps(comparison)) == comparison


def test_runs_with_other_decisions_are_compared_with_both_labels(tmp_path):
    before = make_run(tmp_path / "before", range(10))
    after = make_run(tmp_path / "after", range(10, 14))
    kept = np.delete(np.arange(100), 99)  # one image was left out
    corrected = LABELS[kept].copy()
    corrected[:5] ^= 1  # of which "before" had predicted what they are now
    run = Run(after)
    arrays = {"test_probabilities": run.predictions()["test_probabilities"][kept]}
    arrays |= {"test_labels": corrected, "test_index": kept, "recorded_test_labels": LABELS[kept]}
    run.write_predictions(arrays)
    sha256 = {"x_test": "one", "decisions": "some"}
    data = {"source": "fashion-mnist", "sha256": sha256, "class_names": ["a", "b"]}
    run.write_environment({"data": data})
    pairs = compare_runs([Run(before), run])["pairs"]
    assert [pair["labels"] for pair in pairs] == ["as recorded", "as corrected"]
    assert [pair["images"] for pair in pairs] == [99, 99]
    assert pairs[0]["accuracies"] == [89 / 99, 95 / 99]
    assert pairs[1]["accuracies"] == [94 / 99, 90 / 99]
    assert pairs[1]["p_value"] == mcnemar(pairs[1]["only_first"], pairs[1]["only_second"])
    assert compare_runs([run, Run(before)])["pairs"][1]["accuracies"] == [90 / 99, 94 / 99]
    again = make_run(tmp_path / "again", range(3))
    Run(again).write_predictions(arrays)
    Run(again).write_environment({"data": data})
    (pair,) = compare_runs([run, Run(again)])["pairs"]  # the same decisions
    assert (pair["labels"], pair["difference"]) == ("as corrected", 0)


def test_mcnemar_by_hand():
    # two-sided: twice the probability of 2 or fewer of 10: 2 * (1 + 10 + 45) / 1024
    assert mcnemar(2, 8) == mcnemar(8, 2) == pytest.approx(2 * 56 / 1024)
    assert mcnemar(5, 5) == 1
    assert mcnemar(0, 0) == 1


def test_runs_on_different_test_images_are_refused(tmp_path):
    a = make_run(tmp_path / "a", range(10))
    other = make_run(tmp_path / "other", range(10), sha256="two")
    shorter = make_run(tmp_path / "shorter", range(10), LABELS[:50])
    with pytest.raises(ValueError, match="tested on different images"):
        compare_runs([Run(run) for run in (a, other)])
    with pytest.raises(ValueError, match="tested on different images"):
        compare_runs([Run(run) for run in (a, shorter)])
    with pytest.raises(FileNotFoundError, match=r"nowhere: has no metrics\.json"):
        compare_runs([Run(run) for run in (a, tmp_path / "nowhere")])
