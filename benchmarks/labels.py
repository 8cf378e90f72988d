"""Claim: few decisions of a person find nearly all wrong labels, and regain the accuracy they cost.

    python benchmarks/labels.py [--seeds 5] [--photos DIR]

Ten per cent of the training labels are made wrong, half of them any other class, half the class
that a preset confuses most with the true one. A simulated person, who knows the true labels, goes
through the training images in the order of `fashion-cnn label` after an audit, or at random; a
decision gives an image its true label. The network is trained again after decisions on some of the
images. `Fashion-MNIST` is 10,000 of its training images, other ones for each seed, and all test
images; `standard` makes its audit, and `quick` is trained. `photos` are class folders with
`groups.csv`: three quarters of the groups to train the head of `efficientnet`, and the last quarter
to test it. A finished seed is a row of `labels.csv`; finished rows are skipped. Prints the tables
of docs/label.md and draws `docs/images/labels.png`.
Seeds: 5. Machine: 2 CPU cores. Duration: 10 minutes a seed, and 10 for the features of
the photos.
"""

import argparse
import dataclasses
import tempfile
from functools import partial
from pathlib import Path

import _results as results
import numpy as np

ROWS = Path(__file__).with_suffix(".csv")
PLOT = Path(__file__).parent.parent / "docs" / "images" / "labels.png"
DATA = ("Fashion-MNIST", "photos")
IMAGES = 10_000
WRONG = 0.1
AUDIT_RECIPE, FOLDS = "standard", 5  # of Fashion-MNIST
DECIDED = (0.0, 0.025, 0.05, 0.1, 0.15)  # shares of the training images
FOUND = 0.9  # share of the wrong labels
# targets: decisions relative to the wrong labels; share of the accuracy, after TARGET_SHARE
MAX_DECISIONS, REGAINED, TARGET_SHARE = 2.0, 0.75, 0.1


def load(name: str, seed: int, photos: Path):
    """Return the clean data and the recipe."""
    from fashion_cnn import RECIPES, load_data
    from fashion_cnn.data.dataset import Data
    from fashion_cnn.data.split import group_folds, stratified
    from fashion_cnn.recipe import fit_to_data

    if name == "photos":
        recipe = dataclasses.replace(RECIPES["efficientnet"], epochs=30)  # the head alone
        data = load_data(photos, recipe.image_size, "groups.csv")
        kept = group_folds(data.train_labels, data.train_groups, 4) > 0
        splits = [(data.train_images[x], data.train_labels[x]) for x in (kept, ~kept)]
        data = Data(*splits[0], *splits[1], data.class_names, train_groups=data.train_groups[kept])
        return data, fit_to_data(recipe, data)
    data = load_data()
    order = np.random.default_rng(seed).permutation(len(data.train_labels))
    chosen = order[stratified(data.train_labels[order], IMAGES)]
    images, labels = data.train_images[chosen], data.train_labels[chosen].astype(int)
    small = dataclasses.replace(data, train_images=images, train_labels=labels, source="arrays")
    return small, fit_to_data(RECIPES["quick"], small)


def most_confused(name: str, data) -> np.ndarray:
    """Return for each class the other one that a preset finds most probable."""
    from fashion_cnn.data.dataset import channels_last
    from fashion_cnn.data.pictures import resize
    from fashion_cnn.inference.classifier import Classifier

    classifier = Classifier.load("clothes" if name == "photos" else "standard", bulk=True)
    images = channels_last(data.train_images[::4])
    if name == "photos":
        size = classifier.shape[:2]
        images = np.stack([resize(image, size) for image in images])
    probabilities, labels = classifier.probabilities(images), data.train_labels[::4]
    classes = range(len(data.class_names))
    mean = np.stack([probabilities[labels == k].mean(0) for k in classes])
    own = mean.argmax(1)  # the preset's number of each class, which may have another name
    if len(set(own)) < len(own):
        raise SystemExit(f"{name}: the preset takes two classes for one")
    mean = mean[:, own]
    np.fill_diagonal(mean, 0)
    return mean.argmax(1)


def make_wrong(labels: np.ndarray, confused: np.ndarray, seed: int) -> np.ndarray:
    """Return labels of which a tenth is wrong."""
    rng = np.random.default_rng(seed + 1000)
    chosen = rng.permutation(len(labels))[: round(WRONG * len(labels))]
    half, noisy = len(chosen) // 2, labels.astype(int).copy()
    other = rng.integers(1, len(confused), half)
    noisy[chosen[:half]] = (noisy[chosen[:half]] + other) % len(confused)
    noisy[chosen[half:]] = confused[noisy[chosen[half:]]]
    return noisy


