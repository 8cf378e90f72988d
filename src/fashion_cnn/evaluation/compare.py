"""Evaluated runs in; their metrics side by side and significance tests of their differences out."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fashion_cnn.run import Run

COLUMNS = (
    "test_accuracy",
    "test_accuracy_interval",
    "test_loss",
    "test_ece",
    "parameters",
    "train_seconds",
)


RECORDED, CORRECTED = "as recorded", "as corrected"


@dataclass(frozen=True)
class _Tested:
    """What a run predicted for its test images."""

    checksums: dict[str, str]  # of the test images, before decisions
    decisions: str  # checksum
    index: np.ndarray  # of each image among those before decisions
    predicted: np.ndarray
    recorded: np.ndarray  # labels before decisions
    corrected: np.ndarray  # labels


def compare_runs(runs: Sequence[Run]) -> dict[str, Any]:
    """Compare at least two runs that were evaluated on the same test images.

    Runs with other decisions about labels are compared on the test images that both have; where
    decisions corrected labels of these, twice: with the labels as they were, and as corrected by
    the run that corrected more of them.

    Returns:
        `runs`: path -> `COLUMNS`; `pairs`: for each pair of runs `runs` (two paths), `labels` (`as
        recorded` or `as corrected`), `images` (a count), their `accuracies`, `difference` (first
        less second), `only_first` and `only_second` (how many images only that one classifies
        correctly) and `p_value` (McNemar's test).

    Raises:
        FileNotFoundError: one is not a finished run.
        ValueError: the test images differ, or a file is damaged.
    """
    table: dict[str, Any] = {}
    for run in runs:
        metrics = run.metrics()
        table[str(run)] = {key: metrics.get(key) for key in COLUMNS}
    tested = [_read_tested(run) for run in runs]
    for run, result in zip(runs, tested, strict=True):
        if not _same_images(result, tested[0]):
            raise ValueError(f"{runs[0]} and {run}: tested on different images; nothing to compare")
    pairs = []
    for a, b in itertools.combinations(range(len(runs)), 2):
        for row in _compare_pair(tested[a], tested[b]):
            pairs.append({"runs": [str(runs[a]), str(runs[b])], **row})
    return {"runs": table, "pairs": pairs}


def _read_tested(run: Run) -> _Tested:
    arrays, sha256 = run.predictions(), run.data_source()["sha256"]
    labels = arrays["test_labels"]
    return _Tested(
        {k: v for k, v in sha256.items() if "train" not in k and k != "decisions"},
        sha256.get("decisions", ""),
        arrays.get("test_index", np.arange(len(labels))),
        arrays["test_probabilities"].argmax(1),
        arrays.get("recorded_test_labels", labels),
        labels,
    )


def _same_images(first: _Tested, second: _Tested) -> bool:
    """Whether two runs had the same test images and labels before decisions."""
    _, a, b = np.intersect1d(first.index, second.index, return_indices=True)
    is_complete = first.decisions != second.decisions or len(first.index) == len(second.index)
    same_labels = np.array_equal(first.recorded[a], second.recorded[b])
    return first.checksums == second.checksums and is_complete and same_labels


def _compare_pair(first: _Tested, second: _Tested) -> list[dict[str, Any]]:
    """A row for the labels of both runs; two if their decisions differ and changed some of them."""
    common, a, b = np.intersect1d(first.index, second.index, return_indices=True)
    views = {RECORDED: first.recorded[a]}
    if first.decisions != second.decisions:
        both = (first.corrected[a], second.corrected[b])
        corrected = max(both, key=lambda labels: (labels != views[RECORDED]).sum())
        if (corrected != views[RECORDED]).any():  # else one test would be counted as two
            views[CORRECTED] = corrected
    elif first.decisions:
        views = {CORRECTED: first.corrected[a]}
    rows = []
    for name, labels in views.items():
        correct = first.predicted[a] == labels, second.predicted[b] == labels
        only_first, only_second = (int((x & ~y).sum()) for x, y in (correct, correct[::-1]))
        accuracies = [float(x.mean()) for x in correct]
        rows.append(
            {
                "labels": name,
                "images": len(common),
                "accuracies": accuracies,
                "difference": accuracies[0] - accuracies[1],
                "only_first": only_first,
                "only_second": only_second,
                "p_value": mcnemar(only_first, only_second),
            }
        )
    return rows


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p-value of McNemar's exact test; counts of images only that one gets right."""
    from scipy.stats import binomtest

    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
