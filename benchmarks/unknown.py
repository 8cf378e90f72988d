"""Claim: pictures of a class that a network has not seen are less similar to its training pictures.

    python benchmarks/unknown.py --photos DIR --weights FILE [--trial NAME] [--class NAME]...
        [--size N] [--epochs N]

Leave-one-class-out on DIR/train/<class>: a network is trained without one class and without the
people of fold 0 (see clothes.py), and tells that class's photos from those of the other classes by
these people. A finished class is a row of `unknown.csv` with the AUROC of each score, and with the
share of its photos that reach the score which 80 % of the known photos reach. The scores are the
highest probability, energy (Liu et al. 2020, arXiv:2010.03759), the cosine to the fifth nearest
training photo of the predicted class, that to its nearest cluster mean, ViM (Wang et al. 2022,
arXiv:2203.10807), the cosine to the cluster mean less that to a mean of outliers, which exported
models use, and the lower of its rank and that of the probability among the known photos.
`--size` and `--epochs` make the networks cheaper than the recipe's.
Seeds: 0. Machine: one GPU (KERAS_BACKEND=jax), or 2 CPU cores. Duration: a class takes 1 minute on
a GPU; on a CPU 20 to 60 minutes, or 5 with `--trial mobilenet --size 160 --epochs 36`.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import _results as results
import clothes
import numpy as np

ROWS = Path(__file__).with_suffix(".csv")
FOLD = 0  # whose people are not trained on
NEIGHBOR = 5
VIM_DIMENSIONS = 256  # of the principal space
COVERAGE = 0.8  # share of the known photos that reach a score
BATCH = 50


def score(trained, labels: np.ndarray, tested, outliers, head) -> dict[str, np.ndarray]:
    """Return scores (n,), higher for known pictures, from the features of photos and outliers."""
    from scipy.special import logsumexp, softmax

    from fashion_cnn.evaluation.unknown import cluster_means, similarities, with_outliers

    kernel, bias = head
    logits = tested @ kernel + bias
    predicted = logits.argmax(1)
    unit, unit_trained = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (tested, trained))
    cosines = np.where(labels == predicted[:, np.newaxis], unit @ unit_trained.T, -1)
    clusters, energy = cluster_means(trained, labels), logsumexp(logits, axis=1)
    return {
        "probability": softmax(logits, axis=1).max(1),
        "energy": energy,
        "neighbor": np.sort(cosines, axis=1)[:, -NEIGHBOR],
        "clusters": similarities(tested, predicted, *clusters),
        "vim": energy - scaled_residual(trained, tested, head),
        "outliers": similarities(tested, predicted, *with_outliers(*clusters, outliers)),
    }


def scaled_residual(trained, tested, head) -> np.ndarray:
    """Return ViM's virtual logit: the scaled length of features outside the principal space."""
    kernel, bias = head
    origin = -np.linalg.pinv(kernel.T) @ bias
    centered = trained - origin
    values, vectors = np.linalg.eigh(centered.T @ centered / len(centered))
    rest = vectors[:, np.argsort(values)[:-VIM_DIMENSIONS]]
    lengths = [np.linalg.norm((x - origin) @ rest, axis=1) for x in (trained, tested)]
    scale = (trained @ kernel + bias).max(1).mean() / lengths[0].mean()
    return scale * lengths[1]


def leave_out(photos: Path, recipe, name: str) -> dict[str, object]:
    """Train without a class; how well each score tells its photos from others, as a row."""
    from fashion_cnn import train
    from fashion_cnn.evaluation.unknown import outlier_features
    from fashion_cnn.models.features import features_model

    data, folds = clothes.load_photos(photos, recipe.image_size)
    images, left_out = data.train_images, data.class_names.index(name)
    labels, known = data.train_labels.astype(int), data.train_labels != left_out
    labels -= labels > left_out
    trained, tested = known & (folds != FOLD), known & (folds == FOLD)
    rest = replace(
        data,
        train_images=images[trained],
        train_labels=labels[trained],
        test_images=images[tested],
        test_labels=labels[tested],
        class_names=tuple(x for x in data.class_names if x != name),
    )
    model = train(recipe, rest).model
    network = features_model(model)
    extract = partial(network.predict, batch_size=BATCH, verbose=0)
    compared = np.concatenate([images[tested], images[~known]])
    is_known = np.arange(len(compared)) < tested.sum()
    head = model.layers[-1].get_weights()
    outliers = outlier_features(network)
    scores = score(extract(images[trained]), labels[trained], extract(compared), outliers, head)
    row = {"known": int(tested.sum()), "unknown": int((~known).sum())}
    return row | compare(scores, is_known)


def compare(scores: dict[str, np.ndarray], is_known: np.ndarray) -> dict[str, float]:
    """Return AUROC of each score, and the share of unknown photos among its best."""
    from sklearn.metrics import roc_auc_score

    ranks = [
        np.searchsorted(np.sort(scores[key][is_known]), scores[key])
        for key in ("probability", "outliers")
    ]
    scores = scores | {"both": np.minimum(*ranks)}
    row = {key: roc_auc_score(is_known, x) for key, x in scores.items()}
    for key, x in scores.items():
        least = np.quantile(x[is_known], 1 - COVERAGE)
        row[f"{key}_reach"] = (x[~is_known] >= least).mean()
    return {key: round(float(x), 4) for key, x in row.items()}


def table(rows: list[results.Row]) -> str:
    """Return the table of docs/experiments.md: AUROC, and the percentage that reaches the score."""
    names = {
        "probability": "probability",
        "energy": "energy",
        "neighbor": "fifth nearest photo",
        "clusters": "nearest cluster mean",
        "vim": "ViM",
        "outliers": "the mean, less that of outliers",
        "both": "lower rank of that and probability",
    }
    lines = []
    for setting in dict.fromkeys((row["trial"], row["size"], row["epochs"]) for row in rows):
        trial, size, epochs = setting
        network = f"`{trial}`, {size} pixels, {epochs} epochs"
        group = results.select(rows, trial=trial, size=size, epochs=epochs)
        figures = {
            row["class"]: [(float(row[x]), float(row[f"{x}_reach"])) for x in names]
            for row in sorted(group, key=lambda row: row["class"])
        }
        figures["**mean**"] = np.mean(list(figures.values()), axis=0).tolist()
        for name, values in figures.items():
            cells = [f"{auroc:.2f}, {reach:.0%}" for auroc, reach in values]
            lines.append([network, name, *cells])
    return results.markdown_table(["network", "class left out", *names.values()], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--trial", default="mobilenet", help="of clothes.py. Default: mobilenet")
    parser.add_argument("--class", action="append", dest="classes", help="Default: all")
    parser.add_argument("--size", type=int, help="pixels. Default: the recipe's")
    parser.add_argument("--epochs", type=int, help="Default: the recipe's")
    arguments = parser.parse_args()
    recipe = clothes.get_recipe(arguments.trial, arguments.weights)
    size, epochs = arguments.size or recipe.image_size, arguments.epochs or recipe.epochs
    recipe = replace(recipe, image_size=size, epochs=epochs)
    names = arguments.classes or sorted(x.name for x in (arguments.photos / "train").iterdir())
    settings = {"trial": arguments.trial, "size": size, "epochs": epochs}
    keys = [{**settings, "class": name} for name in names]

    def run(**key: object) -> dict[str, object]:
        row = leave_out(arguments.photos, recipe, str(key["class"]))
        return row | results.machine_columns(("keras", "jax"))

    print(table(results.run_missing(ROWS, keys, run)))


if __name__ == "__main__":
    main()