def measure_one(data: str, seed: int, photos: Path) -> dict[str, object]:
    """Audit, decide and train again; return a row's columns."""
    from fashion_cnn import RECIPES
    from fashion_cnn.evaluation import predict
    from fashion_cnn.experiments.out_of_fold import out_of_fold
    from fashion_cnn.labeling.order import order_labeled
    from fashion_cnn.recipe import fit_to_data
    from fashion_cnn.training.loop import train

    clean, recipe = load(data, seed, photos)
    recipe, truth = dataclasses.replace(recipe, seed=seed), clean.train_labels.astype(int)
    noisy = make_wrong(truth, most_confused(data, clean), seed)
    wrong = noisy != truth
    flawed = dataclasses.replace(clean, train_labels=noisy)
    with tempfile.TemporaryDirectory() as folder:
        audit_recipe = recipe if data == "photos" else fit_to_data(RECIPES[AUDIT_RECIPE], clean)
        audit_recipe = dataclasses.replace(audit_recipe, seed=seed, validation="none")
        predicted = out_of_fold(flawed, audit_recipe, Path(folder), FOLDS, lambda name: None)
    probabilities = predicted["train"]
    order = order_labeled(noisy, probabilities)
    random_order = np.random.default_rng(seed).permutation(len(noisy))

    def accuracy(labels: np.ndarray) -> float:
        model = train(recipe, dataclasses.replace(clean, train_labels=labels)).model
        predicted = predict(model, clean.test_images).argmax(1)
        return round(float((predicted == clean.test_labels).mean()), 5)

    row: dict[str, object] = {"images": len(noisy), "wrong": int(wrong.sum())}
    for name, indices in (("audit", order), ("random", random_order)):
        found = np.cumsum(wrong[indices])
        row[f"{name}_decisions"] = int(np.searchsorted(found, FOUND * wrong.sum()) + 1)
    for share in DECIDED:
        decided, labels = order[: round(share * len(noisy))], noisy.copy()
        labels[decided] = truth[decided]
        row[f"accuracy_{100 * share:g}"] = accuracy(labels)
        row[f"found_{100 * share:g}"] = round(float(wrong[decided].sum() / wrong.sum()), 4)
    return row | {"accuracy_clean": accuracy(truth)} | results.machine_columns()


def regained(rows: list[results.Row], share: float) -> float:
    """Return the share of the accuracy that the wrong labels cost, after some decisions.

    Of the means over the seeds: for one seed the cost may be near zero.
    """
    keys = ("accuracy_0", f"accuracy_{100 * share:g}", "accuracy_clean")
    before, after, clean = (np.mean(results.numbers(rows, key)) for key in keys)
    return float((after - before) / (clean - before))


def tables(rows: list[results.Row]) -> list[str]:
    """Return the tables of docs/label.md: decisions until nearly all are found, and accuracy."""
    header = ["data", "images", "wrong labels", "decisions until 90 % are found, audit order"]
    header += [f"relative to the wrong labels (target: at most {MAX_DECISIONS:g})"]
    header += ["in random order", "n"]
    lines, accuracies = [], []
    for name in DATA:
        runs = results.select(rows, data=name)
        if not runs:
            continue
        ratio = [float(row["audit_decisions"]) / float(row["wrong"]) for row in runs]
        cells = [name, *(results.median(runs, x, 0) for x in ("images", "wrong"))]
        cells += [results.median(runs, "audit_decisions", 0), results.median_quartiles(ratio)]
        lines.append([*cells, results.median(runs, "random_decisions", 0), len(runs)])
        for share in (*DECIDED, None):
            key = "clean" if share is None else f"{100 * share:g}"
            label = "all labels right" if share is None else f"{key} %"
            cells = [name, label, results.mean_sd(runs, f"accuracy_{key}", 100)]
            if share:
                cells.append(results.mean_sd(runs, f"found_{key}", 100, 1))
                cells.append(f"{100 * regained(runs, share):.0f}")
            accuracies.append(cells + [""] * (5 - len(cells)))
    columns = ["data", "images decided", "test accuracy, %", "wrong labels found, %"]
    target = f"target: {100 * REGAINED:g} after {100 * TARGET_SHARE:g} % decided"
    columns += [f"of the lost accuracy regained, % ({target})"]
    return [results.markdown_table(header, lines), results.markdown_table(columns, accuracies)]


def draw(rows: list[results.Row]) -> None:
    """Draw the accuracy, and the wrong labels found, over the share of images decided."""
    import matplotlib

    from fashion_cnn.report.style import STYLE, save

    with matplotlib.rc_context(STYLE):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.6), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(DATA)), DATA, strict=True):
            runs = results.select(rows, data=name)
            x = [100 * share for share in DECIDED]
            for i, row in enumerate(runs):
                accuracies = [100 * float(row[f"accuracy_{k:g}"]) for k in x]
                axes.plot(x, accuracies, color="0.8", lw=1, label="" if i else "one seed")
            means = [np.mean(results.numbers(runs, f"accuracy_{k:g}", 100)) for k in x]
            axes.plot(x, means, "o-", label="after decisions in audit order")
            clean = np.mean(results.numbers(runs, "accuracy_clean", 100))
            axes.axhline(clean, ls="--", color="0.4", label="all labels right")
            axes.set(title=name, xlabel="images decided, %", ylabel="test accuracy, %", xticks=x)
            axes.legend(loc="lower right")
        save(figure, PLOT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--photos", type=Path, help="class folders with groups.csv")
    arguments = parser.parse_args()
    names = DATA if arguments.photos else DATA[:1]
    keys = [{"data": x, "seed": seed} for seed in range(arguments.seeds) for x in names]
    measure = partial(measure_one, photos=arguments.photos)
    rows = results.run_missing(ROWS, keys, measure)
    print(*tables(rows), sep="\n\n")
    draw(rows)


if __name__ == "__main__":
    main()
