"""Claim: none; this cross-validates recipes by person, and makes the preset `clothes`.

    python benchmarks/clothes.py --photos DIR [--mobilenet FILE] [--runs RUNS] [--minutes N]
        [--trials NAME,...] [--folds K,...] [--final NAME] [--preset NAME]

DIR/train/<class> and DIR/validation/<class> have photos of clothes, and DIR/groups.csv says whose
they are (columns `file`, relative to DIR, and `group`); the five folds of DIR/train keep each
person's photos together. A trained fold is a row of `clothes.csv`, and the predictions for its
photos are a file of `clothes_predictions`; finished folds are skipped, interrupted ones go on, and
none is started after N minutes. `--final` trains the recipe of a trial on all of DIR/train, in
RUNS/<trial>, and `--preset` writes that run into the package: temperature, thresholds and
prediction sets are fitted on the predictions for the finished folds, and DIR/validation is looked
at for the card. Several of these commands may run at once, with different folds. FILE are
ImageNet's weights for the trials of `mobilenet`. Prints a table of the trials.
Seeds: 0. Machine: one GPU (KERAS_BACKEND=jax), where a fold takes one to two minutes alone; or 2
CPU cores, where it takes 45 minutes or more. `--preset` needs TensorFlow.
"""

import argparse
import csv
import time
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import _results as results
import numpy as np

ROWS = Path(__file__).with_suffix(".csv")
PREDICTIONS = Path(__file__).with_name("clothes_predictions")
FOLDS = 5
SURE_ACCURACY = 0.98  # required of the predictions that the preset calls sure
CLASSES = {  # folder -> class of the preset
    "dress": "dress",
    "hat": "hat",
    "longsleeve": "long-sleeve top",
    "outwear": "outerwear",
    "pants": "trousers",
    "shirt": "shirt",
    "shoes": "shoes",
    "shorts": "shorts",
    "skirt": "skirt",
    "t-shirt": "T-shirt",
}
SOURCE = "clothing dataset (subset): 3,068 phone photos of single garments, CC0-1.0"
NOTES = [
    "temperature, thresholds and prediction sets come from a cross-validation of which each fold "
    "has the photos of people that the networks were not trained on",
    "of the 122 people whose photos are among the test images, 113 took training photos, too, so "
    "the accuracy on test images flatters; the cross-validation does not",
]
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


def load_all(folder: Path, size: int):
    """Return all photos in the class folders of `folder` as training images."""
    from fashion_cnn import Data, load_data

    data = load_data(folder, size)
    images = np.concatenate([data.train_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.test_labels])
    files = (*data.train_files, *data.test_files)
    return Data(images, labels, images[:1], labels[:1], data.class_names, train_files=files)


def load_photos(folder: Path, size: int):
    """Return the photos of `folder`/train as training images, and the fold of each."""
    from fashion_cnn.data.split import group_folds

    photos = load_all(folder / "train", size)
    with open(folder / "groups.csv", newline="", encoding="utf-8") as file:
        groups = {row["file"]: int(row["group"]) for row in csv.DictReader(file)}
    people = np.array([groups[f"train/{name}"] for name in photos.train_files])
    return photos, group_folds(photos.train_labels, people, FOLDS)


def split_fold(photos, folds: np.ndarray, fold: int):
    """Return the photos with those of a fold as test images."""
    trained, held_out = np.flatnonzero(folds != fold), folds == fold
    return replace(
        photos,
        train_images=photos.train_images[trained],
        train_labels=photos.train_labels[trained],
        train_files=tuple(photos.train_files[i] for i in trained),
        test_images=photos.train_images[held_out],
        test_labels=photos.train_labels[held_out],
    )


def train_fold(trial: str, fold: int, folder: Path, weights: str, runs: Path) -> dict[str, object]:
    """Train on the other folds and return a row for the photos of this one."""
    from fashion_cnn import train
    from fashion_cnn.evaluation import predict
    from fashion_cnn.evaluation.unknown import measure_similarity

    recipe = get_recipe(trial, weights)
    data = split_fold(*load_photos(folder, recipe.image_size), fold)
    run = runs / f"{trial}-fold-{fold}"
    start = time.perf_counter()
    model = train(recipe, data, run, resume=run.is_dir()).model
    seconds = time.perf_counter() - start
    labels, probabilities = data.test_labels, predict(model, data.test_images)
    predicted, index = probabilities.argmax(1), np.arange(len(data.train_labels))
    similarity = measure_similarity(model, data, index, {"test": predicted})["test_similarity"]
    write_predictions(trial, fold, labels, similarity, probabilities)
    correct = int((predicted == labels).sum())
    row = {"photos": len(labels), "correct": correct, "seconds": round(seconds, 1)}
    return row | results.machine_columns(("keras", "tensorflow-cpu", "jax"))


def write_predictions(
    trial: str, fold: int, labels: np.ndarray, similarity: np.ndarray, probabilities: np.ndarray
) -> None:
    """Write a fold's photos, one a row: the index of the class, similarity, probabilities."""
    PREDICTIONS.mkdir(exist_ok=True)
    columns = np.column_stack([labels, similarity, probabilities])
    header = ",".join(["label", "similarity", *CLASSES])
    formats = ["%d", "%.5f", *["%.6g"] * len(CLASSES)]
    path = PREDICTIONS / f"{trial}-{fold}.csv"
    np.savetxt(path, columns, formats, delimiter=",", header=header, comments="")


def prediction_paths(trial: str) -> list[Path]:
    return sorted(PREDICTIONS.glob(f"{trial}-?.csv"))


