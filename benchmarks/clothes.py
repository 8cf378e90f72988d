"""Claim: the preset `clothes` is right on photos by people of whom it has seen none.

    python benchmarks/clothes.py --photos DIR --weights FILE [--trial NAME]... [--fold K]...

Cross-validates recipes on DIR/train/<class>, with five folds by person: DIR/groups.csv (columns
`file`, `group`) says whose photo each is. A trained fold is a row of `clothes.csv`; finished ones
are skipped. With `--runs RUNS` it also writes there the probabilities and features of each fold's
photos, from which `presets.py` fits temperature and thresholds, and `--final` trains the preset, on
all of DIR/train, in RUNS/<trial>. Prints the table of docs/experiments.md.
Seeds: 0. Machine: one GPU (KERAS_BACKEND=jax), or 2 CPU cores. Duration: a fold takes 1 minute on
a GPU and 30 to 60 minutes on a CPU.
"""

import argparse
import csv
import statistics
import time
from dataclasses import replace
from pathlib import Path

import _results as results
import numpy as np

ROWS = Path(__file__).with_suffix(".csv")
FOLDS = 5
TRIALS = {  # name -> (backbone, changes of the recipe `efficientnet`)
    "mobilenet": {},
    "lite2-260-15": {},
}


def get_recipe(trial: str, weights: str):
    """Return the recipe of a trial."""
    from fashion_cnn.recipes import RECIPES

    mobilenet = RECIPES["mobilenet"]
    lite2 = replace(
        mobilenet,
        name="efficientnet",
        options={**mobilenet.options, "backbone": "efficientnet_lite2"},
        augment=("flip", "perspective", "light"),
        image_size=260,
        epochs=45,
        ema=0.995,
    )
    recipe = {
        "mobilenet": mobilenet,
        "lite2-260-15": lite2,
        "lite2-224-10": replace(lite2, image_size=224, epochs=40),
        "lite2-260-15-all": replace(lite2, options={**lite2.options, "fine_tune_from": "block_1_expand"}),
        "mobilenet-camera": replace(mobilenet, augment=lite2.augment, ema=0.995, epochs=45),
    }[trial]
    return replace(
        recipe, options={**recipe.options, "weights": weights}, validation="none"
    )


def load_photos(folder: Path, size: int):
    """Return all photos of `folder`/train, and the fold of each."""
    from fashion_cnn import Data, load_data
    from fashion_cnn.data.split import group_folds

    data = load_data(folder / "train", size)
    images = np.concatenate([data.train_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.test_labels])
    files = (*data.train_files, *data.test_files)
    with open(folder / "groups.csv", newline="", encoding="utf-8") as file:
        groups = {row["file"]: row["group"] for row in csv.DictReader(file)}
    fold = group_folds(labels, np.array([groups[f"train/{name}"] for name in files]), FOLDS)
    everything = Data(images, labels, images[:1], labels[:1], data.class_names)
    return everything, fold, files


def train_fold(photos: Path, trial: str, fold: int, weights: str, runs: Path | None):
    """Train on the other folds; a row for those photos."""
    from fashion_cnn import train
    from fashion_cnn.evaluation import predict
    from fashion_cnn.keras_setup import keras

    recipe = get_recipe(trial, weights)
    data, folds, files = load_photos(photos, recipe.image_size)
    start = time.perf_counter()
    kept = folds != fold
    rest = replace(
        data,
        train_images=data.train_images[kept],
        train_labels=data.train_labels[kept],
        test_images=data.train_images[~kept],
        test_labels=data.train_labels[~kept],
    )
    model = train(recipe, rest).model
    seconds = time.perf_counter() - start
    outputs = [model.get_layer("features").output, model.output]
    features, probabilities = (
        np.concatenate(x)
        for x in zip(*(map(np.asarray, keras.Model(model.input, outputs)(b)) for b in np.array_split(rest.test_images, 20)), strict=True)
    )
    if runs:
        runs.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            runs / f"{trial}-fold-{fold}.npz",
            files=np.array([name for name, keep in zip(files, kept, strict=True) if not keep]),
            labels=rest.test_labels,
            probabilities=probabilities,
            features=features.astype(np.float16),
        )
    correct = probabilities.argmax(1) == rest.test_labels
    return {"photos": len(correct), "correct": int(correct.sum()), "seconds": round(seconds, 1)}


def train_final(photos: Path, trial: str, weights: str, runs: Path) -> None:
    """Train on all photos of `photos`/train."""
    from fashion_cnn import train

    recipe = get_recipe(trial, weights)
    data, _, _ = load_photos(photos, recipe.image_size)
    train(recipe, data, runs / trial, resume=(runs / trial / "recipe.json").exists())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--trial", required=True)
    parser.add_argument("--fold", type=int, action="append", default=[])
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--final", action="store_true")
    a = parser.parse_args()
    for fold in a.fold:
        if not results.is_finished(ROWS, trial=a.trial, fold=fold):
            row = train_fold(a.photos, a.trial, fold, a.weights, a.runs)
            results.append_row(ROWS, {"trial": a.trial, "fold": fold} | row | results.machine_columns(("keras", "jax")))
    if a.final:
        train_final(a.photos, a.trial, a.weights, a.runs)


if __name__ == "__main__":
    main()
