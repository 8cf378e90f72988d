"""Every command of the README runs: as it is, or with small settings where it takes minutes."""

import dataclasses
import importlib
import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import QUICK_XLA, fashion_cnn, fashion_cnn_process, write_data_npz
from PIL import Image

from fashion_cnn import RECIPES
from fashion_cnn.recipes import measured

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ONE_EPOCH = ["--epochs", "1", "--batch-size", "20"]
SMALL_MODEL = ["--set", "stem=2", "--set", "width=4", "--set", "blocks=1", "--set", "hidden=8"]
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


def code_blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def shell_commands():
    lines = itertools.chain.from_iterable(block.splitlines() for block in code_blocks("sh"))
    return [shlex.split(line, comments=True) for line in lines if line]


COMMANDS = shell_commands()


def commands_of(program):
    return [words for words in COMMANDS if words[0] == program]


def short_options(words):
    """The options to add to a command so that it takes seconds."""
    if words[1] not in ("train", "tune", "audit"):
        return []
    *_, options = (options for word, options in SHORT_OPTIONS.items() if word in words)
    from_scratch = ["--weights", "none", "--set", "min_size=32"]
    return options + from_scratch * ("mobilenet" in words)


def test_commands_are_of_known_programs():
    programs = ("make", "pip", "fashion-cnn", "curl", "docker")
    assert sum(len(commands_of(program)) for program in programs) == len(COMMANDS)


@pytest.mark.parametrize("words", commands_of("make"), ids=" ".join)
def test_make_targets_exist(words):
    # `make test` runs this test, and `make train` is the command of test_minutes.py
    done = subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_pip_commands_name_existing_extras():
    assert [words[-1] for words in commands_of("pip")] == [".", ".[train]", ".[serve]", ".[scale]"]
    assert "pip install '.[heic]'" in README
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"train", "heic", "serve", "scale"} <= project["optional-dependencies"].keys()


@pytest.mark.slow
def test_fashion_cnn_commands_run_in_order(
    tmp_path, real_data, first_images, fewer_images, serial_pool
):
    fewer_images(train=500, test=100)
    Image.fromarray(real_data.test_images[0]).save(tmp_path / "garment.png")
    shirt = Image.new("RGB", (400, 300), "beige")
    shirt.paste("navy", (130, 40, 270, 260))
    shirt.save(tmp_path / "shirt.jpg")
    for k in range(40):
        folder = tmp_path / "photos" / ("coat", "hat")[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shirt.rotate(9 * k).save(folder / f"{k}.jpg")
    write_data_npz(tmp_path / "few.npz", first_images(train=200, test=50))
    recipe = dataclasses.replace(RECIPES["textbook"], epochs=1, batch_size=20)
    (tmp_path / "short.json").write_text(recipe.to_json())
    for words in commands_of("fashion-cnn"):
        if words[1] == "serve" or ("web" in words and not shutil.which("npm")):
            continue  # the server has its own test; npm may be missing
        if "--processes" in words:  # on JAX
            fashion_cnn_process(*words[1:], *short_options(words), cwd=tmp_path, **QUICK_XLA)
        else:
            fashion_cnn(*words[1:], *short_options(words), cwd=tmp_path)
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {
        "mobilenet-1",
        "own",
        "quick-1",
        "sprint-1",
        "sprint-seeds-1",
        "standard-1",
        "textbook-1",
        "textbook-2",
    }
    code = code_blocks("python")[1]
    assert "Classifier.load" in code
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.startswith("Ankle boot 0."), done.stderr
    outputs = ("runs/textbook-1/report.html", "comparison.png", "audit/suspects.csv")
    outputs += ("tune-sprint/trials.png", "answers/part-0000000.parquet")
    outputs += ("why.png", "all.png", "runs/textbook-1/savedmodel/saved_model.pb")
    assert all((tmp_path / name).is_file() for name in outputs)


def test_server_answers_the_curl_command(tmp_path, serving):
    shirt = Image.new("RGB", (400, 300), "beige")
    shirt.paste("navy", (130, 40, 270, 260))
    shirt.save(tmp_path / "shirt.jpg")
    serve_commands = [words for words in commands_of("fashion-cnn") if words[1] == "serve"]
    assert serve_commands == [["fashion-cnn", "serve"]]
    (words,) = commands_of("curl")
    if not shutil.which("curl"):
        pytest.skip("no curl on this machine")
    with serving() as (_, port, _):
        call = [word.replace(":8000", f":{port}") for word in words]
        done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "photo"


def test_dockerfile_copies_existing_files():
    assert commands_of("docker") == [["docker", "build", "-t", "fashion-cnn", "."]]
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = [word for x in lines if x.startswith("COPY ") for word in x.split()[1:-1]]
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for name in copied:
        if not name.startswith(("--", "/")):
            assert (ROOT / name).exists() and f"!{name}" in allowed, name


@pytest.mark.slow
def test_python_example_trains(capsys, fewer_images):
    fewer_images(train=6000, test=1000)
    code = code_blocks("python")[0]  # test_tracking.py runs the others
    recipe = dataclasses.replace(RECIPES["textbook"], epochs=1)
    assert 'train("textbook"' in code
    exec(code.replace('train("textbook"', "train(SHORT"), {"SHORT": recipe})  # noqa: S102 (ours)
    assert 0.5 < float(capsys.readouterr().out.splitlines()[-1]) < 1


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


def test_frontier_table_is_that_of_the_rows(load_benchmark):
    frontier, rows = load_benchmark("frontier")
    summary = frontier.summarize(rows)
    assert frontier.table(rows) in README
    shipped = measured()["recipes"]
    assert shipped.keys() == summary.keys() - {frontier.PLAIN}
    for name, figures in shipped.items():
        assert name in RECIPES
        assert figures["test_accuracy"] == pytest.approx(summary[name]["test_accuracy"], abs=1e-4)
        assert figures["n"] >= frontier.TARGETS.get(name, (0, 0, 1))[2]


def test_improvements_table_is_that_of_the_rows(load_benchmark):
    improvements, rows = load_benchmark("improvements")
    assert all(sum(row["variant"] == x for row in rows) == 3 for x in improvements.VARIANTS)
    assert improvements.table(rows) in README


def test_trust_tables_are_those_of_the_rows(load_benchmark):
    trust, rows = load_benchmark("trust")
    assert all(sum(r["recipe"] == name for r in rows) >= 5 for name in ("textbook", "standard"))
    assert trust.table(rows) in README


def test_transfer_table_is_that_of_the_rows(load_benchmark):
    transfer, rows = load_benchmark("transfer")
    for training in transfer.TRAININGS:
        assert sum((row["data"], row["recipe"]) == training for row in rows) >= 2
    assert transfer.table(rows) in README


def test_teacher_table_is_that_of_the_rows(load_benchmark):
    teacher, rows = load_benchmark("teacher")
    assert all(sum(row["recipe"] == name for row in rows) == 10 for name in teacher.RECIPES)
    assert teacher.table(rows) in README


@pytest.mark.parametrize("name", ["head", "search_head", "scale"])
def test_scale_tables_are_those_of_the_rows(load_benchmark, name):
    benchmark, rows = load_benchmark(name)
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    for table in benchmark.tables(rows):
        assert len(table.splitlines()) > 3
        assert table in page


def test_linked_files_exist():
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).is_file(), link
