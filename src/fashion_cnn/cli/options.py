"""The arguments and options of the commands, with their help texts."""

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

Text = str | None
Number = int | None
File = Path | None

_SOURCE = "fashion-mnist, a folder with a subfolder per class, a folder of IDX files, or an .npz."
_OPTIONAL_SOURCE = f"{_SOURCE} Default: fashion-mnist."
_MODEL = "A preset, a run folder or an .onnx file."
_MOVED_DATA = "Where the run's data is now. Default: where it was during the training."
_GROUPS = (
    "What belongs together and goes to the same split: a CSV file with the columns file and group, "
    "or a regular expression whose first parenthesis in the path of a picture is its group."
)
_DECISIONS = (
    "The decisions of `label`: corrected labels, pictures to leave out and to add. The data itself "
    "is not changed."
)
_SETTINGS = "Recipe field or model option: batch_norm=true, augment=flip,shift. Can be repeated."
_JOBS = "Trainings at a time. Default: one per core; per GPU on a cluster with GPUs."
_RECIPE = "Default: standard. A named recipe is adapted where images are few, a file never."
_WEIGHTS = "Initial weights of mobilenet, efficientnet and resnet (clothes: efficientnet)."
_VALIDATION = "What to validate on. With test or none, no training images are held out."
_PROCESSES = (
    "Train with N processes that share each batch (JAX; on cores of this machine, or on one GPU "
    "each of CUDA_VISIBLE_DEVICES)."
)
_INPUTS = (
    "Pictures, folders, patterns; - reads a list, or a picture. With --output also Parquet and tar "
    "files, and addresses such as s3://bucket/folder."
)
_SET_COVERAGE = (
    "Print, in place of K classes, those that together contain the true one with this probability, "
    "such as 0.95 (prediction sets)."
)
_BATCH_FOLDER = "For very many pictures: write Parquet files, on all cores; repeat to continue."
_WORKERS = (
    "Processes, each with the model. Default: one. On a cluster: the most, as the load needs. "
    "Default: one per core."
)
_CLIENTS = "File of the token that clients must send."
_ORIGINS = "Another site whose pages may send requests (CORS). Can be repeated."
_HOSTS = (
    "A name that clients may use for the server, in the header Host. Can be repeated. Default: any "
    "name. Without it, pages of other sites can reach a server on this machine by a name of theirs "
    "that leads to 127.0.0.1 (DNS rebinding)."
)
_ROOT_PATH = (
    "The path below which a proxy shows the server, such as /clothes; the proxy removes it."
)
_KEEP_ALIVE = "Until an idle connection is closed; longer than the proxy's own time."
_GRACE = "After SIGTERM, for running requests to end."
_RUNTIME = "What computes the network. auto: openvino for bfloat16, else onnxruntime."
_PRECISION = "bfloat16 is faster on processors that have it, with OpenVINO. auto: float32"
_BULK_PRECISION = (
    f"{_PRECISION}, but with --output bfloat16, if the model loses at most 0.15 points by it."
)
_LABELED = (
    "The folder of an audit; or pictures without labels: a folder, the CSV of predict --unsure, or "
    "the folder of predict --output."
)
_LABELED_DATA = "With --export, the data to copy. With an audit, where its data is now."
_NEW_DECISIONS = "Where decisions are written, or continued. Default: beside the SOURCE."
_MERGED = (
    "The decisions of one person; repeat it for each person. Writes what the majority decided to "
    "--decisions, and prints their agreement (Fleiss' kappa)."
)
_CORRECTED = "Write a copy of --data, corrected by --decisions, to a new folder."
_SPACE = (
    'JSON of what may change, such as {"dropout": [0.0, 0.3], "learning_rate": {"low": 0.05, '
    '"high": 0.5, "log": true}}, with the keys of train --set.'
)
_TUNE_FOLDER = "For the results; the same command continues there. Default: tune-<recipe>."
_AUDITED_RUNS = "Runs to evaluate also without the test images that are probably mislabeled."

# several commands
Source = Annotated[str, Option("--data", metavar="SOURCE", help=_SOURCE)]
MovedData = Annotated[Text, Option("--data", metavar="SOURCE", help=_MOVED_DATA)]
Groups = Annotated[str, Option(metavar="CSV|PATTERN", help=_GROUPS, show_default=False)]
DecisionsFile = Annotated[
    str, Option("--decisions", metavar="CSV", help=_DECISIONS, show_default=False)
]
Cluster = Annotated[Text, Option(metavar="HOST:PORT|auto", help="Use a Ray cluster.")]
Jobs = Annotated[Number, Option(min=1, metavar="N", help=_JOBS)]
AsJson = Annotated[bool, Option("--json", help="Print everything as JSON.")]
Settings = Annotated[list[str] | None, Option("--set", metavar="KEY=VALUE", help=_SETTINGS)]
RunFolder = Annotated[Path, Argument(metavar="RUN", help="A run folder.")]
RunFolders = Annotated[list[Path], Argument(metavar="RUN", help="Two or more run folders.")]
ModelArgument = Annotated[str, Argument(metavar="MODEL", help=_MODEL)]
Model = Annotated[str, Option(metavar="MODEL", help=_MODEL)]

Runtime = Annotated[Literal["auto", "onnxruntime", "openvino"], Option(help=_RUNTIME)]
PrecisionName = Literal["auto", "float32", "bfloat16"]
Precision = Annotated[PrecisionName, Option(help=f"{_PRECISION}.")]
BulkPrecision = Annotated[PrecisionName, Option("--precision", help=_BULK_PRECISION)]

# data
SamplesPlot = Annotated[File, Option(metavar="PNG", help="Default: <source>-samples.png.")]

