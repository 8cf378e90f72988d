"""The command line: one verb, one function; each parses its words and calls."""

import json
import logging
import math
import os
import select
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from fashion_cnn.console import print_message, progress_bar
from fashion_cnn.files import write_csv
from fashion_cnn.run import Run

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train, understand and use a convolutional classifier for clothes.",
    epilog="Add --debug to any command for the full traceback of a failure.",
)

DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="SOURCE",
        help="fashion-mnist, a folder of class folders or of IDX files, or an .npz.",
    ),
]

ClusterOption = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT|auto", help="Use the machines of a Ray cluster, not this one."),
]

JobsOption = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Trainings at a time; one a core without. A GPU takes 1."
    ),
]

WEIGHTS = ("imagenet", "none")  # or a path
LOOPBACK = ("127.0.0.1", "::1", "localhost")
TOP = 3  # classes that predict prints
MAX_SHOWN = 100  # pictures on the sheet of --show
BEST = 5  # trials that are printed
MANY = 200  # pictures take more than two seconds
PICTURES = (".png", ".jpg", ".jpeg", ".webp")  # that --show and --explain write
_EXTRAS = {
    "cleanlab": "audit",
    "jax": "jax",
    **dict.fromkeys(("optuna", "pyarrow", "ray"), "scale"),
    "ai_edge_litert": "litert",
    **dict.fromkeys(("fastapi", "httptools", "uvicorn"), "serve"),
}  # module -> what brings it; others come with train


class Split(StrEnum):
    validation = "validation"
    test = "test"


class Validation(StrEnum):
    validation = "validation"
    test = "test"
    none = "none"


class Format(StrEnum):
    table = "table"
    jsonl = "jsonl"
    csv = "csv"


class Export(StrEnum):
    onnx = "onnx"
    onnx_int8 = "onnx-int8"
    litert = "litert"
    savedmodel = "savedmodel"
    web = "web"


class WrongUsage(typer.TyperException):
    """Words that make no sense together, or a value out of its range."""

    exit_code = 2


@app.command()
def data(
    source: DataOption = "fashion-mnist",
    output: Annotated[
        Path | None,
        typer.Option(help="Where the sheet of samples goes; <source>-samples.png without."),
    ] = None,
) -> None:
    """Check the data, count it, say what is wrong with it, and draw a sheet of samples."""
    import numpy as np

    from fashion_cnn.data import load_data
    from fashion_cnn.data.duplicates import near_duplicates
    from fashion_cnn.report import draw_samples

    found = load_data(source)
    print(f"Source      {found.location}")
    if found.source == "fashion-mnist":
        for name, digest in found.sha256.items():
            print(f"Verified    {name}  SHA-256 {digest[:16]}…")
    else:
        _print_pictures(found)
    wide = max(14, *(len(name) + 2 for name in found.class_names))
    print(f"\n{'Class':<{wide}}{'train':>8}{'validation':>12}{'test':>8}")
    least = len(found.class_names)
    labels = found.train_labels[found.train_index], found.train_labels[found.validation_index]
    counts = [np.bincount(x, minlength=least) for x in (*labels, found.test_labels)]
    rows = [*zip(found.class_names, *counts, strict=True), ("all", *(sum(x) for x in counts))]
    for name, train, held_out, test in rows:
        print(f"{name:<{wide}}{train:>8,}{held_out:>12,}{test:>8,}")
    for note in found.notes:
        print(f"\nNote        {note}")
    if sys.stderr.isatty() and len(found.test_labels) * len(found.train_labels) > 10**8:
        print_message("Comparing all test images with all training images")
    tests, trains, _ = near_duplicates(found.test_images, found.train_images)
    print(f"\nDuplicates  {len(tests)} test images are all but the same as a training image")
    for i, j in list(zip(tests, trains, strict=True))[: 10 * bool(found.test_files)]:
        print(f"            {found.test_files[i]}  {found.train_files[j]}")
    place = output or Path(f"{Path(found.source).stem}-samples.png")
    print(f"\nSamples     {draw_samples(found, place)}")


def _print_pictures(found: Any) -> None:
    """What there is of a source of one's own: how large the pictures are, what cannot be read."""
    height, width, channels = found.image_shape
    kind = "grey" if channels == 1 else "colour"
    if not found.train_files:
        print(f"Images      {height}x{width}, {kind}")
        return
    from fashion_cnn.data.folder import list_pictures, unreadable

    listing = list_pictures(Path(found.source))
    facts = [fact for fact in listing.facts if "error" not in fact]
    sizes = sorted((fact["size"] for fact in facts), key=math.prod)
    for name, (high, wide) in (("smallest", sizes[0]), ("largest", sizes[-1])):
        print(f"Images      {kind}, the {name} {wide} wide and {high} high")
    print(f"Files       {len(listing.files):,}, and {listing.others:,} that are no pictures")
    for name, why in unreadable(listing):
        print(f"Unreadable  {name}: {why}")


