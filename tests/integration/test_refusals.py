"""Bad input, through the command line: the status, one line that helps, and nothing left behind."""

import copy
import gzip
import json
import math
import os
import random
import struct
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from command import PROGRAM, fashion_cnn, fashion_cnn_process

from fashion_cnn.data.fashion_mnist import FILES, find_file
from fashion_cnn.data.idx import read_idx
from fashion_cnn.models import build_model
from fashion_cnn.models.loading import load_keras_file
from fashion_cnn.recipes import RECIPES, find_recipe

IMAGES, LABELS = list(FILES)[:2]
RECIPE = json.loads(RECIPES["textbook"].to_json())


def header(*shape, kind=8):
    return struct.pack(f">HBB{len(shape)}I", 0, kind, len(shape), *shape)


def idx_folder(folder, real, **changed):
    """Links to the real files, except for those whose content is passed."""
    (folder / "data").mkdir()
    for name in FILES:
        path = find_file(Path(real.location), name)
        (folder / "data" / path.name).symlink_to(path.resolve())
    for name, content in changed.items():
        name = name.replace("_", "-")
        for old in (folder / "data").glob(f"{name}*"):
            old.unlink()
        (folder / "data" / name).write_bytes(content)
    return ["train", "--data", "data"]


def with_images(content):
    return lambda folder, real: idx_folder(folder, real, **{IMAGES: content})


def with_recipe(text):
    def make(folder, real):
        (folder / "recipe.json").write_text(text)
        return ["train", "recipe.json"]

    return make


def with_npz(**arrays):
    def make(folder, real):
        np.savez(folder / "data.npz", **arrays)
        return ["train", "--data", "data.npz"]

    return make


NPZ_ARRAYS = {
    "x_train": np.zeros((20, 8, 8), np.uint8),
    "y_train": np.arange(20) % 2,
    "x_test": np.zeros((3, 8, 8), np.uint8),
    "y_test": np.arange(3) % 2,
}


def one_class(folder, real):
    (folder / "photos" / "shirt").mkdir(parents=True)
    (folder / "photos" / "shirt" / "1.png").write_bytes(b"not a picture")
    return ["train", "--data", "photos"]


def no_pictures(folder, real):
    one_class(folder, real)
    (folder / "photos" / "hat").mkdir()
    (folder / "photos" / "hat" / "1.png").write_bytes(b"not a picture")
    return ["train", "--data", "photos"]


def used_folder(folder, real):
    (folder / "run").mkdir()
    (folder / "run" / "thesis.txt").write_text("dear")
    return ["train", "--run", "run"]


def beneath_a_file(folder, real):
    (folder / "file").write_text("")
    return ["train", "--run", "file/run"]


def broken_run(name, content):
    """The folder of a run that has only just begun, one of its files being `content`."""

    def make(folder, real):
        (folder / "run").mkdir()
        (folder / "run" / "recipe.json").write_text(RECIPES["textbook"].to_json())
        environment = {
            "data": {"source": "fashion-mnist", "sha256": {"x": "y"}, "class_names": ["a"]}
        }
        (folder / "run" / "environment.json").write_text(json.dumps(environment))
        (folder / "run" / name).write_bytes(content)
        return ["evaluate", "run"]

    return make


