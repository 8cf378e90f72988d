"""Claim: `data/photo.py` at least doubles the correct predictions for simply resized photos.

    python benchmarks/photos.py DIR [--split validation] [--models NAME...]

Measures the presets, which are only loaded, on photos that are simply resized, prepared as
Fashion-MNIST's authors did, or prepared by data/photo.py: how many of each class are correct,
predicted as Bag, and sure. DIR has <split>/<class>/<photo> of the public "clothing dataset
(subset)", CC0 1.0. Hats, shorts and skirts have no class in Fashion-MNIST and should be unsure.
Each preset, preparation and class is a row of `photos.csv`; finished rows are skipped.
Seeds: the presets', one each. Machine: 1 CPU core. Duration: 1 minute.
"""

import argparse
import functools
import statistics
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path

import _results as results
import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

from fashion_cnn import Classifier
from fashion_cnn.data.photo import SIDE, PreparedImage, prepare_photo, shrink
from fashion_cnn.data.pictures import find_pictures, read_rgba

ROWS = Path(__file__).with_suffix(".csv")

# folder -> classes of Fashion-MNIST; the photos do not distinguish kinds of shoes
CLASSES = {
    "t-shirt": [0],
    "pants": [1],
    "longsleeve": [2],
    "dress": [3],
    "outwear": [4],
    "shirt": [6],
    "shoes": [5, 7, 9],
}
HEADINGS = {"t-shirt": "T-shirt", "pants": "trousers", "longsleeve": "long sleeves"}
HEADINGS["outwear"] = "outerwear"  # of the other folders: their names
BAG = 8
MODELS = ("textbook", "standard", "thorough", "photo")
BEST = "data/photo.py"
PREPARATIONS = ("gray, resized, inverted", "trimmed, sharpened", BEST)
PACKAGES = ("onnxruntime", "numpy", "pillow")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, metavar="DIR")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--models", nargs="+", default=MODELS)
    arguments = parser.parse_args()
    folder = arguments.photos / arguments.split
    _, folders, _ = read_photos(folder)
    keys = [
        {"split": arguments.split, "model": model, "preparation": preparation, "folder": name}
        for model, preparation in product(arguments.models, PREPARATIONS)
        for name in dict.fromkeys(folders)
    ]
    rows = results.run_missing(ROWS, keys, partial(count_predictions, photos=arguments.photos))
    print("\n\n".join(tables(rows, arguments.split)))


def tables(rows: list[results.Row], split: str = "validation") -> list[str]:
    """Return two tables: the accuracy, and the predictions above the threshold."""
    return [accuracy_table(rows, split), threshold_table(rows, split)]


def accuracy_table(rows: list[results.Row], split: str) -> str:
    """Return the table of accuracy: of all photos of known classes, and of each class, in %."""
    header = ["preset", "preparation", "correct (95 % interval)", "mean of the classes"]
    known = [row for row in results.select(rows, split=split) if row["folder"] in CLASSES]
    photos = {row["folder"]: row["photos"] for row in known}
    header += ["predicted as Bag"]
    header += [f"{HEADINGS.get(name, name)} (n = {photos.get(name, 0)})" for name in CLASSES]
    lines = []
    for model, preparation in dict.fromkeys((x["model"], x["preparation"]) for x in known):
        chosen = results.select(known, model=model, preparation=preparation)
        recalls = {x["folder"]: 100 * int(x["correct"]) / int(x["photos"]) for x in chosen}
        count, correct, bag = (total(chosen, x) for x in ("photos", "correct", "bag"))
        lines.append(
            [
                model,
                format_preparation(preparation),
                percent_interval(correct, count),
                f"{statistics.mean(recalls.values()):.0f}",
                f"{100 * bag / count:.0f}",
                *(f"{recalls[name]:.0f}" for name in CLASSES),
            ]
        )
    return results.markdown_table(header, lines)


def threshold_table(rows: list[results.Row], split: str) -> str:
    """Return the table of sure predictions of photos prepared by `data/photo.py`."""
    header = ["preset", "photos", "sure", "correct among the sure, % (95 % interval)"]
    header += ["unsure of known classes, %", "unsure of hats, shorts and skirts, %"]
    lines = []
    prepared = results.select(rows, split=split, preparation=BEST)
    for model in dict.fromkeys(row["model"] for row in prepared):
        chosen = results.select(prepared, model=model)
        sure, correct = total(chosen, "sure"), total(chosen, "sure_correct")
        known = [row for row in chosen if row["folder"] in CLASSES]
        others = [row for row in chosen if row["folder"] not in CLASSES]
        unsure = [100 * (1 - total(x, "sure") / total(x, "photos")) for x in (known, others)]
        accuracy = percent_interval(correct, sure)
        lines.append(
            [model, total(chosen, "photos"), sure, accuracy, *(f"{x:.0f}" for x in unsure)]
        )
    return results.markdown_table(header, lines)


