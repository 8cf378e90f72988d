"""Every command and Python block of README.md and docs/ runs, with small settings where it is long.

A page's blocks: `sh` holds one command a line, `python` holds code that runs from top to bottom in
one namespace a page, and any other kind of block is not run. A block with a title is the content of
a file (test_extend.py uses those).
"""

import dataclasses
import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from command import QUICK_XLA, fashion_cnn, fashion_cnn_process, write_data_npz
from drawn import COLORS, garment
from PIL import Image

from fashion_cnn import RECIPES
from fashion_cnn.data.decisions import Decision, to_csv
from fashion_cnn.files import file_sha256
from fashion_cnn.recipes import measured

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAGES}
README = TEXTS["README.md"]
PROGRAMS = ("make", "pip", "uvx", "fashion-cnn", "curl", "docker", "python")
SMALL_MODEL = ["--set", "stem=2", "--set", "width=4", "--set", "blocks=1", "--set", "hidden=8"]
ONE_EPOCH = ["--epochs", "1", "--batch-size", "20"]
# A word of a command -> options that make it short. The last word that is in the command counts.
SHORT_OPTIONS = {
    "train": [*ONE_EPOCH, "--no-report"],
    "--seeds": [*ONE_EPOCH, "--seeds", "2", *SMALL_MODEL],
    # child processes have all of Fashion-MNIST
    "--processes": ["--data", "few.npz", *ONE_EPOCH, "--no-report", *SMALL_MODEL],
    "photos": ["--epochs", "1", "--no-report", "--set", "image_size=32"],
    "--resume": [],
    "audit": ["--recipe", "short.json", "--folds", "2"],
    "tune": ["--set", "epochs=1", "--set", "batch_size=20", "--trials", "2"],
}


def commands_of_pages():
    """`(variables, words)` of each command -> the first page that has it."""
    commands = {}
    for page, text in TEXTS.items():
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.S | re.M):
            for line in block.splitlines():
                words = shlex.split(line, comments=True)
                words = words[: words.index(">")] if ">" in words else words
                program = next((k for k, word in enumerate(words) if "=" not in word), 0)
                if words:
                    command = tuple(words[:program]), tuple(words[program:])
                    commands.setdefault(command, page)
    return commands


COMMANDS = commands_of_pages()


def commands_of(program):
    return [words for _, words in COMMANDS if words[0] == program]


def python_blocks(page):
    return re.findall(r"^```python\n(.*?)^```", TEXTS[page], re.S | re.M)


def needs_server(words):
    """Whether a command serves, or uses a cluster: other files test that."""
    shows_page = words[1] == "label" and not {"--merge", "--export"} & set(words)
    return words[1] == "serve" or shows_page or "--cluster" in words


def short_options(words):
    """The options to add to a command so that it takes seconds."""
    if words[1] not in ("train", "tune", "audit") or "--help" in words:
        return []
    *_, options = (options for word, options in SHORT_OPTIONS.items() if word in words)
    from_scratch = ["--weights", "none", "--set", "min_size=32"]
    return options + from_scratch * bool({"mobilenet", "resnet"} & set(words))


def test_commands_are_of_known_programs():
    unknown = {words[0] for _, words in COMMANDS} - set(PROGRAMS)
    assert not unknown, (unknown, "expected one of PROGRAMS, and how this file tests it")
    assert {words[0] for _, words in COMMANDS} == set(PROGRAMS)


@pytest.mark.parametrize("words", commands_of("make"), ids=" ".join)
def test_make_targets_exist(words):
    # `make test` runs this test, and `make train` is the command of test_minutes.py
    done = subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", commands_of("pip"), ids=" ".join)
def test_pip_commands_name_existing_extras(words):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    name = re.fullmatch(r"fashion-cnn(?:\[(.+)\])?", words[-1])
    assert words[:2] == ("pip", "install") and len(words) == 3 and name, words
    extras = set((name[1] or "train").split(","))
    assert extras <= project["optional-dependencies"].keys()


@pytest.mark.parametrize("words", commands_of("uvx"), ids=" ".join)
def test_uvx_commands_are_commands_of_this_program(words):
    assert words[:2] == ("uvx", "fashion-cnn")
    assert words[2:] in [words[1:] for words in commands_of("fashion-cnn")]


@pytest.mark.parametrize("words", commands_of("python"), ids=" ".join)
def test_python_commands_are_benchmarks_with_options_that_exist(words):
    assert re.fullmatch(r"benchmarks/[a-z]\w+\.py", words[1])
    call = [sys.executable, ROOT / words[1], "--help"]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for option in words[2:]:
        assert not option.startswith("-") or option in done.stdout