@app.command()
def recipes() -> None:
    """List the recipes that `train` knows."""
    from fashion_cnn.recipes import RECIPES, measured

    figures = measured()
    print(
        f"{'recipe':<17}{'network':<10}{'epochs':>6}{'batch':>7}{'test accuracy, %':>20}{'time':>8}"
    )
    for recipe in RECIPES.values():
        row = f"{recipe.name:<17}{recipe.model:<10}{recipe.epochs:>6}{recipe.batch_size:>7}"
        if found := figures["recipes"].get(recipe.name):
            accuracy = f"{found['test_accuracy']:.2f}"
            if "test_accuracy_sd" in found:  # more than one run
                accuracy += f" ± {found['test_accuracy_sd']:.2f}"
            seconds = found["seconds"]
            time = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
            row += f"{accuracy:>20}{time:>8}"
        else:
            row += f"{'':>28}"
        settings = [f"{key}={str(value).lower()}" for key, value in recipe.options.items()]
        settings += [f"augment={','.join(recipe.augment)}"] if recipe.augment else []
        print(f"{row}  {' '.join(settings)}".rstrip())
    print(f"\nMean ± sd over seeds, time of the whole training on {figures['machine']}.")
    print("`fashion-cnn train RECIPE` writes all settings into the run's recipe.json.")


@app.command()
def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE | recipe.json",
            help="See `fashion-cnn recipes`; standard without. A file is taken as it is; a name is "
            "fitted to the data where images are few.",
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="SOURCE",
            help="fashion-mnist, a folder of class folders or of IDX files, or an .npz.",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="imagenet|none|PATH", help="Of mobilenet and resnet: what they begin with."
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Learn what this preset, run or .onnx file answers, too (distillation).",
        ),
    ] = None,
    epochs: Annotated[
        str | None, typer.Option(metavar="N", help="Passes over the training images.")
    ] = None,
    batch_size: Annotated[str | None, typer.Option(metavar="N", help="Images a step.")] = None,
    learning_rate: Annotated[
        str | None, typer.Option(metavar="X", help="Of the optimizer.")
    ] = None,
    seed: Annotated[
        str | None, typer.Option(metavar="N", help="Of weights, order and augmentation.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any field of the recipe or option of its model: batch_norm=true, dropout=0.3, "
            "augment=flip,shift. May be given again.",
        ),
    ] = None,
    validation: Annotated[
        Validation | None,
        typer.Option(help="Where the second curve comes from; test and none train on all images."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run folder; runs/<recipe>-<n> without.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --run.")] = False,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Make report.html at the end; about 15 s.")
    ] = True,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Train with N processes that share each batch (JAX; on this machine on cores, or "
            "a GPU each of CUDA_VISIBLE_DEVICES).",
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=2, metavar="N", help="Train N times, side by side: mean and spread."),
    ] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Also make one model of all seeds' mean.")
    ] = False,
    jobs: JobsOption = None,
    cluster: ClusterOption = None,
) -> None:
    """Train a network, measure it on the test images, and draw what happened."""
    from fashion_cnn.data import load_data
    from fashion_cnn.recipe import require_same_recipe, with_settings
    from fashion_cnn.recipes import DEFAULT, find_recipe

    if (cluster and not (processes or seeds)) or (processes and seeds):
        raise WrongUsage("--cluster: expected with --processes N or --seeds N, one of the two")
    if (ensemble or jobs) and not seeds:
        raise WrongUsage("--ensemble and --jobs need --seeds N")
    if processes:
        from fashion_cnn.training.distributed import require_jax

        require_jax()
        os.environ["KERAS_BACKEND"] = "jax"
    if resume and run is None:
        raise WrongUsage("--resume needs --run DIR, the run to go on with")
    if resume and seeds:
        raise WrongUsage("--resume: not with --seeds N; the same command with --run DIR goes on")
    if resume and run and not Run(run).is_started:
        if not recipe:
            raise WrongUsage(f"{run}: no run to resume; with a RECIPE it would be started")
        print_message(f"{run}: nothing to resume yet; starting")
        resume = False
    if resume and run:
        _mend(Run(run))
    flags = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "validation": validation,
    }
    try:
        begun = str(run / "recipe.json") if resume and run else DEFAULT
        text = {key: str(value) for key, value in flags.items() if value is not None}
        if weights:
            text["weights"] = weights if weights in WEIGHTS else str(Path(weights).absolute())
        given = [*(settings or []), *([f"teacher={teacher}"] if teacher else [])]
        text = _pairs(given) | text
        chosen = with_settings(find_recipe(recipe or begun), text)
    except ValueError as error:
        raise WrongUsage(str(error)) from None
    if seeds:
        images = load_data(source or "fashion-mnist", chosen.image_size)
        chosen = _for_its_images(recipe, chosen, images, text)
        _train_seeds(chosen, images.source, run, seeds, ensemble, jobs, cluster)
        return
    if resume and run:
        source = source or Run(run).data_source()["source"]
        if chosen == find_recipe(begun) and _is_finished(Run(run)):
            return
    made = run is None or not run.exists()
    try:
        folder = Run.create(chosen.name) if run is None else Run(run)
        folder.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        where = run or "runs"
        raise OSError(
            f"{where}: cannot be made ({error.strerror}); give --run a folder that can be written"
        ) from None
    if not resume and not folder.is_unused:
        raise WrongUsage(f"{run}: not empty; give --resume to go on with it, or another")
    try:
        print_message("1 Load        looking for the images")
        images = load_data(source or "fashion-mnist", chosen.image_size)
        if recipe or not resume:
            chosen = _for_its_images(recipe, chosen, images, text)
        if resume:
            try:
                require_same_recipe(folder, find_recipe(begun), chosen)
            except ValueError as error:
                raise WrongUsage(str(error)) from None
            if _is_finished(folder):
                return
        _eight_steps(chosen, images, folder, resume, report, processes, cluster)
    except (KeyboardInterrupt, SystemExit, OSError, RuntimeError):
        if folder.is_started:
            print_message(
                f"Kept up to the last whole epoch: fashion-cnn train --run {folder} --resume"
            )
        raise
    finally:
        if made and not any(folder.folder.iterdir()):
            folder.folder.rmdir()


