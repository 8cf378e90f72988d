"""Claim: none; this makes the presets that are trained on Fashion-MNIST. For `clothes`: clothes.py.

    python benchmarks/presets.py --photos DIR [--bfloat16] [NAME]...

Each preset is `fashion-cnn train NAME`, seed 0, in runs/presets/NAME, and is resumed there if it
was interrupted; its ONNX file and its card are written into the package. `thorough` is distilled:
its teacher is the ensemble of its recipe with two other seeds, in runs/presets/teacher. `photo` is
trained on Fashion-MNIST only; its temperature and its threshold are fitted on the photos in
DIR/train/<class>, whose folders are named as in benchmarks/photos.py. Prints their table, whose
times are those of benchmarks/inference.py. `--bfloat16` trains nothing: it measures what bfloat16
costs all presets again, `clothes` on DIR/validation, and writes that into their files.
Seeds: 0; of the teacher 10 and 11. Machine: 2 CPU cores, with bfloat16. Duration: 80 minutes.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import _results as results
import inference
import numpy as np
from clothes import load_all
from photos import CLASSES, read_photos, to_labels

from fashion_cnn import RECIPES, Classifier, load_data
from fashion_cnn.data.dataset import channels_last
from fashion_cnn.evaluation.calibration import (
    apply_temperature,
    calibration_error,
    fit_temperature,
    fit_threshold,
)
from fashion_cnn.evaluation.prediction_sets import fit_prediction_sets
from fashion_cnn.evaluation.verdicts import measure_verdicts
from fashion_cnn.export import export_in_process
from fashion_cnn.export.card import make_card
from fashion_cnn.export.onnx import add_card
from fashion_cnn.export.precision import measure_bfloat16
from fashion_cnn.files import file_sha256, write_json, write_text
from fashion_cnn.inference.model_files import PRESET_FOLDER, presets
from fashion_cnn.run import Run

ROWS = inference.ROWS
RUNS = Path("runs/presets")  # relative, because a run records the path of its teacher
TEACHER_SEEDS = "10", "2"  # the first, and how many
PURPOSE = {
    "photo": "photos, as one of Fashion-MNIST's classes",
    "textbook": "the network that everybody knows",
    "standard": "pictures like Fashion-MNIST's, fast",
    "thorough": "pictures like Fashion-MNIST's, best",
}
SURE_ACCURACY = 0.8  # target accuracy of the predictions for photos that are not unsure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(PURPOSE), help="presets. Default: all")
    parser.add_argument("--photos", type=Path, help="a folder with train/<class>/<photo>")
    parser.add_argument("--bfloat16", action="store_true", help="measure only, see above")
    arguments = parser.parse_args()
    if not arguments.photos and (arguments.bfloat16 or "photo" in arguments.names):
        sys.exit("--photos: expected a folder")
    data = load_data()
    if arguments.bfloat16:
        size = presets()["clothes"]["input"]["height"]
        photos = load_all(arguments.photos / "validation", size)
        add_bfloat16("clothes", photos.train_images, photos.train_labels)
        for name in PURPOSE:
            add_bfloat16(name, channels_last(data.test_images), data.test_labels)
        return
    PRESET_FOLDER.mkdir(exist_ok=True)
    for name in arguments.names:
        run = Run(RUNS / name)
        resume = ["--resume"] if run.folder.exists() else []
        recipe = distilled(name) if name == "thorough" else name
        train(recipe, "--run", str(run), "--no-report", *resume)
        card = make_card(run, data, "onnx") | {"preset": name, "purpose": PURPOSE[name]}
        if recipe != name:
            card["command"] = f"python benchmarks/presets.py {name}"
        if name == "photo":
            card |= fit_on_photos(run, arguments.photos / "train")
            card["test"] |= test_metrics(run, card)
        path = PRESET_FOLDER / f"{name}.onnx"
        export_in_process(run, data, "onnx", path, card)
        print(f"{path}: {path.stat().st_size:,} bytes, {json.dumps(card['test'])}")
    print(table(results.read_rows(ROWS)))


def train(recipe: str, *options: str) -> None:
    call = [sys.executable, "-m", "fashion_cnn", "train", recipe, *options]
    subprocess.run(call, check=True)


def distilled(name: str) -> str:
    """Train the teacher of a recipe, unless it is trained; the path of the recipe with it."""
    folder, (seed, seeds) = RUNS / "teacher", TEACHER_SEEDS
    train(name, "--run", str(folder), "--seed", seed, "--seeds", seeds, "--ensemble")
    teacher = str(folder / "ensemble" / "model.onnx")
    path = RUNS / f"{name}.json"
    write_text(path, dataclasses.replace(RECIPES[name], teacher=teacher).to_json())
    return str(path)


def add_bfloat16(name: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Measure a preset in bfloat16, and write the figures into its file and its card."""
    path = PRESET_FOLDER / f"{name}.onnx"
    card = {key: value for key, value in presets()[name].items() if key != "sha256"}
    card["bfloat16"] = measure_bfloat16(path, images, labels)
    if not card["bfloat16"]:
        sys.exit("needs OpenVINO and a processor with bfloat16")
    add_card(path, card)
    write_json(path.with_name(f"{name}.onnx.json"), card | {"sha256": file_sha256(path)})
    print(f"{name}: {json.dumps(card['bfloat16'])}")


def table(rows: list[results.Row]) -> str:
    """Return the table of the presets: test accuracy from their cards, time from inference.csv."""
    header = ["preset", "test accuracy on Fashion-MNIST, % (95 % interval)", "one image, ms"]
    lines = []
    for name in PURPOSE:
        test = Classifier.load(name).card["test"]
        accuracy, low, high = (100 * x for x in (test["accuracy"], *test["accuracy_interval"]))
        rounds = results.select(rows, model=name)
        ms = results.median(rounds, "onnx_one_ms")
        rate = results.median(rounds, "onnx_images_per_second", 0)
        lines.append([f"`{name}`", f"{accuracy:.2f} ({low:.2f} to {high:.2f})", ms, rate])
    return results.markdown_table([*header, "images per second in batches"], lines)


def fit_on_photos(run: Run, folder: Path) -> dict[str, Any]:
    """Fit the temperature on photos of known classes, and the threshold on all photos.

    For the threshold, predictions for photos of other classes count as wrong.
    """
    _, folders, prepared = read_photos(folder)
    from fashion_cnn.evaluation import predict

    probabilities = predict(run.folder, np.stack([x.pixels for x in prepared]))
    in_classes = np.array([name in CLASSES for name in folders])
    labels = to_labels(probabilities, folders)
    temperature = fit_temperature(probabilities[in_classes], labels[in_classes])
    calibrated = apply_temperature(probabilities, temperature)
    counts = {"photos": len(folders), "of_known_classes": int(in_classes.sum())}
    return {
        "temperature": temperature,
        "threshold": fit_threshold(calibrated, labels, SURE_ACCURACY),
        "prediction_sets": fit_prediction_sets(calibrated[in_classes], labels[in_classes]),
        "fitted_on": {**counts, "sure": SURE_ACCURACY},
    }


def test_metrics(run: Run, card: Mapping[str, Any]) -> dict[str, Any]:
    """Return those metrics of the test images that depend on the card's own calibration."""
    saved = run.predictions()
    calibrated = apply_temperature(saved["test_probabilities"], card["temperature"])
    error = calibration_error(calibrated, saved["test_labels"])
    return {"calibrated_ece": error, **measure_verdicts(saved, "test", card)}


if __name__ == "__main__":
    main()
