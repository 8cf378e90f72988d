"""The arguments and options of the commands, with their help texts."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from fashion_cnn.export import FORMATS


class Split(StrEnum):
    """Images that a run can be evaluated on."""

    validation = "validation"
    test = "test"


class Validation(StrEnum):
    """Values of the recipe field `validation`."""

    validation = "validation"
    test = "test"
    none = "none"


class OutputFormat(StrEnum):
    """How `predict` prints predictions."""

    table = "table"
    jsonl = "jsonl"
    csv = "csv"


# what `export` writes
ExportFormat = StrEnum("ExportFormat", {name.replace("-", "_"): name for name in FORMATS})  # type: ignore[misc]


_SOURCE = "fashion-mnist, a folder of class folders or of IDX files, or an .npz."
_SPACE = (
    'JSON of what may change, such as {"dropout": [0.0, 0.3], "learning_rate": {"low": 0.05, '
    '"high": 0.5, "log": true}}, with the keys of train --set.'
)
Text = str | None
Number = int | None
File = Path | None

Source = Annotated[str, Option("--data", metavar="SOURCE", help=_SOURCE)]
AnySource = Annotated[
    Text, Option("--data", metavar="SOURCE", help=f"{_SOURCE} Default: fashion-mnist.")
]
Cluster = Annotated[
    Text, Option(metavar="HOST:PORT|auto", help="Use the machines of a Ray cluster.")
]
Jobs = Annotated[
    Number, Option(min=1, metavar="N", help="Trainings at a time. Default: one a core or GPU.")
]
AsJson = Annotated[bool, Option("--json", help="Print everything as JSON.")]
Settings = Annotated[
    list[str] | None,
    Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any field of the recipe or option of its model: batch_norm=true, dropout=0.3, "
        "augment=flip,shift. Can be repeated.",
    ),
]
RunFolder = Annotated[Path, Argument(metavar="RUN", help="A run folder.")]
RunFolders = Annotated[list[Path], Argument(metavar="RUN", help="Two or more run folders.")]
_MODEL = "A preset, a run folder or an .onnx file."
ModelArgument = Annotated[str, Argument(metavar="MODEL", help=_MODEL)]
Model = Annotated[str, Option(metavar="MODEL", help=_MODEL)]

# data
SamplesPlot = Annotated[
    File, Option(help="Where samples are drawn. Default: <source>-samples.png.")
]

# train
RecipeName = Annotated[
    Text,
    Argument(
        metavar="RECIPE | recipe.json",
        help="See `fashion-cnn recipes`. Default: standard. A recipe given by name is fitted to "
        "the data where images are few, a file is taken as it is.",
    ),
]
Weights = Annotated[
    Text, Option(metavar="imagenet|none|PATH", help="Initial weights of mobilenet and resnet.")
]
Teacher = Annotated[
    Text,
    Option(metavar="MODEL", help="Train on this model's probabilities, too (distillation)."),
]
Epochs = Annotated[Text, Option(metavar="N", help="Passes over the training images.")]
BatchSize = Annotated[Text, Option(metavar="N", help="Images a step.")]
LearningRate = Annotated[Text, Option(metavar="X", help="Peak learning rate of the optimizer.")]
Seed = Annotated[Text, Option(metavar="N", help="Of weights, order, augmentation and dropout.")]
ValidateOn = Annotated[
    Validation | None,
    Option(help="What the validation curve is measured on; test and none train on all images."),
]
NewRun = Annotated[File, Option(metavar="DIR", help="The run folder. Default: runs/<recipe>-<n>.")]
Resume = Annotated[bool, Option("--resume", help="Continue the run in --run.")]
Report = Annotated[
    bool, Option("--report/--no-report", help="Write report.html at the end; about 15 s.")
]
Processes = Annotated[
    Number,
    Option(
        min=1,
        metavar="N",
        help="Train with N processes that share each batch (JAX; on cores of this machine, or "
        "on one GPU each of CUDA_VISIBLE_DEVICES).",
    ),
]
Seeds = Annotated[
    Number, Option(min=2, metavar="N", help="Train with N seeds in parallel: mean and spread.")
]
Ensemble = Annotated[
    bool, Option("--ensemble", help="Also make one model that averages all seeds.")
]

# predict
Inputs = Annotated[
    list[str],
    Argument(
        metavar="INPUT",
        help="Pictures, folders, patterns; - reads a list. With --output also Parquet and tar "
        "files, and addresses such as s3://bucket/folder.",
    ),
]
Top = Annotated[int, Option(min=1, metavar="K", help="How many classes to print.")]
PrintFormat = Annotated[OutputFormat, Option("--format", help="How to print.")]
Unsure = Annotated[File, Option(metavar="CSV", help="List the pictures that need a human look.")]
Show = Annotated[
    File, Option(metavar="PNG", help="Draw pictures, the network's inputs and predictions.")
]
Explain = Annotated[
    File, Option(metavar="PNG", help="Draw every step from one picture to its prediction.")
]
BatchFolder = Annotated[
    File,
    Option(
        metavar="DIR",
        help="For very many pictures: write a folder of Parquet files, on all cores; the same "
        "command continues after an interruption.",
    ),
]

# evaluate, compare, export
EvaluatedSplit = Annotated[Split, Option("--split", help="Which images.")]
CurvesPlot = Annotated[Path, Option(help="Where the curves are drawn.")]
Exported = Annotated[
    str, Argument(metavar="RUN", help="A run folder; for web also a preset or .onnx file.")
]
Runtime = Annotated[ExportFormat, Option("--format", help="For which runtime; web makes a page.")]
ExportPath = Annotated[File, Option(metavar="PATH", help="Default: in the run's folder.")]

# serve
Host = Annotated[str, Option(help="The address to listen at.")]
Port = Annotated[int, Option(min=0, max=65535, help="0 takes one that is free.")]
Workers = Annotated[
    Number,
    Option(
        min=1,
        metavar="N",
        help="Processes, each with the model. Default: one; on a cluster as many as the load "
        "needs, at most N.",
    ),
]
TokenFile = Annotated[
    File, Option("--token-file", metavar="PATH", help="File of the token that clients must send.")
]
Origins = Annotated[
    list[str] | None,
    Option("--allow-origin", metavar="URL", help="Another site whose pages may send requests."),
]

# tune, audit
SearchRecipe = Annotated[
    str, Argument(metavar="RECIPE | recipe.json", help="Where the search starts.")
]
Space = Annotated[str, Option(metavar="FILE|default", help=_SPACE)]
Trials = Annotated[int, Option(min=1, metavar="N", help="In all, with those of earlier calls.")]
TuneFolder = Annotated[
    File,
    Option(
        metavar="DIR",
        help="Where results are written; the same command continues there. Default: tune-<recipe>.",
    ),
]
AuditedRuns = Annotated[
    list[Path] | None,
    Argument(metavar="RUN", help="Runs to be measured also without the suspects."),
]
FastRecipe = Annotated[str, Option(help="A fast recipe, which is trained once a fold.")]
Folds = Annotated[int, Option(min=2, metavar="N", help="Parts of the training images.")]
AuditFolder = Annotated[Path, Option(metavar="DIR", help="Where results are written.")]