def _train_seeds(
    recipe: Any,
    source: str,
    run: Path | None,
    seeds: int,
    ensemble: bool,
    jobs: int | None,
    cluster: str | None,
) -> None:
    from statistics import mean, stdev

    from fashion_cnn.experiments.seeds import ENSEMBLE, make_ensemble, train_seeds

    folder = run or Run.create(f"{recipe.name}-seeds").folder
    print_message(
        f"{seeds} seeds of {recipe.name}; if broken off: the same command with --run {folder}"
    )
    with progress_bar(seeds) as advance:
        rows = train_seeds(recipe, source, seeds, folder, cluster, jobs, advance)
    print(f"{'seed':>4}{'validation accuracy':>21}{'test accuracy':>15}{'seconds':>9}")
    for row in rows:
        held_out = f"{row['val_accuracy']:.2%}" if row["val_accuracy"] else ""
        print(f"{row['seed']:>4}{held_out:>21}{row['test_accuracy']:>15.2%}", end="")
        print(f"{row['train_seconds']:>9.0f}")
    found = [100 * row["test_accuracy"] for row in rows]
    print(f"Test accuracy: {mean(found):.2f} ± {stdev(found):.2f} % (mean and sd of {seeds} seeds)")
    if ensemble:
        metrics = make_ensemble(recipe, seeds, folder)
        low, high = (f"{end:.2%}" for end in metrics["test_accuracy_interval"])
        accuracy = f"{metrics['test_accuracy']:.2%} (95 % interval {low} to {high})"
        print(f"Their mean's:  {accuracy}\nEnsemble: {folder / ENSEMBLE}, a run like others")
    print(f"Runs: {folder}")


def _is_finished(run: Run) -> bool:

    if finished := run.is_finished:
        print_message(f"{run}: already finished; nothing to do")
    return finished


def _mend(run: Run) -> None:

    if damaged := run.damaged_files():
        print_message(
            f"{run}: damaged or gone: {', '.join(damaged)}; making it again from a checkpoint"
        )
        from fashion_cnn.training.checkpoint import mend

        mend(run)