@pytest.fixture(scope="module")
def working_folder(tmp_path_factory, first_images):
    """What the pages' commands find: photos, the folders of earlier runs, and short data."""
    folder = tmp_path_factory.mktemp("docs")
    data = first_images(train=200, test=50)
    write_data_npz(folder / "few.npz", data)
    Image.fromarray(data.test_images[0]).save(folder / "garment.png")
    shirt = garment("T-shirt", COLORS[1])
    shirt.save(folder / "shirt.jpg")
    for k in range(60):
        photos = folder / "photos" / ("coat", "hat")[k % 2]
        photos.mkdir(parents=True, exist_ok=True)
        shirt.reduce(2).rotate(9 * k).save(photos / f"{k}.jpg")
    recipe = dataclasses.replace(RECIPES["textbook"], epochs=1, batch_size=20)
    (folder / "short.json").write_text(recipe.to_json())
    (folder / "images.txt").write_text("garment.png\nshirt.jpg\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fashion_cnn.data.load_fashion_mnist", lambda: first_images(500, 100))
        fashion_cnn("train", "textbook", *ONE_EPOCH, "--no-report", cwd=folder)
    shutil.copytree(folder / "runs/textbook-1", folder / "runs/standard-1")
    options = ("--data", "photos", *SHORT_OPTIONS["photos"], "--run", "runs/mobilenet-1")
    fashion_cnn("train", "textbook", *options, cwd=folder)
    shutil.copytree(folder / "runs/mobilenet-1", folder / "runs/mobilenet-2")
    photo = "coat/0.jpg"
    sha256 = file_sha256(folder / "photos" / photo)
    decisions = to_csv([Decision(photo, sha256, "label", "hat", "coat")])
    (folder / "audit").mkdir()
    for path in ("audit/decisions.csv", "anna.csv", "ben.csv", "cleo.csv"):
        (folder / path).write_text(decisions)
    return folder


@pytest.mark.parametrize("page", ["README.md", "docs/photos.md"])
def test_the_example_is_what_predict_prints(page, working_folder):
    def words(text):
        return re.search(r"^shirt\.jpg +(\S+) +([\d.]+)% +(\w+)$", text, re.M).groups()

    printed = words(fashion_cnn("predict", "shirt.jpg", cwd=working_folder).stdout)
    label, percent, verdict = words(TEXTS[page])
    assert (label, verdict) == printed[::2]
    assert float(percent) == pytest.approx(float(printed[1]), abs=0.1)


FASHION_CNN = [c for c in COMMANDS if c[1][0] == "fashion-cnn" and not needs_server(c[1])]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "words"), FASHION_CNN, ids=[" ".join(w) for _, w in FASHION_CNN]
)
def test_fashion_cnn_commands_run(variables, words, working_folder, fewer_images, serial_pool):
    fewer_images(train=500, test=100)
    if "web" in words and not shutil.which("npm"):
        pytest.skip("no npm on this machine")
    environment = dict(word.split("=", 1) for word in variables)
    options = short_options(words)
    if environment or "--processes" in words:  # on JAX
        fashion_cnn_process(*words[1:], *options, cwd=working_folder, **environment, **QUICK_XLA)
    else:
        fashion_cnn(*words[1:], *options, cwd=working_folder)


SERVED = [c for c in COMMANDS if c[1][0] == "fashion-cnn" and needs_server(c[1])]


@pytest.mark.parametrize(("variables", "words"), SERVED, ids=[" ".join(w) for _, w in SERVED])
def test_commands_that_serve_are_understood(variables, words):
    # test_serving.py, test_label.py and test_cluster.py run them
    known = fashion_cnn(words[1], "--help").stdout
    for word in words[2:]:
        assert not word.startswith("-") or word in known


def test_curl_commands_reach_the_server(working_folder, serving):
    if not shutil.which("curl"):
        pytest.skip("no curl on this machine")
    calls = commands_of("curl")
    assert ("fashion-cnn", "serve") in commands_of("fashion-cnn") and calls
    with serving() as (_, port, _):
        for words in calls:
            call = [word.replace(":8000", f":{port}") for word in words]
            call[1:1] = ["--fail", "--silent", "--show-error"]
            pipes = {"capture_output": True, "text": True, "timeout": 60}
            done = subprocess.run(call, cwd=working_folder, **pipes)
            assert done.returncode == 0, (words, done.stderr)
            if any(word.endswith("/predict") for word in words):
                assert json.loads(done.stdout)["model"] == "clothes"


