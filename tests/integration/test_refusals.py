"""Bad input, through the command line: the status, one line that helps, and nothing left behind."""

import copy
import gzip
import json
import math
import os
import random
import resource
import struct
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from command import PROGRAM, fashion_cnn, fashion_cnn_process

from fashion_cnn.data.fashion_mnist import FILES, _file
from fashion_cnn.data.idx import read_idx
from fashion_cnn.models import build_model
from fashion_cnn.models.loading import load_keras_file
from fashion_cnn.recipes import RECIPES, find_recipe

IMAGES, LABELS = list(FILES)[:2]
RECIPE = json.loads(RECIPES["textbook"].to_json())


def header(*shape, kind=8):
    return struct.pack(f">HBB{len(shape)}I", 0, kind, len(shape), *shape)


def idx_folder(folder, real, **changed):
    """Links to the real files, but for those that are given."""
    (folder / "data").mkdir()
    for name in FILES:
        path = _file(Path(real.location), name)
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


OF_NPZ = {
    "x_train": np.zeros((20, 8, 8), np.uint8),
    "y_train": np.arange(20) % 2,
    "x_test": np.zeros((3, 8, 8), np.uint8),
    "y_test": np.arange(3) % 2,
}


def one_class(folder, real):
    (folder / "photos" / "shirt").mkdir(parents=True)
    (folder / "photos" / "shirt" / "1.png").write_bytes(b"no picture")
    return ["train", "--data", "photos"]


def no_pictures(folder, real):
    one_class(folder, real)
    (folder / "photos" / "hat").mkdir()
    (folder / "photos" / "hat" / "1.png").write_bytes(b"no picture")
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
        about = {"data": {"source": "fashion-mnist", "sha256": {"x": "y"}, "class_names": ["a"]}}
        (folder / "run" / "environment.json").write_text(json.dumps(about))
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
        (["train", "--epochs", n], f"epochs: got {n}; expected 1..")
        for n in ("0", "-1", "1000000000")
    ),
    (["train", "--epochs", "ten"], "epochs: got 'ten'; expected a whole number"),
    *(
        (["train", "--learning-rate", x], f"learning_rate: got {x}; expected more than 0")
        for x in ("nan", "inf", "-0.1")
    ),
    (["train", "--learning-rate", "abc"], "learning_rate: got 'abc'; expected a number"),
    (["train", "--batch-size", "0"], "batch_size: got 0; expected at least 1"),
    (["train", "--validation", "both"], "--validation"),
    (["train", "--resume"], "--resume needs --run DIR"),
    (["train", "--resume", "--run", "nowhere"], "with a RECIPE it would be started"),
    (used_folder, "run: not empty; give --resume to go on with it, or another"),
    (with_recipe(""), "recipe.json: not a recipe"),
    (with_recipe("[" * 100_000), "recipe.json: not a recipe"),
    (with_recipe(json.dumps(RECIPE | {"depth": 3})), "unknown key 'depth'"),
    (with_recipe(json.dumps(RECIPE | {"epochs": "3"})), "epochs: got '3'; expected a whole number"),
    (with_recipe(json.dumps(RECIPE | {"options": {"depth": 1}})), "depth: not an option"),
]
FAILURES = [
    (["train", "--batch-size", "60000"], "batch_size: got 60000; there are 55000 training images"),
    (["train", "--data", "nowhere"], "--data: no folder 'nowhere'; expected fashion-mnist"),
    (beneath_a_file, "file/run: cannot be made (Not a directory); give --run a folder that"),
    (one_class, "photos: expected at least two folders with pictures in them, one a class"),
    (no_pictures, "2 cannot be read, the first: hat/1.png: not a picture"),
    (with_npz(x=np.array([1])), "data.npz: has no x_train, y_train, x_test, y_test but x;"),
    (
        with_npz(**OF_NPZ | {"x_train": np.array([None])}),
        "data.npz: Object arrays cannot be loaded",
    ),
    (with_npz(**OF_NPZ | {"y_test": np.zeros(3)}), "data.npz: labels are int64 and float64"),
    (with_npz(**OF_NPZ | {"x_test": np.zeros((3, 8, 8))}), "data.npz: test images: got float64"),
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
    (broken_run("thesis.txt", b""), "run: fashion-mnist has changed since it was trained"),
    (broken_run("SHA256SUMS", b"0  recipe.json\n"), "run/SHA256SUMS: damaged"),
]
CASES = [(2, *row) for row in USAGE] + [(1, *row) for row in FAILURES]