def _for_its_images(asked: str | None, recipe: Any, images: Any, given: dict[str, str]) -> Any:
    """The recipe fitted to few images, unless a file or an option says how large batches are."""
    from dataclasses import replace

    from fashion_cnn.recipe import fit_to_few_images

    if (asked or "").endswith(".json") or {"batch_size", "learning_rate"} & given.keys():
        return recipe
    held_out = len(images.validation_index) if recipe.validation == "validation" else 0
    fitted = fit_to_few_images(recipe, len(images.train_labels) - held_out)
    fitted = replace(fitted, epochs=recipe.epochs) if "epochs" in given else fitted
    if fitted != recipe:
        print_message(
            f"              few images: {fitted.epochs} epochs, batches of {fitted.batch_size}"
        )
    return fitted


def _eight_steps(
    recipe: Any,
    images: Any,
    folder: Run,
    resume: bool,
    report: bool,
    processes: int | None,
    cluster: str | None,
) -> None:
    from fashion_cnn.evaluation import measure_run  # Keras wakes up after the data is sure
    from fashion_cnn.export import export_in_process, export_run
    from fashion_cnn.inference.classifier import model_name
    from fashion_cnn.keras_setup import keras
    from fashion_cnn.models import build_model
    from fashion_cnn.report import draw_run
    from fashion_cnn.training.loop import train as fit
    from fashion_cnn.training.progress import EpochProgress

    held_out = len(images.validation_index) if recipe.validation == "validation" else 0
    count = f"{len(images.train_labels) - held_out:,} to train, {held_out:,} to validate"
    print_message(f"              {images.location}")
    print_message(f"              {count}, {len(images.test_labels):,} to test")
    for note in images.notes:
        print_message(f"              {note}")
    print_message("2 Normalise   the network's first layer scales the pixels, 0..255, itself")
    try:
        shape, classes = images.image_shape, len(images.class_names)
        model = build_model(recipe.model, shape, classes, recipe.options)
    except ValueError as error:
        raise WrongUsage(f"{recipe.model}: {error}") from None
    print_message(
        f"3 Build       {recipe.model} on Keras {keras.__version__}, {keras.backend.backend()}"
    )
    print_message(_layer_table(model))
    rate = f"learning rate {recipe.learning_rate} ({recipe.schedule})"
    print_message(f"4 Compile     {recipe.optimizer}, {rate}, categorical cross-entropy, accuracy")
    passes = f"{recipe.epochs} epoch{'s' if recipe.epochs > 1 else ''}"
    if recipe.head_epochs and recipe.options.get("weights") != "none":
        passes += f", the first {min(recipe.head_epochs, recipe.epochs)} of the head alone"
    passes += f" by {processes} process{'es' * (processes > 1)}" if processes else ""
    passes += f", taught by {model_name(recipe.teacher)}" if recipe.teacher else ""
    print_message(f"5 Train       {passes}, batches of {recipe.batch_size}, seed {recipe.seed}")
    bars = EpochProgress()
    try:
        if processes:
            from fashion_cnn.training.distributed import train_distributed

            train_distributed(recipe, images, folder, processes, cluster, [bars], resume)
        else:
            fit(recipe, images, folder, callbacks=[bars], resume=resume)
    finally:
        bars.close()
    print_message(f"6 Evaluate    all {len(images.test_labels):,} test images")
    metrics = measure_run(folder, images)
    print_message("7 Visualise   accuracy.png, loss.png, confusion_matrix.png")
    print_message("8 Predict     predictions.png")
    draw_run(folder, images)
    print_message("  Export      model.onnx: for predict, and for other runtimes")
    small = math.prod(images.image_shape) < 10_000  # others leave much memory behind
    if small and keras.backend.backend() == "tensorflow":  # a new process would start it once more
        export_in_process(folder, images, "onnx", folder.onnx_path)
    else:
        export_run(folder)
    if report:
        print_message("  Report      report.html: all of it, and more, on one page")
        _report(folder, images)
    folder.write_checksums()
    _print_metrics(metrics, "test")
    print(f"\nRun: {folder}" + f"\nReport: {folder.report_path}" * report)


def _report(run: Run, images: Any) -> list[Path]:
    """Measure and look into the network if nobody has yet, draw everything, and write the page."""
    from fashion_cnn.report import PICTURES, draw_report

    measured = run.is_measured
    if not measured or "test_accuracy_interval" not in run.metrics():
        from fashion_cnn.evaluation import measure_run

        measure_run(run, images)
    explained = run.is_explained
    with progress_bar(PICTURES + (0 if explained else 10)) as advance:
        if not explained:
            from fashion_cnn.evaluation import explain_run

            explain_run(run, images, advance)
        return draw_report(run, images, advance)