def total(rows: Sequence[results.Row], column: str) -> int:
    """Return the sum of a column of integers."""
    return sum(int(row[column]) for row in rows)


def percent_interval(correct: int, count: int) -> str:
    """Format a share in % and its 95 % interval (Wilson, 1927)."""
    from scipy.stats import binomtest

    low, high = binomtest(correct, count).proportion_ci(0.95, method="wilson")
    return f"{100 * correct / count:.0f} ({100 * low:.0f} to {100 * high:.0f})"


def format_preparation(name: str) -> str:
    """Format the name of a preparation for Markdown."""
    return f"`{name}`" if name == BEST else name


def count_predictions(
    split: str, model: str, preparation: str, folder: str, photos: Path
) -> dict[str, object]:
    """Count the photos of a class folder, and the predictions of each kind."""
    in_folder, predicted = predict_photos(photos / split, model, preparation)
    chosen = in_folder == folder
    counts = {name: int(is_one[chosen].sum()) for name, is_one in predicted.items()}
    return {"photos": int(chosen.sum()), **counts} | results.machine_columns(PACKAGES)


@functools.cache
def predict_photos(
    folder: Path, model: str, preparation: str
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return each photo's class folder; which are correct, predicted as Bag, sure, and both."""
    paths, folders, prepared = read_photos(folder)
    is_clear = np.array([preparation != BEST or image.note == "" for image in prepared])
    if preparation == BEST:
        pixels = np.stack([image.pixels for image in prepared])
    else:
        prepare = dict(zip(PREPARATIONS, (resize, trim_and_sharpen), strict=False))[preparation]
        pixels = np.stack([prepare(path) for path in paths])
    classifier = Classifier.load(model)
    probabilities = classifier.probabilities(pixels)
    predicted = probabilities.argmax(1)
    is_correct = predicted == to_labels(probabilities, folders)
    is_sure = (probabilities.max(1) >= (classifier.card["threshold"] or 0)) & is_clear
    kinds = {"correct": is_correct, "bag": predicted == BAG}
    return np.array(folders), kinds | {"sure": is_sure, "sure_correct": is_sure & is_correct}


def to_labels(probabilities: np.ndarray, folders: Sequence[str]) -> np.ndarray:
    """Return a label for each photo: the most probable class of its folder's, or -1 for none."""
    labels = np.full(len(folders), -1)
    for i, name in enumerate(folders):
        if name in CLASSES:
            labels[i] = max(CLASSES[name], key=lambda label, i=i: probabilities[i, label])
    return labels


@functools.cache
def read_photos(folder: Path) -> tuple[list[str], list[str], list[PreparedImage]]:
    """Return the paths of the photos, the names of their class folders, and the prepared images."""
    paths = find_pictures([str(folder)])
    if not paths:
        raise SystemExit(f"{folder}: contains no photos")
    folders = [Path(path).parent.name for path in paths]
    return paths, folders, [prepare_photo(read_rgba(path)) for path in paths]


def resize(path: str) -> np.ndarray:
    """Convert to gray, 28x28, inverted."""
    gray = read_rgba(path)[..., :3] @ np.array([0.299, 0.587, 0.114])
    return np.rint(255 - shrink(gray, (SIDE, SIDE))).astype(np.uint8)[..., np.newaxis]


def trim_and_sharpen(path: str) -> np.ndarray:
    """Prepare as in arXiv:1708.07747, section 2, with the corner's color as the background."""
    photo = Image.fromarray(read_rgba(path)).convert("RGB")
    background = Image.new("RGB", photo.size, photo.getpixel((0, 0)))
    difference = ImageChops.difference(photo, background).convert("L")
    foreground = difference.point(lambda x: 255 * (x > 13))
    photo = photo.crop(foreground.getbbox() or (0, 0, *photo.size))
    photo.thumbnail((SIDE, SIDE))
    canvas = Image.new("RGB", (SIDE, SIDE), background.getpixel((0, 0)))
    offset = (SIDE - photo.width) // 2, (SIDE - photo.height) // 2
    canvas.paste(photo.filter(ImageFilter.SHARPEN), offset)
    return np.asarray(ImageOps.invert(canvas).convert("L"))[..., np.newaxis]


if __name__ == "__main__":
    main()