MODEL = "run/model.keras: not a valid model"
USAGE = [
    (["train", "standrd"], "did you mean standard?"),
    (["train", "xyzzy"], "expected textbook, "),
    (["train", "nowhere.json"], "nowhere.json: no such file"),
    (["train", "--set", "depth=3"], "--set depth: unknown; expected one of"),
    (["train", "--set", "depth"], "expected KEY=VALUE"),
    (["train", "--set", "dropout=much"], "dropout: got 'much'; expected a number"),
    (["train", "textbook", "--set", "dropout=1.5"], "dropout: got 1.5; expected 0 <= rate < 1"),
    (["train", "--set", "width=0"], "width: got 0"),
    (["train", "--set", "blocks=9"], "blocks, convolutions: got 9"),
    (["train", "--set", "augment=flop"], "augment: got 'flop'; expected flip"),
    *(
        (["train", "--epochs", n], f"epochs: got {n}; expected a value ")
        for n in ("0", "-1", "1000000000")
    ),
    (["train", "--epochs", "ten"], "epochs: got 'ten'; expected a whole number"),
    *(
        (["train", "--learning-rate", x], f"learning_rate: got {x}; expected a ")
        for x in ("nan", "inf", "-0.1")
    ),
    (["train", "--learning-rate", "abc"], "learning_rate: got 'abc'; expected a number"),
    (
        ["train", "--batch-size", "0"],
        "batch_size: got 0; expected a value greater than or equal to 1",
    ),
    (["train", "--validation", "both"], "--validation"),
    (["train", "--resume"], "--resume needs --run DIR"),
    (
        ["train", "--resume", "--run", "nowhere"],
        "nowhere: no run to resume; give a RECIPE to start one",
    ),
    (used_folder, "run: not empty; give --resume to continue it, or another"),
    (with_recipe(""), "recipe.json: not a recipe"),
    (with_recipe("[" * 100_000), "recipe.json: not a recipe"),
    (with_recipe(json.dumps(RECIPE | {"depth": 3})), "unknown key 'depth'"),
    (
        with_recipe(json.dumps(RECIPE | {"epochs": "3"})),
        "epochs: got '3'; expected a valid integer",
    ),
    (with_recipe(json.dumps(RECIPE | {"options": {"depth": 1}})), "depth: not an option"),
]
FAILURES = [
    (["train", "--batch-size", "60000"], "batch_size: got 60000; there are 55000 training images"),
    (["train", "--data", "nowhere"], "--data: no folder 'nowhere'; expected fashion-mnist"),
    (beneath_a_file, "file/run: cannot be made (Not a directory); give --run a folder that"),
    (one_class, "photos: expected at least two folders with pictures in them, one per class"),
    (no_pictures, "2 cannot be read, the first: hat/1.png: not a picture"),
    (with_npz(x=np.array([1])), "data.npz: has no x_train, y_train, x_test, y_test but x;"),
    (
        with_npz(**NPZ_ARRAYS | {"x_train": np.array([None])}),
        "data.npz: Object arrays cannot be loaded",
    ),
    (with_npz(**NPZ_ARRAYS | {"y_test": np.zeros(3)}), "data.npz: labels: got int64 and float64"),
    (
        with_npz(**NPZ_ARRAYS | {"x_test": np.zeros((3, 8, 8))}),
        "data.npz: test images: got float64",
    ),
    (
        with_npz(**NPZ_ARRAYS | {"x_train": np.zeros((20, 3, 8, 8), np.uint8)}),
        "data.npz: train images: got (20, 3, 8, 8), channels first; expected (n, height, width, ",
    ),
    (with_images(b""), "not IDX of unsigned bytes (it starts with nothing)"),
    (with_images(header(60000, 28, 28, kind=13)), "not IDX of unsigned bytes"),
    (with_images(header(60000, 28, 28) + b"1"), "more than the file can hold"),
    (with_images(header(2**31, 2**31, 2**31)), "more than the file can hold"),
    (with_images(header(2, 1, 1) + b"123"), "the file holds more than 2 bytes"),
    (with_images(gzip.compress(header(60000, 28, 28) + bytes(60000 * 784))[:-9]), "damaged gzip"),
    (with_images(gzip.compress(header(2, 1, 1) + bytes(10**8))), "the file holds more than 2"),
    (with_images(header(60000, 28, 28) + bytes(60000 * 784)), "right shape but not Fashion-MNIST"),
    (
        lambda folder, real: idx_folder(folder, real, **{LABELS: header(3) + b"123"}),
        "shape (3,); Fashion-MNIST has (60000,)",
    ),
    (["evaluate", "nowhere"], "nowhere: has no recipe.json; expected the folder of a finished run"),
    (["report", "nowhere"], "nowhere: has no environment.json"),
    (["predict", "shirt.png", "--model", "photos"], "photos: no model; expected a run folder"),
    (broken_run("recipe.json", b"{"), "run/recipe.json: damaged"),
    (broken_run("environment.json", b"[" * 10**5), "run/environment.json: damaged"),
    (broken_run("environment.json", b"{}"), "run/environment.json: damaged (no data"),
    (
        broken_run("thesis.txt", b""),
        " is not what this run was trained on, or has changed since (x, ",
    ),
    (broken_run("SHA256SUMS", b"0  recipe.json\n"), "run/SHA256SUMS: damaged"),
]
CASES = [(2, *row) for row in USAGE] + [(1, *row) for row in FAILURES]


@pytest.mark.parametrize(("status", "case", "message"), CASES)
def test_bad_input_is_refused(tmp_path, real_data, status, case, message):
    arguments = case(tmp_path, real_data) if callable(case) else case
    before = sorted(p for p in tmp_path.rglob("*") if not p.is_dir())
    result = fashion_cnn(*arguments, cwd=tmp_path, status=status)
    *progress, error = result.stderr.splitlines()
    assert error.startswith("fashion-cnn: ") and message in error
    assert not any(line.startswith(("fashion-cnn", "Traceback", "Epoch")) for line in progress)
    assert result.stdout == ""
    assert sorted(p for p in tmp_path.rglob("*") if not p.is_dir()) == before


