"""Claim: without a download, `--weights clothes` takes the place of `--weights imagenet`.

    python benchmarks/weights.py [--clothes MODEL] [--seeds N]

Trains `efficientnet` from three kinds of weights on two things that are not photos of clothes: ten
drawn shapes, 20 of each, in front of blurred colors, lines and noise; and 1,000 images of
Fashion-MNIST, enlarged to 96 pixels. `imagenet` and `clothes` train the head alone (30 epochs),
`none` trains all layers. The accuracy is that on 400 other drawings, and on 1,000 of the
validation images of Fashion-MNIST. Each seed draws and selects anew. A finished run is a row of
`weights.csv`; finished rows are skipped. Prints the table of docs/own-pictures.md.
Seeds: 3; 1 of `none`. Machine: 1 CPU core. Duration: 25 minutes.
"""

import argparse
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import _results as results
import numpy as np
from PIL import Image, ImageDraw

ROWS = Path(__file__).with_suffix(".csv")
WEIGHTS = ("imagenet", "clothes", "none")
SIZE = 96
SHAPES = [(corners, is_star) for corners in (3, 4, 5, 6, 8) for is_star in (False, True)]
EPOCHS = {"drawn shapes": 60, "Fashion-MNIST": 20}  # of `none`
Split = tuple[np.ndarray, np.ndarray]


def draw_shape(corners: int, is_star: bool, rng: np.random.Generator) -> np.ndarray:
    """Draw a polygon or a star, turned and stretched: uint8 (96, 96, 3)."""
    clouds = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    picture = clouds.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    radius, turn = rng.uniform(18, 40), rng.uniform(0, math.tau)
    stretch, (x, y) = rng.uniform(0.75, 1), rng.uniform(radius, SIZE - radius, 2)
    inner = math.cos(math.pi / corners) * (0.5 if is_star else 1)  # 1: the middle of an edge
    points = []
    for i in range(2 * corners):
        length, angle = radius * (inner if i % 2 else 1), turn + math.pi * i / corners
        points.append((x + stretch * length * math.cos(angle), y + length * math.sin(angle)))
    draw.polygon(points, fill=tuple(rng.integers(0, 256, 3)))
    for _ in range(3):
        draw.line(tuple(rng.uniform(0, SIZE, 4)), tuple(rng.integers(0, 256, 3)), width=2)
    noisy = np.asarray(picture) + rng.normal(0, 15, (SIZE, SIZE, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def draw_split(count: int, rng: np.random.Generator) -> Split:
    """Draw `count` of each shape."""
    labels = np.repeat(np.arange(len(SHAPES)), count)
    return np.stack([draw_shape(*SHAPES[label], rng) for label in labels]), labels


def make_data(data: str, seed: int) -> tuple[Split, Split]:
    """Return training images and those that the accuracy is measured on."""
    rng = np.random.default_rng(seed)
    if data == "drawn shapes":
        return draw_split(20, rng), draw_split(40, rng)
    from fashion_cnn import load_data

    fashion = load_data()
    indices = (rng.permutation(x)[:1000] for x in (fashion.train_index, fashion.validation_index))
    train, validation = ((fashion.train_images[i], fashion.train_labels[i]) for i in indices)
    return train, validation


def train_one(data: str, weights: str, seed: int, clothes: str) -> dict[str, object]:
    """Train, and measure the accuracy."""
    from fashion_cnn import RECIPES, train
    from fashion_cnn.evaluation import predict
    from fashion_cnn.recipe import fit_to_few_images

    splits = make_data(data, seed)
    (_, labels), (other_images, other_labels) = splits
    recipe = RECIPES["efficientnet"]
    source = clothes if weights == "clothes" else weights
    recipe = replace(
        recipe, options={**recipe.options, "weights": source}, augment=(), validation="none"
    )
    epochs = EPOCHS[data] if weights == "none" else recipe.head_epochs
    recipe = replace(fit_to_few_images(recipe, len(labels)), epochs=epochs, seed=seed)
    trained = train(recipe, splits)
    correct = predict(trained.model, other_images).argmax(1) == other_labels
    row = {"epochs": epochs, "accuracy": round(float(correct.mean()), 4)}
    return row | {"seconds": round(trained.seconds, 1)}


def table(rows: list[results.Row]) -> str:
    """Return the table of docs/own-pictures.md: mean ± sd over the seeds."""
    lines = []
    for data in EPOCHS:
        for weights in WEIGHTS:
            if runs := results.select(rows, data=data, weights=weights):
                layers = "all layers" if weights == "none" else "the head"
                trained = f"{layers}, {runs[0]['epochs']} epochs"
                accuracy = results.mean_sd(runs, "accuracy", 100, 1)
                lines.append([data, f"`{weights}`", trained, accuracy, len(runs)])
    return results.markdown_table(["pictures", "weights", "trained", "accuracy, %", "n"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clothes", default="clothes", help="another model of that network")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    keys = [
        {"data": data, "weights": weights, "seed": seed}
        for seed in range(arguments.seeds)
        for weights in WEIGHTS
        for data in EPOCHS
        if weights != "none" or seed == 0
    ]
    keys.sort(key=lambda key: key["weights"] == "none")  # these take longest
    run = partial(train_one, clothes=arguments.clothes)
    print(table(results.run_missing(ROWS, keys, run)))


if __name__ == "__main__":
    main()