# train
RecipeName = Annotated[Text, Argument(metavar="RECIPE | recipe.json", help=_RECIPE)]
AnySource = Annotated[Text, Option("--data", metavar="SOURCE", help=_OPTIONAL_SOURCE)]
Weights = Annotated[Text, Option(metavar="imagenet|none|clothes|PATH", help=_WEIGHTS)]
Teacher = Annotated[Text, Option(metavar="MODEL", help="The teacher model of a distillation.")]
Epochs = Annotated[Text, Option(metavar="N", help="Passes over the training images.")]
BatchSize = Annotated[Text, Option(metavar="N", help="Images per step.")]
LearningRate = Annotated[Text, Option(metavar="X", help="Peak learning rate of the optimizer.")]
Seed = Annotated[Text, Option(metavar="N", help="For weights, order, augmentation, dropout.")]
ValidateOn = Annotated[Literal["validation", "test", "none"] | None, Option(help=_VALIDATION)]
NewRun = Annotated[File, Option(metavar="DIR", help="The run folder. Default: runs/<recipe>-<n>.")]
Resume = Annotated[bool, Option("--resume", help="Continue the run in --run.")]
Report = Annotated[bool, Option("--report/--no-report", help="Write report.html; about 15 s.")]
Processes = Annotated[Number, Option(min=1, metavar="N", help=_PROCESSES)]
Seeds = Annotated[Number, Option(min=2, metavar="N", help="Train with N seeds: mean and spread.")]
Ensemble = Annotated[bool, Option("--ensemble", help="Also make a model that averages all seeds.")]

# predict
Inputs = Annotated[list[str], Argument(metavar="INPUT", help=_INPUTS)]
Top = Annotated[int, Option(min=1, metavar="K", help="How many classes to print.")]
SetCoverage = Annotated[float | None, Option(metavar="SHARE", help=_SET_COVERAGE)]
PrintFormat = Annotated[Literal["table", "jsonl", "csv"], Option("--format", help="How to print.")]
Unsure = Annotated[File, Option(metavar="CSV", help="List the pictures that need a human look.")]
Show = Annotated[File, Option(metavar="PNG", help="Draw pictures, network inputs, predictions.")]
Explain = Annotated[File, Option(metavar="PNG", help="Draw the steps to one picture's prediction.")]
BatchFolder = Annotated[File, Option(metavar="DIR", help=_BATCH_FOLDER)]

# evaluate, compare, export
Split = Annotated[Literal["validation", "test"], Option(help="Which images.")]
Curves = Annotated[Path, Option(metavar="PNG", help="Where the curves are drawn.")]
Exported = Annotated[str, Argument(metavar="RUN", help="A run; for web also a preset or .onnx.")]
FormatName = Literal["onnx", "onnx-int8", "onnx-w8", "litert", "savedmodel", "web"]  # as FORMATS
Format = Annotated[FormatName, Option("--format", help="For which runtime; web makes a page.")]
ExportPath = Annotated[File, Option(metavar="PATH", help="Default: in the run's folder.")]

# serve
Host = Annotated[str, Option(metavar="HOST", help="The address to listen at.")]
Port = Annotated[
    int,
    Option(
        min=0, max=65535, metavar="PORT", envvar="FASHION_CNN_LISTEN", help="0 picks a free one."
    ),
]
Workers = Annotated[Number, Option(min=1, metavar="N", help=_WORKERS)]
TokenFile = Annotated[File, Option("--token-file", metavar="PATH", help=_CLIENTS)]
Origins = Annotated[list[str] | None, Option("--allow-origin", metavar="URL", help=_ORIGINS)]
Hosts = Annotated[list[str] | None, Option("--allow-host", metavar="NAME", help=_HOSTS)]
RootPath = Annotated[str, Option("--root-path", metavar="PATH", help=_ROOT_PATH)]
KeepAlive = Annotated[int, Option(min=1, metavar="SECONDS", help=_KEEP_ALIVE)]
Grace = Annotated[int, Option(min=0, metavar="SECONDS", help=_GRACE)]

# label
Labeled = Annotated[File, Argument(metavar="SOURCE", help=_LABELED, show_default=False)]
NewDecisions = Annotated[File, Option("--decisions", metavar="CSV", help=_NEW_DECISIONS)]
LabeledData = Annotated[Text, Option("--data", metavar="SOURCE", help=_LABELED_DATA)]
LabeledSplit = Annotated[Literal["train", "test", "all"], Option(help="Of an audit.")]
OnlyDoubtful = Annotated[
    bool, Option("--doubtful", help="Only suspects and near-duplicates, or what is not sure.")
]
Blind = Annotated[bool, Option("--blind", help="Hide the labels and what the model predicts.")]
Merged = Annotated[list[Path] | None, Option(metavar="CSV", help=_MERGED)]
CorrectedCopy = Annotated[File, Option(metavar="DIR", help=_CORRECTED)]

# tune, audit
SearchRecipe = Annotated[str, Argument(metavar="RECIPE | recipe.json", help="The starting point.")]
Space = Annotated[str, Option(metavar="FILE|default", help=_SPACE)]
Trials = Annotated[int, Option(min=1, metavar="N", help="In all, finished ones included.")]
TuneFolder = Annotated[File, Option(metavar="DIR", help=_TUNE_FOLDER)]
AuditedRuns = Annotated[list[Path] | None, Argument(metavar="RUN", help=_AUDITED_RUNS)]
FastRecipe = Annotated[str, Option(metavar="RECIPE", help="A fast recipe, trained once per fold.")]
Folds = Annotated[int, Option(min=2, metavar="N", help="Of the cross-validation.")]
AuditFolder = Annotated[Path, Option(metavar="DIR", help="Where results are written.")]
