"""What networks gain from a better one's answers: alone, and taught by `thorough`.

    python benchmarks/teacher.py [--seeds 5]

Trains each recipe both ways in turns on the 55,000 training images, one row a finished run into
`teacher.csv` (finished rows are skipped, so it can be stopped and started), and prints the README's
table. The seconds are those of the epochs: to ask the teacher, once for all runs, is not in them.
The test set is only read out, never used to choose.
"""

import argparse
import dataclasses
import statistics
from pathlib import Path

from _rows import finished_rows, keep

ROWS = Path(__file__).with_suffix(".csv")
RECIPES = ("sprint", "quick", "standard")
TEACHERS = ("", "thorough")


def one_run(recipe: str, teacher: str, seed: int, data) -> dict[str, object]:
    from fashion_cnn import evaluate, train
    from fashion_cnn.recipes import find_recipe

    trained = train(dataclasses.replace(find_recipe(recipe), teacher=teacher, seed=seed), data)
    row: dict[str, object] = {"recipe": recipe, "teacher": teacher, "seed": seed}
    for split in ("validation", "test"):
        measured = evaluate(trained.model, *data.split(split))
        row |= {f"{split}_{key}": round(measured[key], 4) for key in ("accuracy", "loss")}
    return row | {"seconds": round(trained.seconds, 1)}


def table(rows: list[dict[str, str]]) -> str:
    lines = [
        "| recipe | learns from | validation accuracy, % | test accuracy, % | seconds | n |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for recipe, teacher in ((recipe, teacher) for recipe in RECIPES for teacher in TEACHERS):
        chosen = [row for row in rows if (row["recipe"], row["teacher"]) == (recipe, teacher)]
        if len(chosen) < 2:
            continue
        cells = [recipe, f"labels and `{teacher}`" if teacher else "labels"]
        for key in ("validation_accuracy", "test_accuracy"):
            values = [100 * float(row[key]) for row in chosen]
            cells.append(f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}")
        cells.append(f"{statistics.median(float(row['seconds']) for row in chosen):.1f}")
        lines.append(f"| {' | '.join(cells)} | {len(chosen)} |")
    return "\n".join(lines)


def main() -> None:
    from fashion_cnn import load_data

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    seeds, data = parser.parse_args().seeds, load_data()
    done = {(row["recipe"], row["teacher"], int(row["seed"])) for row in finished_rows(ROWS)}
    for seed in range(seeds):
        for recipe, teacher in ((recipe, teacher) for recipe in RECIPES for teacher in TEACHERS):
            if (recipe, teacher, seed) not in done:
                keep(ROWS, one_run(recipe, teacher, seed, data))
    print(table(finished_rows(ROWS)))


if __name__ == "__main__":
    main()
