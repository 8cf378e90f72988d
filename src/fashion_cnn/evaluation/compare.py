"""Several measured runs in; their figures side by side, and how likely chance is, out."""

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
    """Put runs that were measured on the same test images side by side.

    Args:
        runs: at least two run folders.

    Returns:
        `runs`: path -> `COLUMNS`; `pairs`: a list of `runs` (two paths), `difference` of the test
        accuracies, `only_first` and `only_second` (how many images only that one gets right) and
        `p_value`.

    Raises:
        FileNotFoundError: one is no finished run.
        ValueError: their test images are not the same, or a file is damaged.
    """
    metrics = {run: run.metrics() for run in runs}
    arrays = {run: run.predictions() for run in runs}
    for run in runs[1:]:
        if _tested_on(run, arrays[run]) != _tested_on(runs[0], arrays[runs[0]]):
            raise ValueError(f"{runs[0]} and {run}: tested on different images; nothing to compare")
    right = {
        run: x["test_probabilities"].argmax(1) == x["test_labels"] for run, x in arrays.items()
    }
    pairs = []
    for a, b in itertools.combinations(runs, 2):
        only_a, only_b = int((right[a] & ~right[b]).sum()), int((right[b] & ~right[a]).sum())
        pairs.append(
            {
                "runs": [str(a), str(b)],
                "difference": float(right[a].mean() - right[b].mean()),
                "only_first": only_a,
                "only_second": only_b,
                "p_value": mcnemar(only_a, only_b),
            }
        )
    table = {str(run): {key: found.get(key) for key in COLUMNS} for run, found in metrics.items()}
    return {"runs": table, "pairs": pairs}


def mcnemar(only_first: int, only_second: int) -> float:
    """How likely two equally good classifiers are to differ this much (exact, two-sided).

    Args:
        only_first: how many images only the first gets right.
        only_second: how many only the second does.
    """
    from scipy.stats import binomtest

    differ = only_first + only_second
    return float(binomtest(only_first, differ).pvalue) if differ else 1.0


def _tested_on(run: Run, arrays: dict[str, np.ndarray]) -> tuple[Any, bytes]:
    """What tells one set of test images from another."""
    sums = {k: v for k, v in run.data_source()["sha256"].items() if "train" not in k}
    return sums, arrays["test_labels"].tobytes()