def _layer_table(model: Any) -> str:
    lines = [f"              {'layer':<24}{'output':<18}{'parameters':>10}"]
    for layer in model.layers:
        kind, shape = type(layer).__name__, str(tuple(layer.output.shape[1:]))
        if kind == "InputLayer":
            continue
        lines.append(f"              {kind:<24}{shape:<18}{layer.count_params():>10,}")
    lines.append(f"              {'in all':<42}{model.count_params():>10,}")
    return "\n".join(lines)


def _print_metrics(metrics: dict[str, Any], split: str) -> None:
    wide = max(14, *(len(name) + 1 for name in metrics[f"{split}_per_class"]))
    for name, row in metrics[f"{split}_per_class"].items():
        print(f"  {name:<{wide}}{row['recall']:>8.2%}")
    low, high = (f"{end:.2%}" for end in metrics[f"{split}_accuracy_interval"])
    accuracy = f"{metrics[f'{split}_accuracy']:.2%}"
    print(f"{split.capitalize()} accuracy: {accuracy} (95 % interval {low} to {high})")
    if len({row["support"] for row in metrics[f"{split}_per_class"].values()}) > 1:
        every, f1 = metrics[f"{split}_macro_accuracy"], metrics[f"{split}_macro_f1"]
        print(f"Mean over the classes: {every:.2%}, F1 {f1:.2%}")


def _pairs(settings: list[str]) -> dict[str, str]:
    for text in settings:
        if "=" not in text:
            raise WrongUsage(f"--set {text}: expected KEY=VALUE")
    found = dict(text.split("=", 1) for text in settings)
    if teacher := found.get("teacher"):
        from fashion_cnn.inference.classifier import PRESETS

        # what goes on with the run may be elsewhere
        found["teacher"] = teacher if teacher in PRESETS else str(Path(teacher).absolute())
    return found


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    split: Annotated[Split, typer.Option(help="Which images.")] = Split.test,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Read a run's model back and measure it again."""
    from fashion_cnn.evaluation import evaluate_run

    metrics = evaluate_run(Run(run), split.value)
    if as_json:
        print(json.dumps(metrics, indent=2))
    else:
        _print_metrics(metrics, split.value)


@app.command()
def presets() -> None:
    """List the trained models that come with the package."""
    from fashion_cnn.inference.classifier import presets as cards

    print(f"{'preset':<10}{'parameters':>11}{'test accuracy, % (95 %)':>26}{'made':>12}  for")
    for name, card in cards().items():
        low, high = (f"{100 * end:.2f}" for end in card["test"]["accuracy_interval"])
        accuracy = f"{100 * card['test']['accuracy']:.2f} ({low} to {high})"
        print(f"{name:<10}{card['parameters']:>11,}{accuracy:>26}{card['made']:>12}", end="")
        print(f"  {card['purpose']}")
    print("\n`fashion-cnn predict PICTURE --model PRESET`; photo without --model.")


@app.command()
def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Pictures, folders, patterns; - reads a list. With --output also Parquet and tar "
            "files, and addresses such as s3://bucket/folder.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(metavar="MODEL", help="A preset, a run folder or an .onnx file."),
    ] = "photo",
    top: Annotated[int, typer.Option(min=1, metavar="K", help="How many classes to print.")] = TOP,
    form: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.table,
    unsure: Annotated[
        Path | None, typer.Option(metavar="CSV", help="List there what should be looked at.")
    ] = None,
    show: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw the pictures, what was seen, answers.")
    ] = None,
    explain: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw every step of one picture, and why.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="For very many: write a folder of Parquet files, on all cores; the same command "
            "again goes on where it was.",
        ),
    ] = None,
    cluster: ClusterOption = None,
) -> None:
    """Say what is on photos of garments, or on pictures like those of Fashion-MNIST."""
    from fashion_cnn.data.pictures import find_pictures
    from fashion_cnn.inference import output as answers
    from fashion_cnn.inference.classifier import Classifier

    if cluster and not output:
        raise WrongUsage("--cluster needs --output DIR")
    words = [w for x in inputs for w in (sys.stdin.read().splitlines() if x == "-" else [x])]
    words = [word for word in words if word]
    if output:
        if unsure or show or explain or (top, form) != (TOP, Format.table):
            raise WrongUsage(
                "--output: goes without --unsure, --show, --explain, --top and --format"
            )
        _predict_all(words, Classifier.load(model, threads=1), output, cluster)
        return
    for drawn in filter(None, (show, explain)):
        if drawn.suffix.lower() not in PICTURES:
            raise WrongUsage(f"{drawn}: expected a name that ends in {', '.join(PICTURES)}")
    classifier = Classifier.load(model)
    paths = find_pictures(words)
    if not paths:
        raise ValueError(f"{' '.join(inputs)}: no pictures there (PNG, JPEG, WebP, GIF or BMP)")
    if explain and len(paths) > 1:
        raise WrongUsage(f"--explain: expected one picture, got {len(paths)}; --show takes many")
    failed = 0
    asked: list[dict[str, Any]] = []
    sheet: list[Any] = []
    answers.print_head(form)
    waited_for = len(paths) > MANY and not sys.stdout.isatty()  # else the answers come by
    with progress_bar(len(paths)) if waited_for else nullcontext(lambda name: None) as advance:
        for path, seen, answer, error in answers.ask(classifier, paths):
            advance("pictures")
            answers.print_answer(path, answer, error, top, form)
            failed += answer is None
            if answer is None or not answer.sure:
                asked.append(answers.review_row(path, answer, error))
            if (show or explain) and answer and len(sheet) < MAX_SHOWN:
                sheet.append((path, seen, answer))
    if unsure:
        write_csv(unsure, ("path", "label", "probability", "verdict", "error"), asked)
    _draw_answers(classifier, sheet, show, explain)
    if show and len(paths) - failed > MAX_SHOWN:
        print_message(f"{show}: shows the first {MAX_SHOWN}")
    if failed:
        raise ValueError(f"{failed} of {len(paths)} pictures could not be read")


