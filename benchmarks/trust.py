"""How far the recipes can be believed: calibration, robustness, and the test labels' own mistakes.

    python benchmarks/trust.py [--seeds 5] [--recipes textbook,standard]

Trains each recipe, fits its temperature on the validation images, and measures on the test images,
one row a finished run into `trust.csv` (finished rows are skipped, so it can be stopped and
started). The audit of the labels (`fashion-cnn audit`, recipe quick) comes first; its folds stay
in `runs/audit`. Prints the figures of the README's table.
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path

from _rows import finished_rows, keep
from improvements import mean_sd

ROWS = Path(__file__).with_suffix(".csv")
AUDIT = Path("runs/audit")
RECIPES_SHOWN = "textbook,standard"
KINDS = (
    "noise",
    "blur",
    "shift",
    "rotation",
    "brightness",
    "contrast",
    "inverted tones",
    "occlusion",
)


def one_run(name: str, seed: int, data) -> dict[str, object]:
    from fashion_cnn import RECIPES, predict, train
    from fashion_cnn.evaluation import measure_run
    from fashion_cnn.evaluation.robustness import robustness
    from fashion_cnn.experiments.audit import accuracy_without_suspects
    from fashion_cnn.run import Run

    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        model = train(dataclasses.replace(RECIPES[name], seed=seed), data, run).model
        metrics = measure_run(Run(run), data)
        without = accuracy_without_suspects(Run(run), AUDIT)
    found = robustness(lambda images: predict(model, images), *data.split("test"))
    keys = ("accuracy", "ece", "calibrated_ece", "loss", "calibrated_loss")
    row = {"recipe": name, "seed": seed, "temperature": round(metrics["temperature"], 4)}
    row |= {key: round(metrics[f"test_{key}"], 5) for key in keys}
    row["accuracy_without_suspects"] = round(without["without"], 5)
    row |= {kind: round(found["corruptions"][kind]["accuracy"][1], 4) for kind in KINDS}
    return row


def table(rows: list[dict[str, str]]) -> str:
    """The README's two tables: belief, and accuracy under each corruption at medium strength."""
    columns = {
        "temperature": ("temperature", 1),
        "calibration error, %": ("ece", 100),
        "at the temperature, %": ("calibrated_ece", 100),
        "test accuracy, %": ("accuracy", 100),
        "without suspects, %": ("accuracy_without_suspects", 100),
    }
    harm = {kind: (kind, 100) for kind in KINDS}
    return "\n\n".join(_table(rows, part) for part in (columns, harm))


def _table(rows: list[dict[str, str]], columns: dict[str, tuple[str, int]]) -> str:
    lines = [f"| recipe | {' | '.join(columns)} |", "| --- " * (len(columns) + 1) + "|"]
    for name in dict.fromkeys(row["recipe"] for row in rows):
        mine = [row for row in rows if row["recipe"] == name]
        cells = [mean_sd([float(r[key]) for r in mine], by) for key, by in columns.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--recipes", default=RECIPES_SHOWN)
    arguments = parser.parse_args()
    from fashion_cnn import RECIPES, load_data
    from fashion_cnn.experiments.audit import audit

    data = load_data()
    print(audit(data, RECIPES["quick"], AUDIT))
    for seed in range(arguments.seeds):
        for name in arguments.recipes.split(","):
            done = {(row["recipe"], row["seed"]) for row in finished_rows(ROWS)}
            if (name, str(seed)) not in done:
                keep(ROWS, one_run(name, seed, data))
    print(table(finished_rows(ROWS)))


if __name__ == "__main__":
    main()