def read_predictions(paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """Return the predictions in files of folds, as `measure_run` takes them."""
    rows = np.concatenate([np.loadtxt(path, delimiter=",", skiprows=1) for path in paths])
    return {
        "validation_labels": rows[:, 0].astype(int),
        "validation_similarity": rows[:, 1].astype(np.float32),
        "validation_probabilities": rows[:, 2:].astype(np.float32),
    }


def write_preset(trial: str, folder: Path, runs: Path) -> Path:
    """Measure the run of `--final`, and write its ONNX file and its card into the package."""
    from fashion_cnn.data.class_folders import list_pictures
    from fashion_cnn.evaluation import measure_run
    from fashion_cnn.export import export_in_process
    from fashion_cnn.inference.model_files import PRESET_FOLDER
    from fashion_cnn.recipe import read_recipe
    from fashion_cnn.run import Run

    run = Run(runs / trial)
    size = read_recipe(run).image_size
    photos, test = load_all(folder / "train", size), load_all(folder / "validation", size)
    data = replace(
        photos,
        test_images=test.train_images,
        test_labels=test.train_labels,
        class_names=tuple(CLASSES[name] for name in photos.class_names),
    )
    metrics = measure_run(run, data, read_predictions(prediction_paths(trial)), SURE_ACCURACY)
    listed = "\n".join(f"{x.path} {x.sha256}" for x in list_pictures(folder / "train").pictures)
    card = {
        "preset": "clothes",
        "purpose": "photos of garments; the default",
        "command": "fashion-cnn train efficientnet --data photos --groups groups.csv",
        "data": {"source": SOURCE, "sha256": {"train": sha256(listed.encode()).hexdigest()}},
        "license": "MIT; trained from weights under Apache-2.0, on photos under CC0-1.0",
        "notes": NOTES,
        "cross_validation": {
            "folds": len(prediction_paths(trial)),
            "photos": metrics["validation_examples"],
            "accuracy": metrics["validation_accuracy"],
            "accuracy_interval": metrics["validation_accuracy_interval"],
            "verdicts": metrics["validation_verdicts"],
            "recall": {k: x["recall"] for k, x in metrics["validation_per_class"].items()},
        },
    }
    return export_in_process(run, data, "onnx-w8", PRESET_FOLDER / "clothes.onnx", card)


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


def preset_tables() -> str:
    """Return what the card of `clothes` says of its verdicts and classes."""
    from fashion_cnn.inference.model_files import presets

    card = presets()["clothes"]
    splits = {"cross-validation by person": card["cross_validation"], "`validation`": card["test"]}
    lines = []
    for name, figures in splits.items():
        verdicts = figures["verdicts"]
        counts = [verdicts[key]["examples"] for key in ("sure", "unsure", "unknown")]
        low, high = figures["accuracy_interval"]
        accuracy = f"{_percent(figures['accuracy'])} ({_percent(low)} to {_percent(high)})"
        shares = [_percent(count / sum(counts)) for count in counts]
        of_sure = _percent(verdicts["sure"]["accuracy"])
        lines.append([name, sum(counts), accuracy, shares[0], of_sure, *shares[1:]])
    lines.insert(1, ["the same, thresholds of the other folds", *cross_fitted_verdicts()])
    header = [
        "photos",
        "number",
        "accuracy, % (95 % interval)",
        "sure, %",
        "accuracy of the sure, %",
    ]
    tables = [results.markdown_table([*header, "unsure, %", "unknown, %"], lines)]
    recall = card["cross_validation"]["recall"]
    lines = [
        [name, _percent(recall[name]), _percent(row["recall"]), row["support"]]
        for name, row in card["test"]["per_class"].items()
    ]
    header = ["class", "recall in cross-validation, %", "recall in `validation`, %"]
    tables.append(results.markdown_table([*header, "photos in `validation`"], lines))
    return "\n" + "\n\n".join(tables) + "\n"


def cross_fitted_verdicts() -> list[int | str]:
    """Return cells of the table: each fold's photos judged by thresholds of the other folds."""
    from fashion_cnn.evaluation.verdicts import fit_thresholds, measure_verdicts

    counts = dict.fromkeys(("sure", "unsure", "unknown"), 0)
    paths, sure_and_right = prediction_paths("efficientnet"), 0.0
    for path in paths:
        thresholds = fit_thresholds(
            read_predictions([x for x in paths if x != path]), SURE_ACCURACY
        )
        verdicts = measure_verdicts(read_predictions([path]), "validation", thresholds)["verdicts"]
        counts = {key: count + verdicts[key]["examples"] for key, count in counts.items()}
        sure_and_right += verdicts["sure"]["examples"] * verdicts["sure"]["accuracy"]
    photos = sum(counts.values())
    sure, unsure, unknown = (_percent(count / photos) for count in counts.values())
    return [photos, "", sure, _percent(sure_and_right / counts["sure"]), unsure, unknown]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="has train and groups.csv")
    parser.add_argument("--mobilenet", default="imagenet", help="weights of mobilenet")
    parser.add_argument("--runs", type=Path, default=Path("runs/clothes"))
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--trials", default="", help="joined by commas")
    parser.add_argument("--folds", default="0,1,2,3,4", help="joined by commas")
    parser.add_argument("--final", choices=TRIALS, help="train on all photos")
    parser.add_argument("--preset", choices=TRIALS, help="write the preset")
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
        data = load_all(arguments.photos / "train", recipe.image_size)
        run = arguments.runs / arguments.final
        train(recipe, data, run, resume=run.is_dir())
    if arguments.preset:
        print(write_preset(arguments.preset, arguments.photos, arguments.runs))
    print(table(results.read_rows(ROWS)))


if __name__ == "__main__":
    main()