@pytest.mark.parametrize(("status", "case", "message"), CASES)
def test_bad_input_is_refused(tmp_path, real_data, status, case, message):
    words = case(tmp_path, real_data) if callable(case) else case
    before = sorted(p for p in tmp_path.rglob("*") if not p.is_dir())
    done = fashion_cnn(*words, cwd=tmp_path, status=status)
    *progress, said = done.stderr.splitlines()
    assert said.startswith("fashion-cnn: ") and message in said
    assert not any(line.startswith(("fashion-cnn", "Traceback", "Epoch")) for line in progress)
    assert done.stdout == ""
    assert sorted(p for p in tmp_path.rglob("*") if not p.is_dir()) == before


@pytest.mark.slow
def test_no_space_at_the_start_leaves_nothing(tmp_path, real_data):
    def no_file_may_grow():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    call = [PROGRAM, "train", "textbook"]
    pipes = {"capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run(call, cwd=tmp_path, preexec_fn=no_file_may_grow, **pipes)
    assert done.returncode == 1
    assert "environment.json: could not be written (File too large)" in done.stderr
    assert not [p for p in tmp_path.rglob("*") if not p.is_dir()]


@pytest.mark.parametrize("words", [["recipes"], ["train", "--help"]])
def test_a_reader_that_leaves_early_is_no_error(tmp_path, words):
    end, start = os.pipe()
    os.close(end)
    options = {"stdout": start, "stderr": subprocess.PIPE, "text": True}
    done = subprocess.run([PROGRAM, *words], cwd=tmp_path, timeout=60, check=False, **options)
    os.close(start)
    assert done.returncode == 1
    assert done.stderr == ""


@pytest.mark.slow
def test_data_is_shown_and_sampled_without_a_home(tmp_path):
    np.savez(tmp_path / "data.npz", **OF_NPZ)
    words = ("data", "--data", "data.npz")
    done = fashion_cnn_process(*words, cwd=tmp_path, HOME="/dev/null/home", XDG_CACHE_HOME="")
    assert done.stdout.startswith(f"Source      {tmp_path / 'data.npz'}\n")
    assert (tmp_path / "data-samples.png").stat().st_size > 1_000
    assert done.stderr == ""


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_training(tmp_path, real_data):
    words = ("--batch-size", "1000", "--learning-rate", "1e30", "--run", "run")
    done = fashion_cnn("train", "textbook", *words, cwd=tmp_path, status=1)
    assert "epoch 1: the loss is nan; the steps are too large: try --learning-rate" in done.stderr
    assert not list((tmp_path / "run").glob("checkpoints/*"))


NASTY = (
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


def spoilt(value, whole=None, place=None):
    """The JSON value again and again, each time with one thing in it replaced by a nasty one."""
    whole, place = (whole, place) if place else ([value], (0,))
    for nasty in NASTY:
        changed = copy.deepcopy(whole)
        *outer, last = place
        inner = changed
        for key in outer:
            inner = inner[key]
        inner[last] = nasty
        yield changed[0]
    keys = value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    for key in keys:
        yield from spoilt(value[key], whole, (*place, key))


def refusals(read, cases):
    """How many of the cases are refused; the others are read, and nothing else ever happens."""
    found = 0
    for path in cases:
        try:
            read(path)
        except ValueError:
            found += 1
    return found


@pytest.mark.durability
def test_nonsense_is_refused_by_every_reader(tmp_path, capsys):
    """Recipes and networks with one value spoilt, IDX files with some bytes of the header."""

    def recipes():
        for values in spoilt(RECIPE | {"options": {"dropout": 0.1}}):
            (tmp_path / "recipe.json").write_text(json.dumps(values))
            yield str(tmp_path / "recipe.json")

    def networks():
        build_model("textbook", (28, 28, 1), 10).save(tmp_path / "good.keras")
        with zipfile.ZipFile(tmp_path / "good.keras") as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        for values in spoilt(json.loads(files["config.json"])):
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
    found = [refusals(read, cases()) for read, cases in readers]
    with capsys.disabled():
        print("\nrefused: {} recipes, {} networks, {} IDX files".format(*found))
    assert found[0] > 150 and found[1] > 1000 and found[2] > 4000
