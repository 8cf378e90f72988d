"""Evaluated runs in; their metrics side by side and significance tests of their differences out."""

import itertools
from collections.abc import Sequence
from typing import Any

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
    """Compare at least two runs that were evaluated on the same test images.

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
        checksums = {k: v for k, v in run.data_source()["sha256"].items() if "train" not in k}
        test_data[run] = checksums, arrays["test_labels"].tobytes()
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
    """Two-sided p-value of McNemar's exact test; counts of images only that one gets right."""
    from scipy.stats import binomtest

    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
