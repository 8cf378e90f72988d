"""`predict` and `serve`: a model for a few pictures, for very many, or behind HTTP."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from fashion_cnn.cli import options as opt
from fashion_cnn.console import UsageError, print_message, progress_bar

TOP = 3  # classes that are printed
MAX_SHOWN = 100  # pictures on the sheet of --show
MANY = 200  # pictures that take more than two seconds
FEW_PICTURES_OPTIONS = "--unsure, --show, --explain, --top, --set-coverage and --format"
DRAWING_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def predict(
    inputs: opt.Inputs,
    model: opt.Model = "clothes",
    top: opt.Top = TOP,
    set_coverage: opt.SetCoverage = None,
    format_: opt.PrintFormat = "table",
    unsure: opt.Unsure = None,
    show: opt.Show = None,
    explain: opt.Explain = None,
    output: opt.BatchFolder = None,
    runtime: opt.Runtime = "auto",
    precision: opt.BulkPrecision = "auto",
    cluster: opt.Cluster = None,
) -> None:
    """Classify photos of garments, or images like Fashion-MNIST's."""
    from fashion_cnn.inference.pipes import read_pipes

    words, piped = read_pipes(inputs)
    if output:
        if unsure or show or explain or (top, set_coverage, format_) != (TOP, None, "table"):
            raise UsageError(f"--output cannot be combined with {FEW_PICTURES_OPTIONS}")
        if piped:
            raise UsageError(f"{min(piped)}: no list of names; with --output expected one a line")
        _predict_many(words, model, output, (runtime, precision), cluster)
        return
    if cluster:
        raise UsageError("--cluster needs --output DIR")
    for path in filter(None, (show, explain)):
        if path.suffix.lower() not in DRAWING_SUFFIXES:
            raise UsageError(f"{path}: expected a name that ends in {', '.join(DRAWING_SUFFIXES)}")
    from fashion_cnn.data.picture_files import FORMAT_NAMES
    from fashion_cnn.data.pictures import find_pictures
    from fashion_cnn.inference.classifier import Classifier

    classifier, paths = Classifier.load(model, 0, runtime, precision), find_pictures(words)
    if not paths:
        raise ValueError(
            f"{' '.join(inputs)[:200]}: no pictures there ({FORMAT_NAMES}); images in IDX or .npz "
            "files go as arrays to Classifier.predict in Python"
        )
    if explain and len(paths) > 1:
        raise UsageError(f"--explain: expected one picture, got {len(paths)}; --show takes many")
    shown = MAX_SHOWN if show or explain else 0
    choose = partial(_printed_classes, classifier, top, set_coverage)
    drawn, failed = _predict_and_print(classifier, paths, piped, choose, format_, unsure, shown)
    if drawn:
        _draw(classifier, drawn, show, explain)
    if show and len(paths) - failed > MAX_SHOWN:
        print_message(f"{show}: shows the first {MAX_SHOWN}")
    if failed:
        raise ValueError(f"{failed} of {len(paths)} pictures could not be read")


def _predict_and_print(
    classifier: Any,
    paths: list[str],
    piped: dict[str, bytes],
    choose: Callable[[Any], list[tuple[str, float]]],
    format_: str,
    unsure: Path | None,
    shown: int,
) -> tuple[list[Any], int]:
    """Predict and print pictures; what to draw of the first `shown`, and how many failed."""
    from fashion_cnn.cli.predictions import print_header, print_result, to_row
    from fashion_cnn.files import write_csv
    from fashion_cnn.inference.predictions import predict_paths

    drawn: list[Any] = []
    review: list[dict[str, Any]] = []
    failed = 0
    print_header(format_)
    with_bar = len(paths) > MANY and not sys.stdout.isatty()  # else the predictions show progress
    with progress_bar(len(paths)) if with_bar else nullcontext(lambda name: None) as advance:
        for result in predict_paths(classifier, paths, piped):
            advance("pictures")
            print_result(result, choose(result.prediction), format_)
            failed += result.prediction is None
            if not (result.prediction and result.prediction.sure):
                review.append(to_row(result))
            if result.prediction and len(drawn) < shown:
                drawn.append((result.name, result.prepared, result.prediction))
    if unsure:
        columns = ("path", "label", "probability", "verdict", "note", "error")
        write_csv(unsure, columns, review)
    return drawn, failed


