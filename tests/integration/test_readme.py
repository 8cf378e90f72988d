"""Every command of the README is run: as it stands, or cut short where it would take minutes."""

import dataclasses
import importlib
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
SHORT = ["--epochs", "1", "--batch-size", "20"]
SMALL = [word for pair in ("stem=2", "width=4", "blocks=1", "hidden=8") for word in ("--set", pair)]
FEW = ["--data", "few.npz"]  # for child processes, whose Fashion-MNIST is whole
CUT = {
    "train": [*SHORT, "--no-report"],
    "--seeds": [*SHORT, "--seeds", "2", *SMALL],
    "--processes": [*FEW, *SHORT, "--no-report", *SMALL],
    "photos": ["--epochs", "1", "--no-report", "--set", "image_size=32"],
    "--resume": [],
    "audit": ["--recipe", "short.json", "--folds", "2"],
    "tune": ["--set", "epochs=1", "--set", "batch_size=20", "--trials", "2"],
}  # a word of a command: what makes it short; the last word that fits counts


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


COMMANDS = [
    shlex.split(line, comments=True)
    for block in blocks("sh")
    for line in block.splitlines()
    if line
]


def of(program):
    return [words for words in COMMANDS if words[0] == program]


def cut(words):
    """What is added to a command so that it takes seconds."""
    if words[1] not in ("train", "tune", "audit"):
        return []
    *_, added = (more for word, more in CUT.items() if word in words)
    scratch = ["--weights", "none", "--set", "min_size=32"]
    return added + scratch * ("mobilenet" in words)


def test_nothing_else_is_promised():
    programs = ("make", "pip", "fashion-cnn", "curl", "docker")
    assert sum(len(of(program)) for program in programs) == len(COMMANDS)


@pytest.mark.parametrize("words", of("make"), ids=" ".join)
def test_make_knows_the_target(words):
    # `make test` is what runs this test, and `make train` is the mid-length test's command
    done = subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_pip_lines_name_an_extra_that_exists():
    assert [words[-1] for words in of("pip")] == [".", ".[train]", ".[serve]", ".[scale]"]
    assert "pip install '.[heic]'" in README
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"train", "heic", "serve", "scale"} <= project["optional-dependencies"].keys()


@pytest.mark.slow
def test_fashion_cnn_commands_in_their_order(
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
    short = dataclasses.replace(RECIPES["textbook"], epochs=1, batch_size=20)
    (tmp_path / "short.json").write_text(short.to_json())
    for words in of("fashion-cnn"):
        if words[1] == "serve" or ("web" in words and not shutil.which("npm")):
            continue  # the server has a test of its own; npm is not everywhere
        if "--processes" in words:  # on JAX
            fashion_cnn_process(*words[1:], *cut(words), cwd=tmp_path, **QUICK_XLA)
        else:
            fashion_cnn(*words[1:], *cut(words), cwd=tmp_path)
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
    code = blocks("python")[1]
    assert "Classifier.load" in code
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.startswith("Ankle boot 0."), done.stderr
    made = ("runs/textbook-1/report.html", "comparison.png", "audit/suspects.csv")
    made += ("tune-sprint/trials.png", "answers/part-0000000.parquet")
    made += ("why.png", "all.png", "runs/textbook-1/savedmodel/saved_model.pb")
    assert all((tmp_path / name).is_file() for name in made)


def test_the_server_and_what_is_asked_of_it(tmp_path, serving):
    shirt = Image.new("RGB", (400, 300), "beige")
    shirt.paste("navy", (130, 40, 270, 260))
    shirt.save(tmp_path / "shirt.jpg")
    assert [words for words in of("fashion-cnn") if words[1] == "serve"] == [
        ["fashion-cnn", "serve"]
    ]
    (words,) = of("curl")
    if not shutil.which("curl"):
        pytest.skip("no curl on this machine")
    with serving() as (_, port, _):
        call = [word.replace(":8000", f":{port}") for word in words]
        done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "photo"


def test_the_container_copies_what_is_there():
    assert of("docker") == [["docker", "build", "-t", "fashion-cnn", "."]]
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = [word for x in lines if x.startswith("COPY ") for word in x.split()[1:-1]]
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for name in copied:
        if not name.startswith(("--", "/")):
            assert (ROOT / name).exists() and f"!{name}" in allowed, name


@pytest.mark.slow
def test_the_python_example(capsys, fewer_images):
    fewer_images(train=6000, test=1000)
    code = blocks("python")[0]  # the others: test_tracking.py
    short = dataclasses.replace(RECIPES["textbook"], epochs=1)
    assert 'train("textbook"' in code
    exec(code.replace('train("textbook"', "train(SHORT"), {"SHORT": short})  # noqa: S102 (ours)
    assert 0.5 < float(capsys.readouterr().out.splitlines()[-1]) < 1


@pytest.mark.parametrize(
    "script", sorted((ROOT / "benchmarks").glob("[!_]*.py")), ids=lambda p: p.stem
)
def test_benchmarks_start(script):
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"benchmarks/{script.name}" in script.read_text().split('"""')[1]


def test_the_figures_are_those_of_the_finished_runs(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    frontier = importlib.import_module("frontier")
    found = frontier.summary(frontier.finished_rows(frontier.ROWS))
    assert frontier.table(found) in README
    shipped = measured()["recipes"]
    assert shipped.keys() == found.keys() - {frontier.PLAIN}
    for name, row in shipped.items():
        assert name in RECIPES
        assert row["test_accuracy"] == pytest.approx(found[name]["test_accuracy"], abs=1e-4)
        assert row["n"] >= frontier.TARGETS.get(name, (0, 0, 1))[2]


def test_the_figures_of_trust_are_those_of_the_finished_runs(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    trust = importlib.import_module("trust")
    rows = trust.finished_rows(trust.ROWS)
    assert all(sum(r["recipe"] == name for r in rows) >= 5 for name in ("textbook", "standard"))
    assert trust.table(rows) in README


def test_the_figures_of_transfer_are_those_of_the_finished_runs(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    transfer = importlib.import_module("transfer")
    rows = transfer.finished_rows(transfer.ROWS)
    assert all(sum((r["data"], r["way"]) == way for r in rows) >= 2 for way in transfer.WAYS)
    assert transfer.table(rows) in README


def test_the_figures_of_the_teacher_are_those_of_the_finished_runs(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    teacher = importlib.import_module("teacher")
    rows = teacher.finished_rows(teacher.ROWS)
    assert all(sum(row["recipe"] == name for row in rows) == 10 for name in teacher.RECIPES)
    assert teacher.table(rows) in README


@pytest.mark.parametrize("name", ["head", "scale"])
def test_the_figures_of_scale_are_those_of_the_finished_runs(monkeypatch, name):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    benchmark = importlib.import_module(name)
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    for table in benchmark.tables(benchmark.finished_rows(benchmark.ROWS)):
        assert len(table.splitlines()) > 3
        assert table in page


def test_files_that_are_linked_exist():
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).is_file(), link
