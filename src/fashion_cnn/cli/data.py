"""`data`, `recipes` and `presets`: what there is."""

import math
import sys
from pathlib import Path
from typing import Any

from fashion_cnn.cli import options as opt
from fashion_cnn.console import format_seconds, plural, print_message


def data(
    source: opt.Source = "fashion-mnist",
    groups: opt.Groups = "",
    decisions: opt.DecisionsFile = "",
    output: opt.SamplesPlot = None,
) -> None:
    """Check a data set, count its images, and draw samples."""
    from fashion_cnn.data import load_data
    from fashion_cnn.data.duplicates import near_duplicates
    from fashion_cnn.data.group_hints import suggest_groups
    from fashion_cnn.report import draw_samples

    data = load_data(source, groups=groups, decisions=decisions)
    print(f"Source      {data.location}")
    if data.source == "fashion-mnist":
        for name, digest in data.sha256.items():
            if name != "decisions":
                print(f"Verified    {name}  SHA-256 {digest[:16]}…")
    else:
        _print_images(data)
    _print_counts(data)
    for note in data.notes:
        print(f"\nNote        {note}")
    if sys.stderr.isatty() and len(data.test_labels) * len(data.train_labels) > 10**8:
        print_message("Comparing all test images with all training images")
    tests, trains, _ = near_duplicates(data.test_images, data.train_images)
    images = plural(len(tests), "image is", "images are")
    print(f"\nDuplicates  {len(tests)} test {images} nearly identical to a training image")
    if data.test_files:
        for i, j in list(zip(tests, trains, strict=True))[:10]:
            print(f"            {data.test_files[i]}  {data.train_files[j]}")
        if not data.groups and (hint := suggest_groups(Path(data.source), len(tests))):
            print(f"\nGroups      {hint}")
    path = output or Path(f"{Path(data.source).stem}-samples.png")
    print(f"\nSamples     {draw_samples(data, path)}")


def _print_images(data: Any) -> None:
    """Sizes of the images, and for class folders which files cannot be read."""
    height, width, channels = data.image_shape
    kind = "gray" if channels == 1 else "color"
    if not data.train_files:
        print(f"Images      {height}x{width}, {kind}")
        return
    from fashion_cnn.data.class_folders import list_pictures

    listing = list_pictures(Path(data.source))
    sizes = sorted((picture.size for picture in listing.readable()), key=math.prod)
    for name, (height, width) in (("smallest", sizes[0]), ("largest", sizes[-1])):
        print(f"Images      {kind}, the {name} {width} wide and {height} high")
    print(f"Files       {len(listing.pictures):,}, and {len(listing.ignored):,} left out")
    for name, reason in listing.unreadable():
        print(f"Unreadable  {name}: {reason}")


def _print_counts(data: Any) -> None:
    import numpy as np

    width, classes = max(14, *(len(name) + 2 for name in data.class_names)), len(data.class_names)
    train, validation = data.train_labels[data.train_index], data.split("validation")[1]
    counts = [np.bincount(x, minlength=classes) for x in (train, validation, data.test_labels)]
    print(f"\n{'Class':<{width}}{'train':>8}{'validation':>12}{'test':>8}")
    rows = [*zip(data.class_names, *counts, strict=True), ("total", *(sum(x) for x in counts))]
    for name, in_train, in_validation, in_test in rows:
        print(f"{name:<{width}}{in_train:>8,}{in_validation:>12,}{in_test:>8,}")


def recipes() -> None:
    """List the recipes that `train` knows."""
    from fashion_cnn.recipes import RECIPES, measured

    figures, row = measured(), "{:<17}{:<10}{:>6}{:>7}{:>20}{:>8}"
    print(row.format("recipe", "model", "epochs", "batch", "test accuracy, %", "time"))
    for recipe in RECIPES.values():
        promise = _promise(figures["recipes"].get(recipe.name))
        settings = [f"{key}={str(value).lower()}" for key, value in recipe.options.items()]
        settings += [f"augment={','.join(recipe.augment)}"] if recipe.augment else []
        settings += [f"skip_easy={recipe.skip_easy:g}"] if recipe.skip_easy else []
        cells = row.format(recipe.name, recipe.model, recipe.epochs, recipe.batch_size, *promise)
        print(f"{cells}  {' '.join(settings)}".rstrip())
    print(f"\nMean ± sd over seeds; time of the whole training on {figures['machine']}.")
    print("`fashion-cnn train RECIPE` writes all settings into the run's recipe.json.")


def _promise(figures: dict[str, float] | None) -> tuple[str, str]:
    """Test accuracy and time of a recipe as text; empty where they have not been measured."""
    if not figures:
        return "", ""
    accuracy = f"{figures['test_accuracy']:.2f}"
    if "test_accuracy_sd" in figures:  # more than one run
        accuracy += f" ± {figures['test_accuracy_sd']:.2f}"
    return accuracy, format_seconds(figures["seconds"])


def presets() -> None:
    """List the pretrained models included in the package."""
    from fashion_cnn.inference.model_files import presets as cards

    row = "{:<10}{:>11}{:>26}{:>12}  {}"
    print(row.format("preset", "parameters", "test accuracy, % (95 %)", "made", "for"))
    for name, card in cards().items():
        low, high = card["test"]["accuracy_interval"]
        accuracy = f"{100 * card['test']['accuracy']:.2f} ({100 * low:.2f} to {100 * high:.2f})"
        print(row.format(name, f"{card['parameters']:,}", accuracy, card["made"], card["purpose"]))
    print("\n`clothes` was tested on photos, the others on Fashion-MNIST. On photos `photo` is")
    print("less accurate than `clothes`.")
    print("`fashion-cnn predict PICTURE --model PRESET`. Default: clothes.")
