"""`predict`: a few pictures on the terminal, or very many into Parquet files."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from fashion_cnn.cli import options as opt
from fashion_cnn.console import UsageError, print_message, progress_bar
from fashion_cnn.files import write_csv

TOP = 3  # classes that are printed
MAX_SHOWN = 100  # pictures on the sheet of --show
MANY = 200  # pictures that take more than two seconds
DRAWING_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def predict(
    inputs: opt.Inputs,
    model: opt.Model = "photo",
    top: opt.Top = TOP,
    format_: opt.PrintFormat = opt.OutputFormat.table,
    unsure: opt.Unsure = None,
    show: opt.Show = None,
    explain: opt.Explain = None,
    output: opt.BatchFolder = None,
    cluster: opt.Cluster = None,
) -> None:
    """Classify photos of garments, or pictures like those of Fashion-MNIST."""
    words = _expand_stdin(inputs)
    if output:
        if unsure or show or explain or (top, format_) != (TOP, opt.OutputFormat.table):
            raise UsageError(
                "--output: goes without --unsure, --show, --explain, --top and --format"
            )
        _predict_many(words, model, output, cluster)
        return
    if cluster:
        raise UsageError("--cluster needs --output DIR")
    for path in filter(None, (show, explain)):
        if path.suffix.lower() not in DRAWING_SUFFIXES:
            raise UsageError(f"{path}: expected a name that ends in {', '.join(DRAWING_SUFFIXES)}")
    from fashion_cnn.inference.classifier import Classifier

    classifier = Classifier.load(model)
    paths = _find(words, inputs)
    if explain and len(paths) > 1:
        raise UsageError(f"--explain: expected one picture, got {len(paths)}; --show takes many")
    shown = MAX_SHOWN if show or explain else 0
    drawn, review, predicted = _predict_and_print(classifier, paths, top, format_, shown)
    if unsure:
        write_csv(unsure, ("path", "label", "probability", "verdict", "error"), review)
    _draw(classifier, drawn, show, explain)
    if show and predicted > MAX_SHOWN:
        print_message(f"{show}: shows the first {MAX_SHOWN}")
    if failed := len(paths) - predicted:
        raise ValueError(f"{failed} of {len(paths)} pictures could not be read")


def _expand_stdin(inputs: list[str]) -> list[str]:
    """The words of the command line, with the lines of standard input in place of `-`."""
    words: list[str] = []
    for word in inputs:
        words += sys.stdin.read().splitlines() if word == "-" else [word]
    return [word for word in words if word]


def _find(words: list[str], inputs: list[str]) -> list[str]:
    from fashion_cnn.data.pictures import find_pictures

    paths = find_pictures(words)
    if not paths:
        raise ValueError(f"{' '.join(inputs)}: no pictures there (PNG, JPEG, WebP, GIF or BMP)")
    return paths


def _predict_and_print(
    classifier: Any, paths: list[str], top: int, format_: str, shown: int
) -> tuple[list[Any], list[dict[str, Any]], int]:
    """Predict and print picture by picture.

    Returns:
        Path, prepared image and prediction of the first `shown`; rows of what should be reviewed;
        how many pictures could be read.
    """
    from fashion_cnn.cli.predictions import print_header, print_prediction, review_row
    from fashion_cnn.inference.predictions import predict_paths

    drawn: list[Any] = []
    review: list[dict[str, Any]] = []
    predicted = 0
    print_header(format_)
    with_bar = len(paths) > MANY and not sys.stdout.isatty()  # else the predictions show progress
    with progress_bar(len(paths)) if with_bar else nullcontext(lambda name: None) as advance:
        for path, prepared, prediction, error in predict_paths(classifier, paths):
            advance("pictures")
            print_prediction(path, prediction, error, top, format_)
            predicted += prediction is not None
            if prediction is None or not prediction.sure:
                review.append(review_row(path, prediction, error))
            if prediction and len(drawn) < shown:
                drawn.append((path, prepared, prediction))
    return drawn, review, predicted


def _draw(classifier: Any, drawn: list[Any], show: Path | None, explain: Path | None) -> None:
    if drawn and (show or explain):
        from fashion_cnn.inference.drawing import draw_contact_sheet, draw_explanation

        if show:
            paths, prepared, predictions = zip(*drawn, strict=True)
            draw_contact_sheet(paths, prepared, predictions, show)
        if explain:
            path, image, prediction = drawn[0]
            draw_explanation(path, image, prediction, classifier.occlusion_map(image), explain)


def _predict_many(words: list[str], model: str, output: Path, cluster: str | None) -> None:
    from fashion_cnn.inference.batch import count_pictures, open_batch, predict_parts
    from fashion_cnn.inference.classifier import Classifier

    classifier = Classifier.load(model, threads=1)
    with open_batch(words, classifier, output) as (missing, parts):
        if len(missing) < parts:
            print_message(f"{parts - len(missing)} of {parts} parts exist already")
        with progress_bar(len(missing)) as advance:
            advance("parts")
            for _ in predict_parts(missing, classifier, output, cluster):
                advance("parts")
        pictures, failed = count_pictures(output, parts)
    print(f"{pictures:,} pictures, {failed:,} of which could not be read: {output}")
