"""Claim: none yet; this cross-validates the recipe of the preset `clothes` by person.

    python benchmarks/clothes.py --photos DIR [--mobilenet FILE] [--runs RUNS] [--minutes N]
        [--trials NAME,...] [--folds K,...] [--final NAME]

DIR/train/<class> has photos of clothes, and DIR/groups.csv says whose they are (columns `file`,
relative to DIR, and `group`); the five folds keep each person's photos together. A trained fold is
a row of `clothes.csv`, and the probabilities and features of its photos are in RUNS; finished folds
are skipped, interrupted ones go on, and none is started after N minutes. `--final` then trains the recipe of a trial on all
of DIR/train, in RUNS/<trial>. Several of these commands may run at once, with different folds.
FILE are ImageNet's weights for the trials of `mobilenet`. Prints a table of the trials.
Seeds: 0. Machine: one GPU (KERAS_BACKEND=jax), where a fold takes a minute; hours on 2 CPU cores.
"""

import argparse
import csv
import time
from dataclasses import replace
from pathlib import Path

import _results as results
import numpy as np

ROWS = Path(__file__).with_suffix(".csv")
FOLDS = 5
TRIALS = (
    "mobilenet",
    "mobilenet-camera",
    "efficientnet",
    "efficientnet-all",
    "efficientnet-224",
    "efficientnet-lite1",
)


def get_recipe(trial: str, mobilenet_weights: str):
    """Return the recipe of a trial, which trains on all images that it is given."""
    from fashion_cnn.recipes import RECIPES

    mobilenet, efficientnet = RECIPES["mobilenet"], RECIPES["efficientnet"]
    changes = {"augment": efficientnet.augment, "ema": efficientnet.ema, "epochs": 45}
    lower = {**efficientnet.options, "fine_tune_from": "block_1_expand"}
    lite1 = {**efficientnet.options, "backbone": "efficientnet_lite1"}
    recipe = {
        "mobilenet": mobilenet,
        "mobilenet-camera": replace(mobilenet, **changes),
        "efficientnet": efficientnet,
        "efficientnet-all": replace(efficientnet, options=lower),
        "efficientnet-224": replace(efficientnet, image_size=224, epochs=40),
        "efficientnet-lite1": replace(efficientnet, options=lite1, image_size=240),
    }[trial]
    if trial.startswith("mobilenet"):
        recipe = replace(recipe, options={**recipe.options, "weights": mobilenet_weights})
    return replace(recipe, validation="none")


def load_photos(folder: Path, size: int):
    """Return all photos of `folder`/train, their files, and the fold of each."""
    from fashion_cnn import Data, load_data
    from fashion_cnn.data.split import group_folds

    data = load_data(folder / "train", size)
    images = np.concatenate([data.train_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.test_labels])
    files = np.array([*data.train_files, *data.test_files])
    with open(folder / "groups.csv", newline="", encoding="utf-8") as file:
        groups = {row["file"]: int(row["group"]) for row in csv.DictReader(file)}
    folds = group_folds(labels, np.array([groups[f"train/{name}"] for name in files]), FOLDS)
    return Data(images, labels, images[:1], labels[:1], data.class_names), files, folds


def train_fold(trial: str, fold: int, photos: Path, weights: str, runs: Path) -> dict[str, object]:
    """Train on the other folds and return a row for the photos of this one."""
    from fashion_cnn import train
    from fashion_cnn.evaluation import predict
    from fashion_cnn.keras_setup import keras
    from fashion_cnn.models.forward import compile_forward

    recipe = get_recipe(trial, weights)
    data, files, folds = load_photos(photos, recipe.image_size)
    held_out = folds == fold
    others = replace(
        data, train_images=data.train_images[~held_out], train_labels=data.train_labels[~held_out]
    )
    start = time.perf_counter()
    run = runs / f"{trial}-fold-{fold}"
    model = train(recipe, others, run, resume=run.is_dir()).model
    seconds = time.perf_counter() - start
    images, labels = data.train_images[held_out], data.train_labels[held_out]
    probabilities = predict(model, images)
    backbone = keras.Model(model.inputs[0], model.get_layer("features").output)
    runs.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        runs / f"{trial}-fold-{fold}.npz",
        files=files[held_out],
        labels=labels,
        probabilities=probabilities,
        features=compile_forward(backbone)(images).astype(np.float16),
    )
    correct = int((probabilities.argmax(1) == labels).sum())
    row = {"photos": len(labels), "correct": correct, "seconds": round(seconds, 1)}
    return row | results.machine_columns(("keras", "tensorflow-cpu", "jax"))


def table(rows: list[results.Row]) -> str:
    """Return the table of the trials."""
    lines = []
    for trial in TRIALS:
        folds = results.select(rows, trial=trial)
        if folds:
            correct, photos = (sum(results.numbers(folds, key)) for key in ("correct", "photos"))
            shares = [int(row["correct"]) / int(row["photos"]) for row in folds]
            each = ", ".join(f"{share:.1%}" for share in shares)
            lines.append([f"`{trial}`", f"{correct / photos:.2%}", each, len(folds)])
    return results.markdown_table(["trial", "correct", "in each fold", "folds"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="has train and groups.csv")
    parser.add_argument("--mobilenet", default="imagenet", help="weights of mobilenet")
    parser.add_argument("--runs", type=Path, default=Path("runs/clothes"))
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--trials", default="", help="joined by commas")
    parser.add_argument("--folds", default="0,1,2,3,4", help="joined by commas")
    parser.add_argument("--final", choices=TRIALS)
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    for trial in filter(None, arguments.trials.split(",")):
        for fold in map(int, arguments.folds.split(",")):
            if time.monotonic() < end and not results.is_finished(ROWS, trial=trial, fold=fold):
                row = train_fold(trial, fold, arguments.photos, arguments.mobilenet, arguments.runs)
                results.append_row(ROWS, {"trial": trial, "fold": fold} | row)
    if arguments.final:
        from fashion_cnn import train

        recipe = get_recipe(arguments.final, arguments.mobilenet)
        data, _, _ = load_photos(arguments.photos, recipe.image_size)
        run = arguments.runs / arguments.final
        train(recipe, data, run, resume=run.is_dir())
    print(table(results.read_rows(ROWS)))


if __name__ == "__main__":
    main()
