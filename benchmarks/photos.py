"""Photos of real clothes: python benchmarks/photos.py DIR [--split validation] [--models NAME...]

How many are answered rightly by way of plain shrinking, of what Fashion-MNIST's makers did, and of
data/photo.py; per class, with how many are called Bag and how many are unsure. DIR has
<split>/<class>/<photo> of the public "clothing dataset (subset)", CC0 1.0. Hats, shorts and skirts
("others") have no class in Fashion-MNIST and should be unsure.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

from fashion_cnn import Classifier
from fashion_cnn.data.photo import SIDE, PreparedImage, prepare_photo, shrink
from fashion_cnn.data.pictures import find_pictures, read_rgba

# folder -> what Fashion-MNIST calls it; the data set does not tell kinds of shoes apart
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
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, metavar="DIR")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--models", nargs="+", default=["textbook", "standard", "photo"])
    arguments = parser.parse_args()
    paths, folders, prepared = read_photos(arguments.photos / arguments.split)
    print(f"{len(paths)} photos in {arguments.split}, {sum(f in CLASSES for f in folders)} of "
          "them of Fashion-MNIST's classes\n")  # fmt: skip
    columns = [*CLASSES, "others"]
    print(f"{'':<24}{'right':>7}{'macro':>7}{'Bag':>6}", *(f"{c:>11}" for c in columns), sep="")
    all_of_them, noted = np.ones(len(paths), bool), np.array([x.note != "" for x in prepared])
    ways = {
        "grey, shrunk, negated": (np.stack([shrunk(path) for path in paths]), all_of_them),
        "as the makers did": (np.stack([trimmed(path) for path in paths]), all_of_them),
        "data/photo.py": (np.stack([x.pixels for x in prepared]), ~noted),
    }
    for name in arguments.models:
        classifier = Classifier.load(name)
        print(name)
        for way, (pixels, found) in ways.items():
            print(f"  {way:<22}{row(classifier, pixels, found, folders)}")


def row(
    classifier: Classifier, pixels: np.ndarray, found: np.ndarray, folders: Sequence[str]
) -> str:
    """Right, by photo and by class; called Bag; and each class's share right, or unsure."""
    answers, where = classifier.probabilities(pixels), np.array(folders)
    known = np.isin(where, list(CLASSES))
    right = answers.argmax(1) == answers_to(answers, folders)
    unsure = (answers.max(1) < (classifier.card["threshold"] or 0)) | ~found
    of_class = [right[where == name].mean() for name in CLASSES]
    bag = (answers.argmax(1) == BAG)[known].mean()
    text = f"{right[known].mean():>7.1%}{np.mean(of_class):>7.1%}{bag:>6.0%}"
    text += "".join(f"{share:>11.0%}" for share in of_class)
    text += f"{'-':>11}\n  {'  unsure':<22}{unsure[known].mean():>7.0%}{'':>13}"
    text += "".join(f"{unsure[where == name].mean():>11.0%}" for name in CLASSES)
    return text + f"{unsure[~known].mean():>11.0%}"


def answers_to(answers: np.ndarray, folders: Sequence[str]) -> np.ndarray:
    """The right answers: of several that would do the likeliest; -1 where there is none."""
    return np.array([
        max(CLASSES[name], key=lambda k, i=i: answers[i, k]) if name in CLASSES else -1
        for i, name in enumerate(folders)
    ])  # fmt: skip


def read_photos(folder: Path) -> tuple[list[str], list[str], list[PreparedImage]]:
    """The photos' paths, the names of their class folders, and what was made of them."""
    paths = find_pictures([str(folder)])
    if not paths:
        raise SystemExit(f"{folder}: no photos there")
    folders = [Path(path).parent.name for path in paths]
    return paths, folders, [prepare_photo(read_rgba(path)) for path in paths]


def shrunk(path: str) -> np.ndarray:
    """What somebody would do first: grey, 28x28, negated."""
    grey = read_rgba(path)[..., :3] @ np.array([0.299, 0.587, 0.114])
    return np.rint(255 - shrink(grey, (SIDE, SIDE))).astype(np.uint8)[..., np.newaxis]


def trimmed(path: str) -> np.ndarray:
    """Section 2 of arXiv:1708.07747, for photos that are not on white: the corner's colour is."""
    photo = Image.fromarray(read_rgba(path)).convert("RGB")
    corner = Image.new("RGB", photo.size, photo.getpixel((0, 0)))
    away = ImageChops.difference(photo, corner).convert("L").point(lambda x: 255 * (x > 13))
    photo = photo.crop(away.getbbox() or (0, 0, *photo.size))
    photo.thumbnail((SIDE, SIDE))
    canvas = Image.new("RGB", (SIDE, SIDE), corner.getpixel((0, 0)))
    place = (SIDE - photo.width) // 2, (SIDE - photo.height) // 2
    canvas.paste(photo.filter(ImageFilter.SHARPEN), place)
    return np.asarray(ImageOps.invert(canvas).convert("L"))[..., np.newaxis]


if __name__ == "__main__":
    main()
