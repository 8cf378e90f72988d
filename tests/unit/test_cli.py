import io
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
from command import PROGRAM, fashion_cnn, fashion_cnn_process
from PIL import Image

import fashion_cnn as package
from fashion_cnn.cli.evaluate import export, print_metrics
from fashion_cnn.cli.options import FormatName
from fashion_cnn.export import FORMATS
from fashion_cnn.inference.model_files import PRESET_FOLDER, PRESETS
from fashion_cnn.recipes import RECIPES, find_recipe
from fashion_cnn.run import Run

HEAVY = ("keras", "tensorflow", "jax", "matplotlib", "sklearn", "numpy")
VERBS = ("data", "recipes", "presets", "train", "evaluate", "report", "compare", "audit")
VERBS += ("predict", "export")


def test_importing_the_package_and_asking_for_help_load_nothing_heavy():
    code = (
        "import sys, fashion_cnn; sys.argv = ['fashion-cnn', '--help']\n"
        "from fashion_cnn.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, capture_output=True, encoding="utf-8")
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb(verb):
    done = fashion_cnn(verb, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_the_version_is_that_of_the_package():
    assert fashion_cnn("--version").stdout == f"fashion-cnn {version('fashion-cnn')}\n"
    assert package.__version__ == version("fashion-cnn")


@pytest.mark.parametrize("words", [(), ("train",)])
def test_help_has_a_short_form(words):
    assert fashion_cnn(*words, "-h").stdout == fashion_cnn(*words, "--help").stdout


def test_the_package_can_be_run_as_a_module():
    call = [sys.executable, "-m", "fashion_cnn", "--version"]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.stdout == f"fashion-cnn {package.__version__}\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows reports another error")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_stops_is_no_error(unbuffered):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen([PROGRAM, "presets"], env=environment, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_a_name_that_needs_an_extra_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "fashion_cnn.training.loop", None)
    with pytest.raises(ModuleNotFoundError) as error:
        _ = package.train
    assert error.value.__notes__ == ['pip install "fashion-cnn[train]"']


def test_a_shell_completes_commands():
    words = {"COMP_WORDS": "fashion-cnn aud", "COMP_CWORD": "1"}
    done = fashion_cnn_process(_FASHION_CNN_COMPLETE="complete_bash", **words)
    assert done.stdout == "audit\n"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home folder, on Windows too."""
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("word", ["--run=~/runs/a", "--run=~"])
def test_the_home_folder_is_expanded_behind_an_equals_sign(word, home, tmp_path):
    (tmp_path / "notes.txt").touch()
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "notes.txt").touch()
    done = fashion_cnn("train", "textbook", word, cwd=tmp_path, status=2)
    assert f"{Path(word.split('=')[1].replace('~', str(home)))}: not empty" in done.stderr


def test_the_home_folder_is_expanded_in_python(home, tmp_path):
    Image.new("L", (28, 28), 9).save(tmp_path / "shirt.png")
    shutil.copy(PRESET_FOLDER / "textbook.onnx", tmp_path / "model.onnx")
    classifier = package.Classifier.load("~/model.onnx")
    assert classifier.predict("~/shirt.png").label
    assert Run("~/runs").folder == tmp_path / "runs"
    recipe = RECIPES["textbook"]
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    assert find_recipe("~/recipe.json") == recipe
    with pytest.raises(ValueError, match=re.escape(f"{home}: ")):
        package.load_data("~")


def test_the_page_of_a_preset_is_not_written_into_data_of_its_name(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr("fashion_cnn.export.web.export_web", lambda _, path: written.append(path))
    monkeypatch.chdir(tmp_path)
    for name in ("clothes", "run"):
        Path(name).mkdir()
        export(name, "web")
    assert written == [Path("web"), Path("run/web")]


def test_every_export_format_can_be_chosen():
    """The options repeat the names, since --help imports no more than it needs."""
    assert get_args(FormatName) == tuple(FORMATS)


def test_presets_are_listed():
    done = fashion_cnn("presets")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()[1:6]] == list(PRESETS)


def test_recipes_are_listed():
    done = fashion_cnn("recipes")
    assert done.returncode == 0
    assert "textbook-plus" in done.stdout
    assert "batch_norm=true dropout=0.3 augment=flip,shift" in done.stdout


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["train", "textbok"], 2, "expected textbook"),
        (["train", "--epochs", "0"], 2, "epochs: got 0"),
        (["train", "--learning-rate", "nan"], 2, "learning_rate: got nan"),
        (["train", "--set", "depth=3"], 2, "--set depth: unknown"),
        (["train", "--set", "depth"], 2, "expected KEY=VALUE"),
        (["train", "--resume"], 2, "--resume needs --run"),
        (["train", "--data", "nowhere"], 1, "--data: no folder 'nowhere'"),
        (["evaluate", "nowhere"], 1, "nowhere: has no"),
        (["predict", "shirts/*.png"], 1, "shirts/*.png: no pictures there"),
        (
            ["predict", "a.png", "--show", "all.txt"],
            2,
            "all.txt: expected a name that ends in .png",
        ),
        (["predict", "a.png", "b.png", "--explain", "why.png"], 2, "expected one picture, got 2"),
        (["report", "nowhere"], 1, "nowhere: has no"),
        (["compare", "nowhere"], 2, "at least two runs"),
        (["compare", "here", "there"], 1, "here: has no metrics.json"),
        (["audit", "--recipe", "quik"], 2, "did you mean quick?"),
        (["audit", "--folds", "1"], 2, "--folds"),
        (["export", "nowhere"], 1, "nowhere: has no metrics.json"),
        (["predict", "shirt.png", "--model", "nowhere"], 1, "nowhere: no model"),
        (["dance"], 2, "No such command"),
    ],
)
def test_refusals_are_short_and_leave_nothing(tmp_path, words, status, message):
    done = fashion_cnn(*words, cwd=tmp_path, status=status)
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    if status == 1:
        lines = [line for line in done.stderr.splitlines() if line.startswith("fashion-cnn: ")]
        assert len(lines) == 1


def test_debug_shows_the_traceback(tmp_path):
    done = fashion_cnn_process("evaluate", "nowhere", "--debug", cwd=tmp_path, status=1)
    assert "Traceback" in done.stderr


def test_debug_changes_nothing_about_wrong_usage(tmp_path):
    done = fashion_cnn("train", "textbok", "--debug", cwd=tmp_path, status=2)
    assert "expected textbook" in done.stderr


def test_an_error_is_short_and_printable(tmp_path):
    done = fashion_cnn("evaluate", "\x1b\udcff" + "/x" * 2000, cwd=tmp_path, status=1)
    assert len(done.stderr) < 500
    assert done.stderr.startswith(r"fashion-cnn: \x1b\udcff/x/x".replace("/", os.sep))
    assert done.stderr.strip().isprintable()


@pytest.mark.skipif(
    sys.platform != "linux", reason="macOS and Windows have no file names that are not text"
)
def test_names_that_cannot_be_written_are_escaped(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in (b"\xff.png", "名.png".encode(), b"z.png"):
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            Image.new("L", (28, 28)).save(file, "PNG")
    words = ["predict", folder, "--model", "textbook", "--top", 1, "--unsure", tmp_path / "un.csv"]
    done = fashion_cnn_process(*words, PYTHONIOENCODING="cp1252", PYTHONUTF8="0")
    lines = done.stdout.splitlines()  # long paths are on a line of their own
    names = [x.removeprefix(f"{folder}/") for x in lines if not x.startswith(" ")]
    assert sorted(names) == [r"\u540d.png", r"\udcff.png", "z.png"]
    assert r"/\udcff.png," in (tmp_path / "un.csv").read_text(encoding="utf-8")


def test_a_picture_on_standard_input_is_classified(tmp_path, monkeypatch):
    Image.new("L", (28, 28)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()

    def predict(*words, status=0):
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        return fashion_cnn("predict", "-", "--model", "textbook", *words, status=status)

    assert predict("--format", "csv", "--top", 1).stdout.splitlines()[1].startswith("-,1,")
    assert "-: no list of names" in predict("--output", tmp_path / "out", status=2).stderr


def test_a_class_without_test_images_has_a_blank_recall(capsys):
    row = {"recall": 0.5, "support": 2}
    metrics = {"test_per_class": {"cat": row, "bird": {"recall": None, "support": 0}}}
    metrics |= {"test_accuracy": 0.5, "test_accuracy_interval": (0.1, 0.9)}
    print_metrics(metrics | {"test_macro_accuracy": 0.5, "test_macro_f1": 0.5}, "test")
    assert capsys.readouterr().out.splitlines()[:2] == [f"  {'cat':<14}  50.00%", "  bird"]
