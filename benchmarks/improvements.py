"""The textbook's list of improvements, each alone and together: what each one does.

    python benchmarks/improvements.py [--seeds 5]

Trains every variant for the textbook's 10 epochs on the 55,000 training images, one row a finished
run into `improvements.csv` (finished rows are skipped, so it can be stopped and started), and
prints the figures of the README's table. The test set is only read out, never used to choose.
"""

import argparse
import dataclasses
import statistics
from pathlib import Path

from _rows import finished_rows, keep

ROWS = Path(__file__).with_suffix(".csv")
VARIANTS = {
    "textbook": ("textbook", {}),
    "textbook-padded": ("textbook-padded", {}),
    "batch normalisation": ("textbook", {"batch_norm": "true"}),
    "dropout 0.3": ("textbook", {"dropout": "0.3"}),
    "augmentation": ("textbook", {"augment": "flip,shift"}),
    "all three": ("textbook-plus", {}),
}


def one_run(variant: str, seed: int, data) -> dict[str, object]:
    from fashion_cnn import RECIPES, evaluate, train
    from fashion_cnn.recipe import with_settings

    name, settings = VARIANTS[variant]
    recipe = dataclasses.replace(with_settings(RECIPES[name], settings), seed=seed)
    trained = train(recipe, data)
    test, fitted = (evaluate(trained.model, *data.split(split)) for split in ("test", "train"))
    val = [row["val_accuracy"] for row in trained.history]
    reached = [epoch for epoch, accuracy in enumerate(val, 1) if accuracy >= 0.9]
    return {
        "variant": variant,
        "seed": seed,
        "test_accuracy": round(test["accuracy"], 4),
        "test_loss": round(test["loss"], 4),
        "train_accuracy": round(fitted["accuracy"], 5),
        "val_accuracy": round(val[-1], 4),
        "gap": round(fitted["accuracy"] - val[-1], 5),
        "epochs_to_90": reached[0] if reached else "",
    }


def mean_sd(values: list[float], scale: float = 1.0) -> str:
    sd = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values) * scale:.2f} ± {sd * scale:.2f}"


def table(rows: list[dict[str, str]]) -> str:
    lines = [
        "| variant | n | test accuracy, % | train - validation, points | epochs to 90 % |",
        "| --- | --- | --- | --- | --- |",
    ]
    for variant in VARIANTS:
        mine = [row for row in rows if row["variant"] == variant]
        if not mine:
            continue
        epochs = [float(row["epochs_to_90"]) for row in mine if row["epochs_to_90"]]
        reached = (
            mean_sd(epochs) if len(epochs) == len(mine) else f"{len(epochs)} of {len(mine)} runs"
        )
        accuracy = mean_sd([float(row["test_accuracy"]) for row in mine], 100)
        gap = mean_sd([float(row["gap"]) for row in mine], 100)
        lines.append(f"| {variant} | {len(mine)} | {accuracy} | {gap} | {reached} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    from fashion_cnn import load_data

    data = load_data()
    for seed in range(arguments.seeds):
        for variant in VARIANTS:
            rows = finished_rows(ROWS)
            if any((row["variant"], row["seed"]) == (variant, str(seed)) for row in rows):
                continue
            keep(ROWS, one_run(variant, seed, data))
    print(table(finished_rows(ROWS)))


if __name__ == "__main__":
    main()
