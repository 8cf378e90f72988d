"""Claim: none; this measures what changes of the first recipes do to the validation accuracy.

    python benchmarks/ingredients.py [--recipes sprint,quick] [--changes NAME,...] [--seeds 5]

Each seed trains every recipe of `_before.py`, the same with each of `CHANGES`, and today's, one
after the other, so that all meet the same load. A finished training is a row of `ingredients.csv`
with the accuracy on the 5,000 validation images; finished rows are skipped. Prints the table of
docs/experiments.md: means, the difference to the recipe as it was, pair by pair, and the median
ratio of the times. The test images are not looked at.
Seeds: 5. Machine: 2 CPU cores. Duration: a minute for each change and seed of `sprint` and `quick`.
"""

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

import _results as results
from _before import BEFORE

ROWS = Path(__file__).with_suffix(".csv")
PLAIN, TODAY = "as it was", "today's recipe"
CHANGES = {  # name -> fields of the recipe; `options` are added to the recipe's
    PLAIN: {},
    "cosine": {"schedule": "cosine"},
    "cutmix": {"cutmix": 0.5},
    "random": {"augment": "+random"},
    "alternate flip": {"augment": "alternate_flip"},
    "bias rate": {"bias_rate": 4.0},
    "muon": {"optimizer": "muon"},
    "sam": {"sam": 0.05},
    "ema": {"ema": 0.99},
    "silu": {"options": {"activation": "silu"}},
    "gelu": {"options": {"activation": "gelu"}},
    "pool power": {"options": {"pool_power": 3.0}},
    "fixed stem": {"options": {"stem": 0}},
    "skip a third": {"skip_easy": 0.33},
    TODAY: {},
}


def first_recipe(name: str):
    """Return the recipe of the first round, which may be today's."""
    from fashion_cnn import RECIPES

    return BEFORE.get(name, RECIPES[name])


def change_recipe(recipe, change: str):
    """Return a recipe with a change."""
    from fashion_cnn import RECIPES

    if change == TODAY:
        return RECIPES[recipe.name]
    fields = dict(CHANGES[change])
    if "options" in fields:
        fields["options"] = {**recipe.options, **fields["options"]}
    if fields.get("augment") == "+random":
        fields["augment"] = (*recipe.augment, "random")
    elif "augment" in fields:
        names = (fields["augment"] if name == "flip" else name for name in recipe.augment)
        fields["augment"] = tuple(names)
    return replace(recipe, **fields)


def is_known(recipe: str, change: str) -> bool:
    """Return whether a recipe has what is changed."""
    from fashion_cnn.models import model_options

    before = first_recipe(recipe)
    if change == "alternate flip":
        return "flip" in before.augment
    return CHANGES[change].get("options", {}).keys() <= model_options(before.model).keys()


def train_one(recipe: str, change: str, seed: int, processor: str) -> dict[str, object]:
    """Train, and measure the accuracy on the validation images."""
    from fashion_cnn import load_data, train
    from fashion_cnn.evaluation import predict

    data = load_data()
    changed = replace(change_recipe(first_recipe(recipe), change), seed=seed)
    trained = train(changed, data)
    images, labels = data.split("validation")
    correct = predict(trained.model, images).argmax(1) == labels
    row = {"validation_accuracy": round(float(correct.mean()), 4)}
    return row | {"seconds": round(trained.seconds, 2)} | results.machine_columns()


def beside(row: results.Row) -> tuple[str, str]:
    """Return what trainings have in common that ran one after the other."""
    return row["processor"], row["seed"]


def table(rows: list[results.Row]) -> str:
    """Return the table of docs/experiments.md."""
    lines = []
    for recipe, change in dict.fromkeys((row["recipe"], row["change"]) for row in rows):
        group = results.select(rows, recipe=recipe, change=change)
        plain = {beside(r): r for r in results.select(rows, recipe=recipe, change=PLAIN)}
        pairs = [(row, plain[beside(row)]) for row in group if beside(row) in plain]
        line = [f"`{recipe}`", change, results.mean_sd(group, "validation_accuracy", 100), "", ""]
        if change != PLAIN and len(pairs) > 1:
            differences = [
                100 * (float(a["validation_accuracy"]) - float(b["validation_accuracy"]))
                for a, b in pairs
            ]
            error = statistics.stdev(differences) / len(pairs) ** 0.5
            line[3] = f"{statistics.mean(differences):+.2f} ± {error:.2f}"
            ratios = [float(a["seconds"]) / float(b["seconds"]) for a, b in pairs]
            line[4] = f"{statistics.median(ratios):.2f}"
        lines.append([*line, len(group)])
    header = ["recipe", "change", "validation accuracy, %", "difference ± standard error"]
    return results.markdown_table([*header, "time, relative", "n"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", default="sprint,quick", help="joined by commas")
    parser.add_argument("--changes", help="joined by commas. Default: all that the recipe knows")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    changes = arguments.changes.split(",") if arguments.changes else list(CHANGES)
    processor = results.machine_columns()["processor"]
    keys: list[dict[str, object]] = [
        {"recipe": recipe, "change": change, "seed": seed, "processor": processor}
        for seed in range(arguments.seeds)
        for recipe in arguments.recipes.split(",")
        for change in changes
        if is_known(recipe, change)
    ]
    print(table(results.run_missing(ROWS, keys, train_one)))


if __name__ == "__main__":
    main()