@pytest.mark.slow
def test_no_space_at_the_start_leaves_nothing(tmp_path, real_data):
    import resource  # Windows has none

    def no_file_may_grow():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    call = [PROGRAM, "train", "textbook"]
    pipes = {"capture_output": True, "text": True, "timeout": 300}
    result = subprocess.run(call, cwd=tmp_path, preexec_fn=no_file_may_grow, **pipes)
    assert result.returncode == 1
    assert "environment.json: could not be written (File too large)" in result.stderr
    assert not [p for p in tmp_path.rglob("*") if not p.is_dir()]


@pytest.mark.parametrize("arguments", [["recipes"], ["train", "--help"]])
def test_a_closed_pipe_is_no_error(tmp_path, arguments):
    read_end, write_end = os.pipe()
    os.close(read_end)
    options = {"stdout": write_end, "stderr": subprocess.PIPE, "text": True}
    result = subprocess.run([PROGRAM, *arguments], cwd=tmp_path, timeout=60, check=False, **options)
    os.close(write_end)
    assert result.returncode == 1
    assert result.stderr == ""


@pytest.mark.slow
def test_data_command_works_without_a_home_folder(tmp_path):
    np.savez(tmp_path / "data.npz", **NPZ_ARRAYS)
    arguments = ("data", "--data", "data.npz")
    result = fashion_cnn_process(*arguments, cwd=tmp_path, HOME="/dev/null/home", XDG_CACHE_HOME="")
    assert result.stdout.startswith(f"Source      {tmp_path / 'data.npz'}\n")
    assert (tmp_path / "data-samples.png").stat().st_size > 1_000
    assert result.stderr == ""


@pytest.mark.slow
def test_a_loss_of_nan_ends_training(tmp_path, real_data):
    arguments = ("--batch-size", "1000", "--learning-rate", "1e30", "--run", "run")
    result = fashion_cnn("train", "textbook", *arguments, cwd=tmp_path, status=1)
    assert (
        "epoch 1: the loss is nan; the learning rate is probably too high: try --learning-rate"
        in result.stderr
    )
    assert not list((tmp_path / "run").glob("checkpoints/*"))


INVALID_VALUES = (
    None,
    True,
    -1,
    0,
    10**400,
    0.5,
    math.nan,
    math.inf,
    "",
    "x" * 10**5,
    [],
    [[1]],
    {},
    {"": 0},
)


def corruptions(value, document=None, path=None):
    """Copies of a JSON value, each with one value inside replaced by an invalid one."""
    document, path = (document, path) if path else ([value], (0,))
    for invalid in INVALID_VALUES:
        changed = copy.deepcopy(document)
        *outer, last = path
        inner = changed
        for key in outer:
            inner = inner[key]
        inner[last] = invalid
        yield changed[0]
    keys = value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    for key in keys:
        yield from corruptions(value[key], document, (*path, key))


def count_refusals(read, paths):
    """How many files raise ValueError; the others must be read without an error."""
    count = 0
    for path in paths:
        try:
            read(path)
        except ValueError:
            count += 1
    return count


@pytest.mark.durability
def test_corrupted_files_are_refused_by_every_reader(tmp_path, capsys):
    """Recipes and networks with one invalid value, IDX files with random bytes in the header."""

    def recipes():
        for values in corruptions(RECIPE | {"options": {"dropout": 0.1}}):
            (tmp_path / "recipe.json").write_text(json.dumps(values))
            yield str(tmp_path / "recipe.json")

    def networks():
        build_model("textbook", (28, 28, 1), 10).save(tmp_path / "good.keras")
        with zipfile.ZipFile(tmp_path / "good.keras") as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        for values in corruptions(json.loads(files["config.json"])):
            with zipfile.ZipFile(tmp_path / "bad.keras", "w") as archive:
                for name, content in (files | {"config.json": json.dumps(values)}).items():
                    archive.writestr(name, content)
            yield tmp_path / "bad.keras"

    def images():
        good, rng = header(9, 4, 4) + bytes(144), random.Random(0)  # noqa: S311 (no secret)
        for _ in range(5000):
            bad = bytearray(good)
            for _ in range(rng.randint(1, 4)):
                bad[rng.randrange(16)] = rng.randrange(256)
            (tmp_path / "bad-idx").write_bytes(bad)
            yield tmp_path / "bad-idx"

    readers = ((find_recipe, recipes), (load_keras_file, networks), (read_idx, images))
    counts = [count_refusals(read, make_paths()) for read, make_paths in readers]
    with capsys.disabled():
        print("\nrefused: {} recipes, {} networks, {} IDX files".format(*counts))
    assert counts[0] > 150 and counts[1] > 1000 and counts[2] > 4000
