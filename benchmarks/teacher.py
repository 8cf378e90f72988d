"""Claim: distillation from `thorough` makes small recipes more accurate in the same training time.

    python benchmarks/teacher.py [--seeds 5]

Trains each recipe on the labels alone and with `thorough` as its teacher, in turns, on the 55,000
training images. A finished run is a row of `teacher.csv`; finished rows are skipped. Prints the
table of docs/results.md. The seconds are those of the epochs, without the teacher's predictions,
which are computed once for all runs. Nothing is chosen on the test set.
Seeds: 5. Machine: 2 CPU cores. Duration: 17 minutes.
"""

import argparse
import dataclasses
import itertools
import statistics
from functools import partial
from pathlib import Path

import _results as results

ROWS = Path(__file__).with_suffix(".csv")
RECIPES = ("sprint", "quick", "standard")
TEACHERS = ("", "thorough")


def train_one(recipe: str, teacher: str, seed: int, data) -> dict[str, object]:
    from fashion_cnn import evaluate, train
    from fashion_cnn.recipes import find_recipe

    trained = train(dataclasses.replace(find_recipe(recipe), teacher=teacher, seed=seed), data)
    row: dict[str, object] = {}
    for split in ("validation", "test"):
        metrics = evaluate(trained.model, *data.split(split))
        row |= {f"{split}_{key}": round(metrics[key], 4) for key in ("accuracy", "loss")}
    return row | {"seconds": round(trained.seconds, 1)}


def table(rows: list[results.Row]) -> str:
    """Return the table of docs/results.md: mean ± sd of the accuracies, median of the seconds."""
    header = ["recipe", "trained on", "validation accuracy, %", "test accuracy, %", "seconds", "n"]
    lines = []
    for recipe, teacher in itertools.product(RECIPES, TEACHERS):
        runs = results.select(rows, recipe=recipe, teacher=teacher)
        if len(runs) < 2:
            continue
        targets = f"labels and `{teacher}`" if teacher else "labels"
        accuracies = [results.mean_sd(runs, f"{x}_accuracy", 100) for x in ("validation", "test")]
        seconds = f"{statistics.median(results.numbers(runs, 'seconds')):.1f}"
        lines.append([recipe, targets, *accuracies, seconds, len(runs)])
    return results.markdown_table(header, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    from fashion_cnn import load_data

    keys = [
        {"recipe": recipe, "teacher": teacher, "seed": seed}
        for seed, recipe, teacher in itertools.product(range(arguments.seeds), RECIPES, TEACHERS)
    ]
    print(table(results.run_missing(ROWS, keys, partial(train_one, data=load_data()))))


if __name__ == "__main__":
    main()