def _predict_all(words: list[str], classifier: Any, output: Path, cluster: str | None) -> None:
    from fashion_cnn.inference.batch import begin, count, predict_parts

    with begin(words, classifier, output) as (todo, parts):
        if len(todo) < parts:
            print_message(f"{parts - len(todo)} of {parts} parts are there already")
        with progress_bar(len(todo)) as advance:
            advance("parts")
            for _ in predict_parts(todo, classifier, output, cluster):
                advance("parts")
        pictures, failed = count(output, parts)
    print(f"{pictures:,} pictures, {failed:,} of which could not be read: {output}")


def _draw_answers(
    classifier: Any, sheet: list[Any], show: Path | None, explain: Path | None
) -> None:
    if sheet and (show or explain):
        from fashion_cnn.inference.drawing import draw_contact_sheet, explanation

        if show:
            names, seen, given = zip(*sheet, strict=True)
            draw_contact_sheet(names, seen, given, show)
        if explain:
            path, one, answer = sheet[0]
            explanation(path, one, answer, classifier.occlusion_map(one), explain)


@app.command()
def export(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run folder; for web also a preset or .onnx.")
    ],
    form: Annotated[
        Export, typer.Option("--format", help="For which runtime; web makes a page.")
    ] = Export.onnx,
    output: Annotated[
        Path | None, typer.Option(metavar="PATH", help="In the run's folder without.")
    ] = None,
) -> None:
    """Write a run's model for another runtime, proved equal, with its card beside it."""
    if form == Export.web:
        from fashion_cnn.export.web import export_web

        folder = export_web(run, output or (Path(run) if Path(run).is_dir() else Path()) / "web")
        print(f"Page: {folder}; any static web host can serve it")
        return
    from fashion_cnn.export import export_run

    path = export_run(Run(run), form.value, output)
    if path.parent.resolve() == Path(run).resolve():
        Run(Path(run)).write_checksums()
    print(f"Model: {path}\nCard: {path.with_name(path.name + '.md')}, and .json for programs")


@app.command()
def serve(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A preset, a run folder or an .onnx file.")
    ] = "photo",
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes one that is free.")] = 8000,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Processes; each holds the model. One without; on a cluster as many as the load "
            "asks for, N at most.",
        ),
    ] = None,
    token: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="PATH", help="What clients must show is in there."),
    ] = None,
    origins: Annotated[
        list[str] | None,
        typer.Option("--allow-origin", metavar="URL", help="A page elsewhere that may ask."),
    ] = None,
    cluster: ClusterOption = None,
) -> None:
    """Prediction over HTTP: the Open Inference Protocol, photos, and a page to try it at."""
    secret = token.read_text(encoding="utf-8").strip() if token else None
    if secret == "":
        raise ValueError(f"{token}: empty; expected a token")
    if host not in LOOPBACK and secret is None:
        print_message(
            f"Warning: whoever can reach {host} can ask; --token-file PATH lets only some"
        )
    if cluster:
        from fashion_cnn.serving.cluster import serve_on

        serve_on(cluster, model, host, port, workers, secret, origins or ())
        return
    from fashion_cnn.serving.server import serve as start

    start(model, host, port, workers or 1, secret, origins or ())


