"""Claim: of the textbook's improvements only dropout helps in ten epochs without any cost.

    python benchmarks/improvements.py [--seeds 5]

Trains the textbook network, each of its improvements alone, and all of them together for the
textbook's 10 epochs on the 55,000 training images. A finished run is a row of `improvements.csv`;
finished rows are skipped. Prints the table of docs/results.md. Nothing is chosen on the test set.
Seeds: 3 in the table of docs/results.md. Machine: 2 CPU cores. Duration: 6 minutes a seed.
"""

import argparse
import dataclasses
from functools import partial
from pathlib import Path

import _results as results

ROWS = Path(__file__).with_suffix(".csv")
VARIANTS = (  # as they are written after `fashion-cnn train`
    "textbook",
    "textbook-padded",
    "textbook --set batch_norm=true",
    "textbook --set dropout=0.3",
    "textbook --set augment=flip,shift",
    "textbook-plus",
)


def train_variant(variant: str, seed: int, data) -> dict[str, object]:
    from fashion_cnn import RECIPES, evaluate, train
    from fashion_cnn.recipe import with_settings

    name, _, setting = variant.partition(" --set ")
    settings = dict([setting.split("=")]) if setting else {}
    recipe = dataclasses.replace(with_settings(RECIPES[name], settings), seed=seed)
    trained = train(recipe, data)
    test = evaluate(trained.model, *data.split("test"))
    training = evaluate(trained.model, *data.split("train"))
    validation = [row["val_accuracy"] for row in trained.history]
    epochs_at_90 = [epoch for epoch, accuracy in enumerate(validation, 1) if accuracy >= 0.9]
    return {
        "test_accuracy": round(test["accuracy"], 4),
        "test_loss": round(test["loss"], 4),
        "train_accuracy": round(training["accuracy"], 5),
        "val_accuracy": round(validation[-1], 4),
        "gap": round(training["accuracy"] - validation[-1], 5),
        "epochs_to_90": epochs_at_90[0] if epochs_at_90 else "",
    }


def table(rows: list[results.Row]) -> str:
    """Return the table of docs/results.md: mean ± sd over the seeds."""
    header = ["variant", "test accuracy, %", "train - validation, points", "epochs to 90 %"]
    lines = []
    for variant in VARIANTS:
        runs = results.select(rows, variant=variant)
        if not runs:
            continue
        reached = [row for row in runs if row["epochs_to_90"]]
        epochs = f"{len(reached)} of {len(runs)} runs"
        if len(reached) == len(runs):
            epochs = results.mean_sd(runs, "epochs_to_90", decimals=1)
        accuracy = results.mean_sd(runs, "test_accuracy", 100)
        lines.append([f"`{variant}`", accuracy, results.mean_sd(runs, "gap", 100), epochs])
    return results.markdown_table(header, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    from fashion_cnn import load_data

    keys = [{"variant": x, "seed": seed} for seed in range(arguments.seeds) for x in VARIANTS]
    rows = results.run_missing(ROWS, keys, partial(train_variant, data=load_data()))
    print(f"{len(results.select(rows, variant='textbook'))} seeds\n\n{table(rows)}")


if __name__ == "__main__":
    main()