def _printed_classes(
    classifier: Any, top: int, set_coverage: float | None, prediction: Any
) -> list[tuple[str, float]]:
    """The `top` most probable classes of a prediction, or its prediction set."""
    if prediction is None:
        return []
    if set_coverage is not None:
        return list(classifier.prediction_set(prediction, set_coverage).items())
    return list(prediction.probabilities.items())[:top]


def _draw(classifier: Any, drawn: list[Any], show: Path | None, explain: Path | None) -> None:
    from fashion_cnn.inference.drawing import draw_contact_sheet, draw_explanation

    if show:
        print_message(f"Drawn: {draw_contact_sheet(drawn, show)}")
    if explain:
        print_message(
            "Occlusion map: about 300 predictions, each with a part of the picture covered"
        )
        name, prepared, prediction = drawn[0]
        occlusion = classifier.occlusion_map(prepared)
        path = draw_explanation(name, prepared, prediction, occlusion, explain)
        print_message(f"Drawn: {path}")


def _predict_many(
    words: list[str], model: str, output: Path, runtime: tuple[str, str], cluster: str | None
) -> None:
    from fashion_cnn.inference.batch import count_pictures, open_batch, predict_parts
    from fashion_cnn.inference.classifier import Classifier

    classifier = Classifier.load(model, 1, *runtime, bulk=True)
    with open_batch(words, classifier, output) as (missing, parts):
        if len(missing) < parts:
            print_message(f"{parts - len(missing)} of {parts} parts exist already")
        with progress_bar(len(missing)) as advance:
            advance("parts")
            for _ in predict_parts(missing, classifier, output, cluster):
                advance("parts")
        pictures, failed, runtimes = count_pictures(output, parts)
    print_message(f"Computed by {'; '.join(sorted(runtimes))}")
    print(f"{pictures:,} pictures, {failed:,} of which could not be read: {output}")


def serve(
    model: opt.ModelArgument = "clothes",
    host: opt.Host = "127.0.0.1",
    port: opt.Port = 8000,
    workers: opt.Workers = None,
    token: opt.TokenFile = None,
    origins: opt.Origins = None,
    hosts: opt.Hosts = None,
    root_path: opt.RootPath = "",
    keep_alive: opt.KeepAlive = 75,
    grace: opt.Grace = 20,
    runtime: opt.Runtime = "auto",
    precision: opt.Precision = "auto",
    cluster: opt.Cluster = None,
) -> None:
    """Serve predictions over HTTP, and a page to try them."""
    from fashion_cnn.machine import LOOPBACK_HOSTS
    from fashion_cnn.serving.settings import Settings, ignore_early_reload, read_token

    ignore_early_reload()
    secret = read_token(token) if token else None
    settings = Settings(
        host=host,
        port=port,
        workers=workers or 1,
        token=secret,
        origins=tuple(origins or ()),
        hosts=tuple(hosts or ()),
        root_path=root_path,
        keep_alive=keep_alive,
        grace=grace,
        runtime=runtime,
        precision=precision,
    )
    if host not in LOOPBACK_HOSTS and secret is None:
        warning = f"Warning: anybody who can reach {host} can send requests"
        print_message(f"{warning}; --token-file PATH restricts them")
    if cluster:
        from fashion_cnn.serving.cluster import serve_on

        serve_on(cluster, model, settings, workers)
        return
    from fashion_cnn.serving.server import serve as start

    start(model, settings)