@app.command()
def report(folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]) -> None:
    """Look into a run's network, draw its pictures, and write report.html."""
    from fashion_cnn.evaluation import load_run_data

    run = Run(folder)
    for name in run.damaged_files():
        if not name.endswith((".png", ".svg", ".html")):  # those are made again
            run.verified_path(name)  # says so
    *pictures, page = _report(run, load_run_data(run))
    run.write_checksums()
    print(f"{len(pictures)} pictures in {run} and {run.folder / 'svg'}")
    print(f"Report: {page}")


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders, two or more.")],
    output: Annotated[Path, typer.Option(help="Where their curves go.")] = Path("comparison.png"),
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Put runs side by side, and say which differences are more than chance."""
    from fashion_cnn.evaluation.compare import compare_runs

    if len({run.resolve() for run in runs}) < max(2, len(runs)):
        raise WrongUsage("compare: expected at least two runs, each once")
    found = compare_runs([Run(run) for run in runs])
    from fashion_cnn.report import draw_comparison

    draw_comparison([Run(run) for run in runs], output)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    wide = max(len(name) for name in found["runs"]) + 2
    print(f"{'run':<{wide}}{'test accuracy, % (95 %)':>25}{'loss':>8}{'ECE, %':>8}", end="")
    print(f"{'parameters':>12}{'seconds':>9}")
    for name, row in found["runs"].items():
        low, high = (f"{100 * end:.2f}" for end in row["test_accuracy_interval"])
        accuracy = f"{100 * row['test_accuracy']:.2f} ({low} to {high})"
        print(f"{name:<{wide}}{accuracy:>25}{row['test_loss']:>8.3f}", end="")
        print(f"{100 * row['test_ece']:>8.2f}{row['parameters']:>12,}{row['train_seconds']:>9.0f}")
    print("\nTest images that only one of two gets right; McNemar's test, of these networks,")
    print("not of their recipes: to compare those takes several seeds")
    for pair in found["pairs"]:
        (a, b), p = pair["runs"], pair["p_value"]
        print(f"{a} {pair['only_first']} : {pair['only_second']} {b}   p = {p:.2g}", end="")
        # Bonferroni: of many pairs some differ by chance
        print("   beyond chance" if p < 0.05 / len(found["pairs"]) else "   may be chance")
    print(f"\nCurves: {output}")


@app.command()
def tune(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE | recipe.json", help="Where the search begins."),
    ] = "quick",
    space: Annotated[
        str,
        typer.Option(
            metavar="FILE|default",
            help='What may change: JSON such as {"dropout": [0.0, 0.3], "learning_rate": {"low": '
            '0.05, "high": 0.5, "log": true}}, with the keys of train --set.',
        ),
    ] = "default",
    trials: Annotated[
        int, typer.Option(min=1, metavar="N", help="In all, those of an earlier call included.")
    ] = 30,
    source: DataOption = "fashion-mnist",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="What is fixed, as for train."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where it writes, tune-<recipe> without; the same command again goes on there.",
        ),
    ] = None,
    jobs: JobsOption = None,
    cluster: ClusterOption = None,
) -> None:
    """Search for a better recipe, judged by accuracy on the validation images alone."""
    from fashion_cnn.data import load_data
    from fashion_cnn.experiments.search_space import default_space, read_space
    from fashion_cnn.experiments.tune import importances
    from fashion_cnn.experiments.tune import tune as search
    from fashion_cnn.recipe import with_settings
    from fashion_cnn.recipes import command_with_data, find_recipe

    try:
        texts = _pairs(settings or [])
        chosen = with_settings(find_recipe(recipe), texts)
        images = load_data(source, chosen.image_size)
        chosen = _for_its_images(recipe, chosen, images, texts)
        what = default_space(chosen) if space == "default" else read_space(Path(space), chosen)
    except ValueError as error:
        raise WrongUsage(str(error)) from None
    folder = output or Path(f"tune-{chosen.name}")
    print_message(f"{trials} trials of {', '.join(what)}; finished ones are in {folder} and stay")
    with progress_bar(trials) as advance:
        rows = search(chosen, images.source, what, trials, folder, cluster, jobs, advance)
    from fashion_cnn.report import draw_trials

    print(f"{'trial':>5}{'validation accuracy':>21}{'epochs':>8}{'seconds':>9}  settings")
    for row in rows[:BEST]:
        accuracy = f"{row['val_accuracy']:.2%}" if row["val_accuracy"] else row["state"]
        values = " ".join(f"{key}={_short(row[key])}" for key in what if key in row)
        line = f"{row['trial']:>5}{accuracy:>21}{row['epochs_run']:>8}{row['seconds']:>9.0f}"
        print(f"{line}  {values}{'  stopped early' * (row['state'] == 'PRUNED')}")
    print("\nThe best of many trials was lucky as well: several seeds of it tell what it is worth")
    print(
        f"All trials: {folder / 'trials.csv'}\nPicture: {draw_trials(folder, *importances(folder))}"
    )
    print("Best:", command_with_data(["fashion-cnn", "train", str(folder / "best.json")], source))


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@app.command()
def audit(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN", help="Runs to be measured without the suspects, too."),
    ] = None,
    source: DataOption = "fashion-mnist",
    recipe: Annotated[str, typer.Option(help="A fast one, trained once a fold.")] = "quick",
    folds: Annotated[
        int, typer.Option(min=2, metavar="N", help="Parts of the training images.")
    ] = 5,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where it writes.")] = Path("audit"),
) -> None:
    """List images that are probably labelled wrong, and those that are in train and in test."""
    from fashion_cnn.recipes import find_recipe

    try:
        chosen = find_recipe(recipe)
    except ValueError as error:
        raise WrongUsage(str(error)) from None
    from fashion_cnn.data import load_data

    images = load_data(source, chosen.image_size)
    for run in runs or []:
        if Run(run).data_source()["sha256"] != images.sha256:
            raise ValueError(f"{run}: trained on other data than {source}, which is looked at here")
    from fashion_cnn.experiments.audit import accuracy_without_suspects
    from fashion_cnn.experiments.audit import audit as look
    from fashion_cnn.report import draw_audit

    print_message(
        f"{folds} trainings by {chosen.name}; finished ones are in {output} and are not made again"
    )
    with progress_bar(folds * chosen.epochs + 1) as advance:
        found = look(images, chosen, output, folds, advance)
    for split in ("train", "test"):
        count, size = found["suspects"][split], len(getattr(images, f"{split}_labels"))
        print(f"{count:>6,} of {size:,} {split} images are probably labelled wrong")
    print(f"{found['duplicates']:>6,} test images are all but the same as a training image")
    for run in runs or []:
        row = accuracy_without_suspects(Run(run), output)
        print(
            f"{run}: test accuracy {row['all']:.2%}; without the test suspects {row['without']:.2%}"
        )
    print("\nLists: suspects.csv, duplicates.csv")
    print("Sheets:", ", ".join(path.name for path in draw_audit(output, images)))
    print(f"In: {output}")


def main() -> None:
    """Run the command line: 0, 2 wrong usage, 1 a failure, 130 Ctrl-C, 143 SIGTERM."""
    _heed_signals()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it complains where no home is
    warnings.formatwarning = lambda message, *_, **__: f"fashion-cnn: {message}\n"
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: Sequence[str]) -> int:
    """Run one command; its exit status. An error becomes one line on standard error."""
    words = [word for word in arguments if word != "--debug"]
    try:
        return app(words or ["--help"], standalone_mode=False) or 0
    except typer.TyperException as error:  # wrong usage
        hint = "" if isinstance(error, WrongUsage) else " --help shows what there is."
        print_message(f"fashion-cnn: {error.format_message()}{hint}")
        return error.exit_code
    except (
        ValueError,
        OSError,
        ArithmeticError,
        MemoryError,
        RuntimeError,
        ModuleNotFoundError,
    ) as error:
        if "--debug" in arguments:
            raise
        if isinstance(error, ModuleNotFoundError):
            extra = _EXTRAS.get(error.name or "", "train")
            print_message(
                f"fashion-cnn: {error.name} is not installed: pip install 'fashion-cnn[{extra}]'"
            )
        elif isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        else:
            said = " ".join(str(error).split()) or "not enough memory"
            print_message(f"fashion-cnn: {said}")
        return 1


def _heed_signals() -> None:
    """Let Ctrl-C and SIGTERM end the program in good order, or within 1.5 s; a second one at once.

    Python hears a signal only between two steps of its own; a long computation is one step. The
    wake-up pipe is written to at once, and a thread that reads it ends the program if need be.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if os.name != "posix":
        return
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)

    def watch() -> None:
        number = os.read(heard, 1)[0]
        select.select([heard], [], [], 1.5)
        if sys.stderr.isatty():
            os.write(2, b"\x1b[?25h\n")  # the cursor, which a progress bar hides
        os._exit(128 + number)

    threading.Thread(target=watch, daemon=True).start()
