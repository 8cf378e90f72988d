"""Claim: on photos of clothes, `data/photo.py` makes predictions correct several times as often.

    python benchmarks/photos.py DIR [--split validation] [--models NAME...]

Measures the accuracy on photos that are simply resized, prepared as Fashion-MNIST's authors did, or
prepared by data/photo.py: overall and by class, with the shares predicted as Bag or left unsure.
DIR has <split>/<class>/<photo> of the public "clothing dataset (subset)", CC0 1.0. Hats, shorts and
skirts ("others") have no class in Fashion-MNIST and should be unsure.
Seeds: the presets', one each. Machine: 1 CPU core. Duration: 1 minute.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

from fashion_cnn import Classifier
from fashion_cnn.data.photo import SIDE, PreparedImage, prepare_photo, shrink
from fashion_cnn.data.pictures import find_pictures, read_rgba

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
BAG = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, metavar="DIR")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--models", nargs="+", default=["textbook", "standard", "photo"])
    arguments = parser.parse_args()
    paths, folders, prepared = read_photos(arguments.photos / arguments.split)
    in_classes = sum(folder in CLASSES for folder in folders)
    print(f"{len(paths)} photos in {arguments.split}, {in_classes} of Fashion-MNIST's classes\n")
    columns = "".join(f"{name:>11}" for name in [*CLASSES, "others"])
    print(f"{'':<24}{'correct':>7}{'macro':>7}{'Bag':>6}{columns}")
    all_clear, is_clear = np.ones(len(paths), bool), np.array([x.note == "" for x in prepared])
    preparations = {
        "grey, resized, inverted": (np.stack([resize(path) for path in paths]), all_clear),
        "trimmed, sharpened": (np.stack([trim_and_sharpen(path) for path in paths]), all_clear),
        "data/photo.py": (np.stack([x.pixels for x in prepared]), is_clear),
    }
    for name in arguments.models:
        classifier = Classifier.load(name)
        print(name)
        for preparation, (pixels, clear) in preparations.items():
            print(f" {preparation:<23}{table_row(classifier, pixels, clear, folders)}")


def table_row(
    classifier: Classifier, pixels: np.ndarray, is_clear: np.ndarray, folders: Sequence[str]
) -> str:
    """Return the shares correct, predicted as Bag, correct in each class, and unsure."""
    probabilities, folder_of = classifier.probabilities(pixels), np.array(folders)
    in_classes = np.isin(folder_of, list(CLASSES))
    is_correct = probabilities.argmax(1) == to_labels(probabilities, folders)
    is_unsure = (probabilities.max(1) < (classifier.card["threshold"] or 0)) | ~is_clear
    recalls = [is_correct[folder_of == name].mean() for name in CLASSES]
    bag = (probabilities.argmax(1) == BAG)[in_classes].mean()
    text = f"{is_correct[in_classes].mean():>7.1%}{np.mean(recalls):>7.1%}{bag:>6.0%}"
    text += "".join(f"{recall:>11.0%}" for recall in recalls)
    text += f"{'-':>11}\n {'  unsure':<23}{is_unsure[in_classes].mean():>7.0%}{'':>13}"
    text += "".join(f"{is_unsure[folder_of == name].mean():>11.0%}" for name in CLASSES)
    return text + f"{is_unsure[~in_classes].mean():>11.0%}"


def to_labels(probabilities: np.ndarray, folders: Sequence[str]) -> np.ndarray:
    """Return a label for each photo: the most probable class of its folder's, or -1 for none."""
    labels = np.full(len(folders), -1)
    for i, name in enumerate(folders):
        if name in CLASSES:
            labels[i] = max(CLASSES[name], key=lambda label, i=i: probabilities[i, label])
    return labels


def read_photos(folder: Path) -> tuple[list[str], list[str], list[PreparedImage]]:
    """Return the paths of the photos, the names of their class folders, and the prepared images."""
    paths = find_pictures([str(folder)])
    if not paths:
        raise SystemExit(f"{folder}: contains no photos")
    folders = [Path(path).parent.name for path in paths]
    return paths, folders, [prepare_photo(read_rgba(path)) for path in paths]


def resize(path: str) -> np.ndarray:
    """Convert to grey, 28x28, inverted."""
    grey = read_rgba(path)[..., :3] @ np.array([0.299, 0.587, 0.114])
    return np.rint(255 - shrink(grey, (SIDE, SIDE))).astype(np.uint8)[..., np.newaxis]


def trim_and_sharpen(path: str) -> np.ndarray:
    """Prepare as in arXiv:1708.07747, section 2, with the corner's colour as the background."""
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
