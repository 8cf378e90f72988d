"""Claim: temperature scaling calibrates the recipes; corruptions of photos harm them.

    python benchmarks/trust.py [--seeds 5] [--recipes textbook,standard]

Trains each recipe, fits its temperature on the validation images, and measures calibration,
robustness, and accuracy without suspected label errors on the test images. A finished run is a row
of `trust.csv`; finished rows are skipped. The label audit (`fashion-cnn audit`, recipe quick) comes
first; its folds stay in `runs/audit`. Prints the two tables of docs/results.md.
Seeds: 5. Machine: 2 CPU cores. Duration: 15 minutes.
"""

import argparse
import dataclasses
import tempfile
from functools import partial
from pathlib import Path

import _results as results

ROWS = Path(__file__).with_suffix(".csv")
AUDIT = Path("runs/audit")
CALIBRATION = {  # heading -> (column, scale)
    "temperature": ("temperature", 1),
    "calibration error, %": ("ece", 100),
    "after temperature scaling, %": ("calibrated_ece", 100),
    "test accuracy, %": ("accuracy", 100),
    "without suspected label errors, %": ("accuracy_without_suspects", 100),
}
CORRUPTIONS = ("noise", "blur", "shift", "rotation", "brightness", "contrast")
CORRUPTIONS += ("inverted tones", "occlusion")
MEDIUM = 1  # index of the corruptions' strengths


def measure_one(recipe: str, seed: int, data) -> dict[str, object]:
    from fashion_cnn import RECIPES, predict, train
    from fashion_cnn.evaluation import measure_run
    from fashion_cnn.evaluation.robustness import robustness
    from fashion_cnn.experiments.audit import accuracy_without_suspects
    from fashion_cnn.run import Run

    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / "run")
        model = train(dataclasses.replace(RECIPES[recipe], seed=seed), data, run).model
        metrics = measure_run(run, data)
        audited = accuracy_without_suspects(run, AUDIT)
    corrupted = robustness(lambda images: predict(model, images), *data.split("test"))
    corruptions = corrupted["corruptions"]
    keys = ("accuracy", "ece", "calibrated_ece", "loss", "calibrated_loss")
    row: dict[str, object] = {"temperature": round(metrics["temperature"], 4)}
    row |= {key: round(metrics[f"test_{key}"], 5) for key in keys}
    row["accuracy_without_suspects"] = round(audited["without"], 5)
    return row | {x: round(corruptions[x]["accuracy"][MEDIUM], 4) for x in CORRUPTIONS}


def table(rows: list[results.Row]) -> str:
    """Return the two tables of docs/results.md: calibration, and accuracy on corrupted images."""
    corruptions = {name: (name, 100) for name in CORRUPTIONS}
    tables = []
    for columns in (CALIBRATION, corruptions):
        lines = []
        for name in dict.fromkeys(row["recipe"] for row in rows):
            runs = results.select(rows, recipe=name)
            lines.append([name, *(results.mean_sd(runs, *column) for column in columns.values())])
        tables.append(results.markdown_table(["recipe", *columns], lines))
    return "\n\n".join(tables)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--recipes", default="textbook,standard")
    arguments = parser.parse_args()
    from fashion_cnn import RECIPES, load_data
    from fashion_cnn.experiments.audit import audit

    data, names = load_data(), arguments.recipes.split(",")
    print(audit(data, RECIPES["quick"], AUDIT))
    keys = [{"recipe": name, "seed": seed} for seed in range(arguments.seeds) for name in names]
    print(table(results.run_missing(ROWS, keys, partial(measure_one, data=data))))


if __name__ == "__main__":
    main()