def test_dockerfile_copies_existing_files():
    assert ("docker", "build", "-t", "fashion-cnn", ".") in commands_of("docker")
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = [word for x in lines if x.startswith("COPY ") for word in x.split()[1:-1]]
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for name in copied:
        if not name.startswith(("--", "/")):
            assert (ROOT / name).exists() and f"!{name}" in allowed, name


@pytest.fixture
def short_recipes(monkeypatch):
    """Every recipe that is not for photos is the textbook's network, trained for one epoch."""
    for name, recipe in RECIPES.items():
        if recipe.model not in ("transfer",):
            short = dataclasses.replace(RECIPES["textbook"], epochs=1)
            monkeypatch.setitem(RECIPES, name, short)


PYTHON_PAGES = [page for page in TEXTS if python_blocks(page)]


@pytest.mark.slow
@pytest.mark.parametrize("page", PYTHON_PAGES)
def test_python_blocks_run(page, working_folder, fewer_images, short_recipes, monkeypatch):
    fewer_images(train=2000, test=1000)
    monkeypatch.chdir(working_folder)
    namespace = {"__name__": "__main__"}
    for block in python_blocks(page):
        if not any(word in block for word in ("TensorBoard", "mlflow")):  # test_tracking.py
            exec(compile(block, page, "exec"), namespace)  # noqa: S102 (our own pages)


@pytest.mark.parametrize(
    "script", sorted((ROOT / "benchmarks").glob("[!_]*.py")), ids=lambda p: p.stem
)
def test_benchmarks_start(script):
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"benchmarks/{script.name}" in script.read_text().split('"""')[1]


@pytest.fixture
def load_benchmark(monkeypatch):
    """Import a benchmark; return the module and the rows of its CSV file."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")

    def load(name):
        module = importlib.import_module(name)
        return module, importlib.import_module("_results").read_rows(module.ROWS)

    return load


# `make lint` compares the tables with the rows; here is what the rows must have


def test_recipes_shows_the_measured_figures(load_benchmark):
    frontier, rows = load_benchmark("frontier")
    summary = frontier.summarize(rows)
    shipped = measured()["recipes"]
    assert shipped.keys() == summary.keys() - {frontier.PLAIN}
    for name, figures in shipped.items():
        assert name in RECIPES
        assert figures["test_accuracy"] == pytest.approx(summary[name]["test_accuracy"], abs=1e-4)
        assert figures["n"] >= frontier.TARGETS.get(name, (0, 1))[1]


def test_improvements_have_three_seeds(load_benchmark):
    improvements, rows = load_benchmark("improvements")
    assert all(sum(row["variant"] == x for row in rows) == 3 for x in improvements.VARIANTS)


def test_calibration_and_robustness_have_five_seeds(load_benchmark):
    _, rows = load_benchmark("trust")
    assert all(sum(r["recipe"] == name for r in rows) >= 5 for name in ("textbook", "standard"))


def test_transfer_learning_has_two_seeds(load_benchmark):
    transfer, rows = load_benchmark("transfer")
    for training in transfer.TRAININGS:
        assert sum((row["data"], row["recipe"]) == training for row in rows) >= 2


def test_distillation_has_five_seeds_with_and_without(load_benchmark):
    teacher, rows = load_benchmark("teacher")
    assert all(sum(row["recipe"] == name for row in rows) == 10 for name in teacher.RECIPES)


def test_gpu_benchmark_averages_the_predictions_of_record(load_benchmark, tmp_path):
    gpu, _ = load_benchmark("gpu")
    assert "no predictions of record" in gpu.measure_ensemble(tmp_path, np.array([0]))
    networks = (
        [[0.9, 0.1], [0.4, 0.6]],
        [[0.2, 0.8], [0.1, 0.9]],
    )  # the second alone is wrong
    for seed, probabilities in enumerate(networks):
        np.savez(tmp_path / f"record-{seed}.npz", test=np.array(probabilities, np.float16))
    text = gpu.measure_ensemble(tmp_path, np.array([0, 1]))
    assert text == "record-ensemble: 100.00 % on the test images, n = 2 networks"


@pytest.mark.parametrize("page", TEXTS)
def test_linked_files_exist(page):
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", TEXTS[page]):
        assert (ROOT / page).parent.joinpath(link).is_file(), link
