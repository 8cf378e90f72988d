"""A folder of pictures and the files of an audit of it, made without training."""

import colorsys

import numpy as np
from PIL import Image, ImageDraw

from fashion_cnn.data import load_data
from fashion_cnn.experiments.audit import DUPLICATE_COLUMNS, SUSPECT_COLUMNS
from fashion_cnn.experiments.out_of_fold import NEIGHBORS
from fashion_cnn.files import write_csv, write_json, write_npz

NAMES = ("coat", "<b>hat", "брюки", "靴 & 'shoes\"")  # of classes


def draw(path, hue, seed):
    """A picture of a circle in the color of its class."""
    rng = np.random.default_rng(seed)
    color = tuple(int(255 * x) for x in colorsys.hsv_to_rgb(hue, 0.7, 0.8))
    image = Image.new("RGB", (120, 120), (235, 232, 226))
    x, y = rng.uniform(10, 40, 2)
    ImageDraw.Draw(image).ellipse((x, y, x + 70, y + 70), fill=color)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def make_audit(folder, class_names=NAMES, count=20, suspects=25):
    """Write `photos`, with `count` pictures of each class, and `audit` into a folder."""
    for k, name in enumerate(class_names):
        for i in range(count):
            path = folder / "photos" / name / f"<i>{i:02} ü.png"
            draw(path, k / len(class_names), 100 * k + i)
    data = load_data(folder / "photos")
    return write_audit(folder / "audit", data, suspects)


def write_audit(folder, data, suspects):
    """Write the files of an audit of data, whose first training images are the suspects."""
    folder.mkdir()
    rng, classes = np.random.default_rng(0), len(data.class_names)
    arrays = {}
    for split, labels in (("train", data.train_labels), ("test", data.test_labels)):
        logits = rng.normal(0, 0.3, (len(labels), classes))
        logits[np.arange(len(labels)), labels] += 3
        if split == "train":
            logits[np.arange(suspects), (labels[:suspects] + 1) % classes] += 6
        arrays[split] = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
        shape = (len(labels), NEIGHBORS)
        arrays[f"{split}_neighbors"] = rng.integers(0, len(data.train_labels), shape, np.int32)
    write_npz(folder / "probabilities.npz", arrays)
    rows = []
    for i in range(suspects):
        probability, label = arrays["train"][i], data.train_labels[i]
        row = {"split": "train", "index": i, "label": data.class_names[label]}
        row |= {"suggested": data.class_names[probability.argmax()]}
        row |= {"probability": probability.max(), "label_probability": probability[label]}
        rows.append(row)
    write_csv(folder / "suspects.csv", SUSPECT_COLUMNS, rows)
    write_csv(folder / "duplicates.csv", DUPLICATE_COLUMNS, [])
    recorded = {**data.origin, "image_size": 0, "sha256": data.sha256}
    recorded["class_names"] = list(data.class_names)
    write_json(folder / "audit.json", {"data": recorded})
    return folder
