"""Claim: pictures of a class that a network has not seen are less similar to its training pictures.

    python benchmarks/unknown.py --photos DIR --weights FILE [--trial NAME] [--class NAME]...

Leave-one-class-out on DIR/train/<class>: a network is trained without one class and without the
people of fold 0 (see clothes.py), and tells that class's photos from those of the other classes by
these people. A finished class is a row of `unknown.csv` with the AUROC of each score, and with the
share of its photos that reach the score which 80 % of the known photos reach. The scores are the
highest probability, energy (Liu et al. 2020, arXiv:2010.03759), the cosine to the fifth nearest
training photo of the predicted class, that to its nearest cluster mean, which exported models use,
and the lower of the ranks of probability and cluster among the known photos.
Seeds: 0. Machine: one GPU (KERAS_BACKEND=jax), or 2 CPU cores. Duration: a class takes 1 minute on
a GPU and 30 to 60 minutes on a CPU.
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
COVERAGE = 0.8  # share of the known photos that reach a score
BATCH = 50


def score(trained, labels: np.ndarray, tested, head) -> dict[str, np.ndarray]:
    """Return scores (n,), higher for known pictures, from features of trained and tested photos."""
    from scipy.special import logsumexp, softmax

    from fashion_cnn.evaluation.unknown import cluster_means, similarities

    kernel, bias = head
    logits = tested @ kernel + bias
    predicted = logits.argmax(1)
    unit, unit_trained = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (tested, trained))
    cosines = np.where(labels == predicted[:, np.newaxis], unit @ unit_trained.T, -1)
    return {
        "probability": softmax(logits, axis=1).max(1),
        "energy": logsumexp(logits, axis=1),
        "neighbor": np.sort(cosines, axis=1)[:, -NEIGHBOR],
        "clusters": similarities(tested, predicted, *cluster_means(trained, labels)),
    }


def leave_out(photos: Path, recipe, name: str) -> dict[str, object]:
    """Train without a class; how well each score tells its photos from others, as a row."""
    from fashion_cnn import train
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
    scores = score(extract(images[trained]), labels[trained], extract(compared), head)
    row = {"known": int(tested.sum()), "unknown": int((~known).sum())}
    return row | compare(scores, is_known)


def compare(scores: dict[str, np.ndarray], is_known: np.ndarray) -> dict[str, float]:
    """Return AUROC of each score, and the share of unknown photos among its best."""
    from sklearn.metrics import roc_auc_score

    ranks = [
        np.searchsorted(np.sort(scores[key][is_known]), scores[key])
        for key in ("probability", "clusters")
    ]
    scores = scores | {"both": np.minimum(*ranks)}
    row = {key: roc_auc_score(is_known, x) for key, x in scores.items()}
    for key, x in scores.items():
        least = np.quantile(x[is_known], 1 - COVERAGE)
        row[f"{key}_reach"] = (x[~is_known] >= least).mean()
    return {key: round(float(x), 4) for key, x in row.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--trial", default="mobilenet", help="of clothes.py. Default: mobilenet")
    parser.add_argument("--class", action="append", dest="classes", help="Default: all")
    arguments = parser.parse_args()
    recipe = clothes.get_recipe(arguments.trial, arguments.weights)
    names = arguments.classes or sorted(x.name for x in (arguments.photos / "train").iterdir())
    for name in names:
        key = {"trial": arguments.trial, "class": name}
        if not results.is_finished(ROWS, **key):
            row = leave_out(arguments.photos, recipe, name)
            results.append_row(ROWS, key | row | results.machine_columns(("keras", "jax")))


if __name__ == "__main__":
    main()
