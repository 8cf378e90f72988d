"""Evaluated runs in; their metrics side by side and significance tests of their differences out."""

import itertools
from collections.abc import Sequence
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


def compare_runs(runs: Sequence[Run]) -> dict[str, Any]:
    """Compare runs that were evaluated on the same test images.

    Args:
        runs: at least two run folders.

    Returns:
        `runs`: path -> `COLUMNS`; `pairs`: for each pair of runs `runs` (two paths), `difference`
        of the test accuracies, `only_first` and `only_second` (how many images only that one
        classifies correctly) and `p_value` (McNemar's test).

    Raises:
        FileNotFoundError: one is not a finished run.
        ValueError: the test images differ, or a file is damaged.
    """
    table, correct, test_data = {}, {}, {}
    for run in runs:
        metrics = run.metrics()
        table[str(run)] = {key: metrics.get(key) for key in COLUMNS}
        arrays = run.predictions()
        correct[run] = arrays["test_probabilities"].argmax(1) == arrays["test_labels"]
        test_data[run] = _test_data(run, arrays["test_labels"])
        if test_data[run] != test_data[runs[0]]:
            raise ValueError(f"{runs[0]} and {run}: tested on different images; nothing to compare")
    pairs = []
    for a, b in itertools.combinations(runs, 2):
        only_first = int((correct[a] & ~correct[b]).sum())
        only_second = int((correct[b] & ~correct[a]).sum())
        pairs.append(
            {
                "runs": [str(a), str(b)],
                "difference": float(correct[a].mean() - correct[b].mean()),
                "only_first": only_first,
                "only_second": only_second,
                "p_value": mcnemar(only_first, only_second),
            }
        )
    return {"runs": table, "pairs": pairs}


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p-value of McNemar's exact test, for two classifiers on the same images.

    Args:
        only_first: number of images that only the first classifies correctly.
        only_second: number of images that only the second classifies correctly.
    """
    from scipy.stats import binomtest

    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


def _test_data(run: Run, labels: np.ndarray) -> tuple[dict[str, str], bytes]:
    """What identifies the test images of a run: checksums and labels."""
    checksums = run.data_source()["sha256"]
    return {k: v for k, v in checksums.items() if "train" not in k}, labels.tobytes()
