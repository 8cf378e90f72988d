"""Several processes and several machines, some of which die; the machines are processes here."""

import csv
import http.client
import io
import ipaddress
import json
import multiprocessing
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tarfile
import time
from concurrent.futures import BrokenExecutor
from contextlib import closing, suppress
from dataclasses import replace
from multiprocessing.connection import Client
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import PROGRAM, die, fashion_cnn, fashion_cnn_process, jax_environment
from PIL import Image
from rounding import SAME, apart

from fashion_cnn.data import as_data
from fashion_cnn.evaluation import load_model, measure_run
from fashion_cnn.export import export_here
from fashion_cnn.inference import Classifier
from fashion_cnn.recipes import Recipe, find_recipe
from fashion_cnn.run import read_arrays, read_history, read_json
from fashion_cnn.scaling.pictures import pictures_of
from fashion_cnn.scaling.places import free_port
from fashion_cnn.scaling.plan import read_plan, write_plan
from fashion_cnn.scaling.predict import answer_parts, begin, count
from fashion_cnn.scaling.tasks import tasks, work_off
from fashion_cnn.scaling.train import _Ear, train_together
from fashion_cnn.scaling.tune import _study, read_space, tune
from fashion_cnn.training import train

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-the-tests-and-of-nothing-else"  # noqa: S105
CLOSED = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0"}

# A small network, and steps that do not amplify rounding (docs/decisions/0009).
STEADY = Recipe(
    "steady",
    model="compact",
    options={"stem": 2, "width": 2, "blocks": 1, "hidden": 4, "dropout": 0.3},
    optimizer="sgd",
    learning_rate=0.0001,
    batch_size=36,
    epochs=2,
    augment=("flip", "shift"),
    validation="none",
)
IMAGES = 49 * 36 + 17  # 50 steps an epoch; the last batch cannot be shared


@pytest.fixture(scope="module", autouse=True)
def quickly_compiled():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", jax_environment()["XLA_FLAGS"])
        yield


@pytest.fixture(scope="module")
def data(real_data):
    x, y = real_data.train_images[:IMAGES], real_data.train_labels[:IMAGES]
    return as_data(((x, y), (real_data.test_images[:20], real_data.test_labels[:20])))


ALONE = """
import json, numpy as np
from fashion_cnn import build_model, train
from fashion_cnn.data import as_data
from fashion_cnn.framework import keras
from fashion_cnn.recipes import find_recipe
recipe = find_recipe("recipe.json")
with np.load("data.npz") as saved:
    data = as_data(((saved["x"], saved["y"]), (saved["x_test"], saved["y_test"])))
keras.utils.set_random_seed(recipe.seed)
start = build_model(recipe.model, (28, 28, 1), 10, recipe.options).get_weights()
end = train(recipe, data).model.get_weights()
np.savez("start.npz", *start)
np.savez("end.npz", *end)
"""


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    """The weights before and after a training that nobody shared, on the same backend."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "recipe.json").write_text(STEADY.to_json())
    arrays = {"x": data.train_images, "y": data.train_labels}
    arrays |= {"x_test": data.test_images, "y_test": data.test_labels}
    np.savez(folder / "data.npz", **arrays)
    call = [sys.executable, "-c", ALONE]
    done = subprocess.run(call, cwd=folder, env=jax_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    start, end = (list(np.load(folder / f"{name}.npz").values()) for name in ("start", "end"))
    assert min(np.abs(a - b).max() for a, b in zip(start, end, strict=True)) > 5e-4
    return start, end


def weights(run):
    return load_model(run).get_weights()


def assert_same(run, alone):
    """A run's weights are those of the training that nobody shared, but for rounding."""
    start, end = alone
    assert apart(weights(run), end, start) < SAME


class AfterAnEpoch:
    """A callback that does something once, after the first epoch, and counts epochs."""

    def __init__(self, do):
        self.do, self.ends = do, []

    def set_params(self, params):
        pass

    def on_epoch_begin(self, epoch):
        pass

    def on_train_batch_end(self, batch, logs):
        pass

    def on_epoch_end(self, epoch, logs):
        self.ends.append(epoch)
        if self.do:
            self.do, do = None, self.do
            do()


def test_two_processes_train_like_one(data, alone, tmp_path):
    run, addresses = tmp_path / "run", []
    callback = AfterAnEpoch(lambda: addresses.extend(listening()))
    train_together(STEADY, data, run, 2, callbacks=[callback])
    assert len(addresses) >= 3  # each process, and where they meet
    assert all(address.is_loopback for address in addresses), addresses
    assert_same(run, alone)
    about = read_json(run, "environment.json")
    assert (about["processes"], about["backend"]) == (2, "jax")


def listening():
    """The addresses at which children of this process listen."""
    found = []
    for process in multiprocessing.active_children():
        files = [os.readlink(x) for x in Path(f"/proc/{process.pid}/fd").iterdir()]
        sockets = {x.removeprefix("socket:[").rstrip("]") for x in files if x.startswith("socket:")}
        for kind in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == "0A" and columns[9] in sockets:  # listens
                    words = np.frombuffer(bytes.fromhex(columns[1].split(":")[0]), ">u4")
                    address = ipaddress.ip_address(words.astype("<u4").tobytes())
                    found.append(getattr(address, "ipv4_mapped", None) or address)
    return found


def test_a_teacher_teaches_several_processes_alike(data, alone, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    some = as_data(
        ((data.train_images[:125], data.train_labels[:125]), (data.test_images, data.test_labels))
    )
    recipe = replace(STEADY, epochs=1, learning_rate=0.03)  # 3 batches and 17 images
    train(recipe, some, tmp_path / "teacher")
    measure_run(tmp_path / "teacher", some)
    export_here(tmp_path / "teacher", some, "onnx", tmp_path / "teacher" / "model.onnx")
    taught = replace(recipe, teacher=str(tmp_path / "teacher"))
    ends = []
    for name, processes, chosen in (("1", 1, taught), ("2", 2, taught), ("labels", 2, recipe)):
        train_together(chosen, some, tmp_path / name, processes)
        ends.append(weights(tmp_path / name))
    start = alone[0]
    assert apart(ends[1], ends[0], start) < SAME
    assert apart(ends[2], ends[0], start) > 10 * SAME  # what is learnt does make a difference


def test_a_process_that_is_killed_is_replaced(data, alone, tmp_path):
    run, died = tmp_path / "run", []

    def kill():
        victim = multiprocessing.active_children()[-1]
        died.append(victim.pid)
        victim.kill()

    callback = AfterAnEpoch(kill)
    train_together(STEADY, data, run, 2, callbacks=[callback])
    assert len(died) == 1
    assert callback.ends == [0, 1]  # none twice
    assert read_history(run)["epoch"] == [1, 2]
    assert_same(run, alone)


def test_no_more_processes_go_on_than_were_asked_for(data, tmp_path, monkeypatch):
    seen = []

    def attempt(place, processes, *_):
        seen.append(processes)
        if len(seen) == 1:
            raise BrokenExecutor("killed")

    monkeypatch.setattr("fashion_cnn.scaling.train._attempt", attempt)
    monkeypatch.setattr("fashion_cnn.scaling.places.Here.room", lambda *_: 64)
    train_together(STEADY, data, tmp_path / "run", 2)
    assert seen == [2, 2]


def test_what_goes_wrong_in_a_process_is_said_here(data, tmp_path):
    steep = replace(STEADY, learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="--learning-rate"):
        train_together(steep, data, tmp_path / "run", 2)
    with pytest.raises(ValueError, match=r"batch_size: got 36; 5 processes .* --processes 4"):
        train_together(STEADY, data, tmp_path / "other", 5)


def test_whoever_hangs_up_does_not_stop_the_ear(tmp_path, monkeypatch):
    heard = AfterAnEpoch(None)
    with _Ear([heard]) as ear:
        assert not Path(ear.address).parent.stat().st_mode & 0o077  # for this user alone
        for _ in range(3):
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(ear.address)
        with Client(ear.address, authkey=ear.key) as line:
            line.send_bytes(json.dumps(["on_epoch_end", 7, {}]).encode())
        for _ in range(200):
            if heard.ends:
                break
            time.sleep(0.05)
    assert heard.ends == [7]
    monkeypatch.setattr("multiprocessing.util.get_temp_dir", lambda: str(tmp_path / ("x" * 100)))
    with pytest.raises(OSError, match=r"TMPDIR: .* give a shorter one"):
        _Ear([])


def test_tensorflow_is_refused(tmp_path):
    words = ("train", "sprint", "--processes", "2")
    done = fashion_cnn(*words, cwd=tmp_path, status=1, KERAS_BACKEND="tensorflow")
    assert done.stdout == ""
    assert "KERAS_BACKEND: got tensorflow; several processes train on jax" in done.stderr


# ----------------------------------------------------------------------------------------------
# A cluster


@pytest.fixture(scope="module")
def cluster_of_two():
    """One core each; their address, and how to end one of them and to bring it back."""
    before = {name: os.environ.get(name) for name in CLOSED}
    os.environ |= CLOSED
    from ray.cluster_utils import Cluster

    size = {"num_cpus": 1, "object_store_memory": 200_000_000}
    # a dead machine is noticed within 3 s, not 18
    config = {"health_check_period_ms": 500, "health_check_initial_delay_ms": 0}
    head = {**size, "include_dashboard": False, "_system_config": config}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    others = []

    def fill():
        while len(others) < 1:
            others.append(cluster.add_node(**size))

    fill()
    try:
        yield cluster.address, lambda: cluster.remove_node(others.pop(), allow_graceful=False), fill
    finally:
        cluster.shutdown()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture
def machines(cluster_of_two):
    """Where two machines are, and what ends one of them."""
    address, kill, fill = cluster_of_two
    fill()
    return address, kill


def test_a_cluster_that_loses_a_machine_trains_to_the_end(data, alone, machines, tmp_path, capfd):
    address, kill = machines
    capfd.readouterr()
    run, heard = tmp_path / "run", AfterAnEpoch(kill)
    train_together(STEADY, data, run, 2, address, [heard])  # one is left for the second epoch
    assert heard.ends == [0, 1]
    assert read_history(run)["epoch"] == [1, 2]
    assert_same(run, alone)
    with pytest.raises(ValueError, match="1 free; 2 processes need as many"):
        train_together(STEADY, data, tmp_path / "late", 2, address)
    assert capfd.readouterr().out == ""  # that is for answers


def test_a_cluster_that_loses_a_machine_predicts_each_picture_once(drawn, machines, tmp_path):
    address, kill = machines
    classifier, output = Classifier.load("textbook"), tmp_path / "out.parquet"
    seen = []
    with begin([str(drawn)], classifier, output) as (todo, parts):
        assert len(todo) == parts == 9
        for part in answer_parts(todo, classifier, output, address):
            seen.append(part)
            if len(seen) == 1:
                kill()
    assert sorted(seen) == todo
    assert count(output, parts) == (4200, 0)
    assert_each_once(output, drawn)


def test_a_cluster_that_loses_a_machine_tries_every_trial_once(few, machines, tmp_path):
    address, kill = machines
    ticks = []

    def tick(what):
        ticks.append(what)
        if len(ticks) == 2:  # a trial has ended, others run
            kill()

    rows = tune(QUICK, str(few), SPACE, 4, tmp_path / "search", address, tick=tick)
    assert sorted(row["trial"] for row in rows) == [0, 1, 2, 3]
    assert len(ticks) == 5
    assert {row["state"] for row in rows} <= {"COMPLETE", "PRUNED"}


def test_a_cluster_is_given_names_that_hold_anywhere(drawn, few, machines, tmp_path):
    (tmp_path / "photos").symlink_to(drawn / "4")
    (tmp_path / "quick.json").write_text(replace(QUICK, epochs=1).to_json())
    (tmp_path / "few.npz").symlink_to(few)
    calls = (
        ("predict", "photos", "--model", "textbook", "--output", "answers"),
        ("tune", "quick.json", "--data", "few.npz", "--set", "batch_size=32", "--trials", "1"),
    )
    for call in calls:
        words = (*call, "--cluster", machines[0])
        said = fashion_cnn_process(*words, cwd=tmp_path, KERAS_BACKEND="jax")
    errors = pq.read_table(tmp_path / "answers")["error"].to_pylist()
    assert errors == 200 * [None]
    assert "Best: fashion-cnn train tune-quick/best.json --data few.npz" in said.stdout
    assert (tmp_path / "tune-quick" / "best.json").exists()
    about = read_json(tmp_path / "tune-quick" / "trial-0", "environment.json")
    assert about["backend"] == "jax"  # as here


def test_a_cluster_serves_with_the_same_answers_and_refusals(machines, drawn, tmp_path):
    (tmp_path / "token").write_text("of-the-service")
    port, log = free_port("127.0.0.1"), tmp_path / "log"
    call = ["serve", "textbook", "--cluster", machines[0], "--port", str(port), "--token-file"]
    photo = next(drawn.rglob("*.png")).read_bytes()

    def ask(body, **headers):
        headers |= {"Authorization": "Bearer of-the-service"} if not headers else {}
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as line:
            line.request("POST", "/predict", body, headers)
            answer = line.getresponse()
            return answer.status, json.loads(answer.read())

    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = fashion_cnn_process(*call[:4], "--port", str(taken.getsockname()[1]), status=1)
    assert re.fullmatch(
        r"fashion-cnn: cluster .*: not served at 127.* \(Failed to bind .*\)\n", said.stderr
    )
    with (
        log.open("w") as output,
        subprocess.Popen([PROGRAM, *call, str(tmp_path / "token")], stderr=output) as process,
    ):
        try:
            for _ in range(1200):
                if "Serving textbook" in log.read_text():
                    break
                assert process.poll() is None, log.read_text()
                time.sleep(0.05)
            status, answer = ask(photo)
            expected = Classifier.load("textbook").predict(io.BytesIO(photo))
            assert (status, answer["label"]) == (200, expected.label)
            assert abs(answer["probability"] - expected.probability) < 1e-5
            assert ask(photo, Authorization="Bearer no")[0] == 401
            assert ask(b"no photo")[0] == 415
            assert ask(bytes(17 << 20))[0] == 413
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as line:
                line.request("GET", "/metrics", headers={"Authorization": "Bearer of-the-service"})
                counted = line.getresponse().read().decode()
            (said,) = [
                x for x in counted.splitlines() if x.startswith("fashion_cnn_verdicts_total")
            ]
            assert re.search(r'replica="\w+"', said)  # one of many
            other = fashion_cnn_process(*call[:4], "--port", str(free_port("127.0.0.1")), status=1)
            assert "already serves fashion-cnn" in other.stderr
            assert ask(photo)[0] == 200
        finally:
            process.terminate()
            process.wait(60)
    with pytest.raises(ConnectionRefusedError):
        ask(photo)


def test_a_cluster_lets_nobody_in_without_its_token(drawn, machines, tmp_path):
    call = ("predict", drawn, "--output", tmp_path / "no", "--cluster", machines[0])
    for token in ({"RAY_AUTH_TOKEN": "x" * 40}, {"RAY_AUTH_MODE": "disabled"}):
        said = fashion_cnn_process(*call, status=1, **token)
        assert f"fashion-cnn: cluster {machines[0]}: " in said.stderr
        assert "RAY_AUTH_TOKEN" in said.stderr
        assert not list((tmp_path / "no").glob("part-*"))


# ----------------------------------------------------------------------------------------------
# Searches and seeds

QUICK = Recipe("quick", model="compact", options={"hidden": 8}, epochs=3, batch_size=32)
SPACE = {"learning_rate": {"low": 0.001, "high": 0.01, "log": True}, "dropout": [0.0, 0.2]}


@pytest.fixture(scope="module")
def few(real_data, tmp_path_factory):
    """A source of 600 images."""
    path = tmp_path_factory.mktemp("few") / "few.npz"
    np.savez(
        path,
        x_train=real_data.train_images[:500],
        y_train=real_data.train_labels[:500],
        x_test=real_data.test_images[:100],
        y_test=real_data.test_labels[:100],
    )
    return path


def test_a_search_that_was_killed_goes_on_and_tries_each_trial_once(few, tmp_path):
    folder, space = tmp_path / "search", tmp_path / "space.json"
    space.write_text(json.dumps(SPACE))
    (tmp_path / "quick.json").write_text(QUICK.to_json())
    call = ("tune", tmp_path / "quick.json", "--data", few, "--space", space, "--output", folder)
    call = [PROGRAM, *map(str, call), "--set", "batch_size=32", "--trials", "5"]
    with subprocess.Popen(call, stderr=subprocess.DEVNULL) as process:
        for _ in range(1200):
            if len(read_csv(folder / "trials.csv")) >= 2:
                break
            time.sleep(0.05)
        process.kill()
    before = read_csv(folder / "trials.csv")
    assert 2 <= len(before) < 5
    fashion_cnn(*call[1:])
    after = read_csv(folder / "trials.csv")
    assert after[: len(before)] == before
    assert sorted(int(row["trial"]) for row in after) == [0, 1, 2, 3, 4]
    assert (folder / "trials.png").stat().st_size > 10_000
    whole = {row["trial"]: row for row in after if row["state"] == "COMPLETE"}
    best = max(whole.values(), key=lambda row: float(row["val_accuracy"]))
    recipe = find_recipe(str(folder / "best.json"))
    assert recipe.learning_rate == float(best["learning_rate"])
    assert recipe == find_recipe(str(folder / f"trial-{best['trial']}" / "recipe.json"))
    history = read_history(folder / f"trial-{best['trial']}")
    assert history["val_accuracy"][-1] == float(best["val_accuracy"])  # its end, not its best
    first = find_recipe(str(folder / "trial-0" / "recipe.json"))
    assert (first.learning_rate, first.options["dropout"]) == (0.001, 0.0)  # the recipe itself
    assert not list(folder.rglob("predictions.npz"))  # the test images were not looked at
    other = fashion_cnn(*call[1:], "--set", "epochs=2", status=1)
    assert f"{folder}: begun with another recipe" in other.stderr


def read_csv(path):
    with suppress(FileNotFoundError), open(path, newline="") as file:
        return list(csv.DictReader(file))
    return []


def test_a_trial_that_cannot_be_is_a_row(few, tmp_path, tasks_here):
    steep = {"learning_rate": [1e30, 0.001]}
    rows = tune(replace(QUICK, optimizer="sgd"), str(few), steep, 3, tmp_path / "steep")
    failed = [row for row in rows if row["learning_rate"] == 1e30]
    assert failed
    for row in failed:
        assert (row["state"], row["val_accuracy"]) == ("FAIL", None)
        assert "--learning-rate" in row["error"]
    with pytest.raises(ValueError, match="no trial came to its end"):
        tune(QUICK, str(few), {"batch_size": [400_000]}, 1, tmp_path / "none")
    models = {"model": ["compact", "textbook"], "hidden": [8], "dropout": {"low": 0, "high": 0.5}}
    rows = tune(replace(QUICK, epochs=1), str(few), models, 5, tmp_path / "models")
    failed = [row for row in rows if row["model"] == "textbook"]
    assert 0 < len(failed) < 5
    assert all("hidden: unknown" in row["error"] for row in failed)
    assert any(0 < row["dropout"] < 1 for row in rows)


def test_a_trial_whose_process_dies_is_a_row(few, tmp_path, monkeypatch, tasks_here):
    with monkeypatch.context() as patch:
        patch.setattr("fashion_cnn.scaling.tune.tasks", tasks)
        patch.setattr("fashion_cnn.scaling.tune._try", die)
        with pytest.raises(ValueError, match=r"no trial came to its end .its process died 3 ti"):
            tune(QUICK, str(few), SPACE, 1, tmp_path / "dead")
    rows = tune(QUICK, str(few), SPACE, 2, tmp_path / "dead")  # goes on all the same
    assert [(row["state"], row["seconds"] > 0) for row in rows] == [
        ("COMPLETE", True),
        ("FAIL", False),
    ]
    _study(tmp_path / "dead", QUICK).ask()  # killed before it knew any value
    rows = tune(QUICK, str(few), SPACE, 3, tmp_path / "dead")
    assert [row["state"] for row in rows] == ["COMPLETE", "FAIL", "FAIL"]
    _study(tmp_path / "dead", QUICK).enqueue_trial({"dropout": 0.2})  # killed before it was begun
    assert len(tune(QUICK, str(few), SPACE, 4, tmp_path / "dead")) == 4


def test_a_wrong_space_is_refused(few, tmp_path):
    with pytest.raises(ValueError, match="validation: got test"):
        tune(replace(QUICK, validation="test"), str(few), SPACE, 1, tmp_path / "test")
    for text in (
        "{",
        "[]",
        '{"epochs": {"low": 1, "high": 3, "step": 0}}',
        '{"dropout": {"low": "0.1", "high": "0.5"}}',
        '{"mirror": {"low": false, "high": true}}',
        '{"validation": ["test"]}',
        '{"colour": [1]}',
        '{"dropout": {"low": 0.1}}',
        '{"momentum": [2.0]}',
    ):
        (tmp_path / "space.json").write_text(text)
        with pytest.raises(ValueError, match=r"space\.json: "):
            read_space(tmp_path / "space.json", QUICK)


def test_seeds_are_runs_whose_mean_is_one_model(few, tmp_path):
    folder = tmp_path / "seeds"
    (tmp_path / "quick.json").write_text(replace(QUICK, mirror=True).to_json())
    call = ("train", tmp_path / "quick.json", "--data", few, "--seeds", "2", "--run", folder)
    said = fashion_cnn(*call, "--ensemble")
    assert read_json(folder / "seed-0", "recipe.json")["batch_size"] == 32  # as the file says
    rows = read_csv(folder / "seeds.csv")
    assert [row["seed"] for row in rows] == ["0", "1"]
    found = [read_json(folder / f"seed-{i}", "metrics.json")["test_accuracy"] for i in (0, 1)]
    assert [float(row["test_accuracy"]) for row in rows] == found
    mean, sd = 100 * statistics.mean(found), 100 * statistics.stdev(found)
    assert f"Test accuracy: {mean:.2f} ± {sd:.2f} % (mean and sd of 2 seeds)" in said.stdout
    each = [read_arrays(folder / f"seed-{i}", "predictions.npz") for i in (0, 1)]
    together = read_arrays(folder / "ensemble", "predictions.npz")["test_probabilities"]
    expected = sum(one["test_probabilities"] for one in each) / 2
    np.testing.assert_allclose(together, expected, atol=1e-6)
    assert np.abs(each[0]["test_probabilities"] - expected).max() > 0.001
    card = Classifier.load(folder / "ensemble").card
    assert "--seeds 2 --ensemble" in card["command"]
    again = fashion_cnn(*call)
    assert again.stdout.splitlines()[:4] == said.stdout.splitlines()[:4]
    for wrong in (("--processes", "2"), ("--resume",)):
        fashion_cnn(*call, *wrong, status=2)


# ----------------------------------------------------------------------------------------------
# Very many pictures


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, real_data):
    """4,200 pictures in folders, named in their order."""
    root = tmp_path_factory.mktemp("pictures") / "drawn"
    for i in range(4200):
        folder = root / f"{i // 1000}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(real_data.test_images[i]).save(folder / f"{i:05d}.png")
    return root


def assert_each_once(output, drawn):
    rows = pq.read_table(output).to_pylist()
    paths = [row["path"] for row in rows]
    assert paths == sorted(map(str, drawn.rglob("*.png")))
    assert all(row["label"] and row["error"] is None for row in rows)


def test_a_folder_is_answered_on_all_cores_and_goes_on_where_it_was(drawn, tmp_path, real_data):
    output = tmp_path / "out.parquet"
    call = [PROGRAM, "predict", str(drawn), "--model", "textbook", "--output", str(output)]
    with subprocess.Popen(call, stderr=subprocess.DEVNULL) as process:
        for _ in range(600):
            if list(output.glob("part-*")):
                break
            time.sleep(0.05)
        process.kill()
    finished = {path: path.stat().st_mtime_ns for path in output.glob("part-*")}
    assert 1 <= len(finished) < 9
    again = fashion_cnn(*call[1:])
    assert f"{len(finished)} of 9 parts are there already" in again.stderr
    assert again.stdout == f"4,200 pictures, 0 of which could not be read: {output}\n"
    assert finished.items() <= {x: x.stat().st_mtime_ns for x in output.glob("part-*")}.items()
    assert_each_once(output, drawn)
    table = pq.read_table(output)
    names = json.loads(table.schema.metadata[b"class_names"])
    classifier = Classifier.load("textbook")
    expected = classifier.probabilities(real_data.test_images[:4200, ..., np.newaxis])
    np.testing.assert_allclose(table["probabilities"].to_pylist(), expected, atol=1e-5)
    assert table["label"].to_pylist() == [names[k] for k in expected.argmax(1)]
    words = ("predict", drawn, "--model", "standard", "--output", output)
    other = fashion_cnn(*words, status=1)
    assert f"{output}: begun with another model" in other.stderr


def test_parquet_tar_and_addresses_are_read_and_what_is_spoilt_is_a_row(drawn, tmp_path):
    paths = sorted(drawn.rglob("*.png"))[:6]
    good, names = [path.read_bytes() for path in paths], [path.name for path in paths]
    folder = tmp_path / "in"
    folder.mkdir()
    pq.write_table(
        pa.table({"image": [*good[:2], b"spoilt", None], "id": ["a", "b", "c", "d"]}),
        folder / "1.parquet",
        row_group_size=3,
    )
    held = [{"bytes": good[2], "path": "held.png"}]
    pq.write_table(pa.table({"image": held, "label": [1]}), folder / "2.parquet")
    lost = str(tmp_path / "no" / "such.png")
    pq.write_table(pa.table({"path": [str(paths[3]), lost]}), folder / "3.parquet")
    pq.write_table(pa.table({"label": [1]}), folder / "4.parquet")
    with tarfile.open(folder / "5.tar", "w") as archive:
        for path in paths[4:]:
            archive.add(path, path.name)
            archive.add(__file__, f"{path.stem}.cls")
    (folder / "6.tar").write_bytes((folder / "5.tar").read_bytes()[:700])
    (folder / "7.png").write_bytes(b"spoilt")
    (folder / "8.parquet").write_bytes(b"PAR1 spoilt \x08\x00\x00\x00PAR1")
    (folder / "8.TAR").write_bytes((folder / "5.tar").read_bytes())
    addresses = ["https://nowhere.invalid/a.png", paths[0].as_uri(), "../9 ü/1.png"]
    pq.write_table(pa.table({"url": addresses}), folder / "9.parquet")
    (folder / "._7.png").write_bytes(b"of another system")
    spaced = tmp_path / "9 ü"
    (spaced / "below").mkdir(parents=True)
    for path in (spaced / "1.png", spaced / "below" / "2.png"):
        path.write_bytes(good[1])
    odd = os.fsdecode(os.fsencode(folder) + b"/\xff.png")
    Path(odd).write_bytes(good[0])
    output = folder / "answers"  # which is not read
    words = [folder, f"{spaced.as_uri()}/", drawn / "0" / "0000[12].png", tmp_path / "gone.png"]
    call = [PROGRAM, "predict", "-", "--model", "textbook", "--output", output]
    listed = "\n".join(map(str, words))
    said = subprocess.run(call, input=listed, capture_output=True, text=True, timeout=300)
    assert said.returncode == 0, said.stderr
    rows = {row["path"]: row for row in pq.read_table(output).to_pylist()}
    read = {name for name, row in rows.items() if row["error"] is None}
    tar = folder / "5.tar"
    assert read == {
        "a", "b", "held.png", str(paths[3]), f"{tar}#{names[4]}", f"{tar}#{names[5]}",
        f"{folder / '8.TAR'}#{names[4]}", f"{folder / '8.TAR'}#{names[5]}",
        str(paths[1]), str(paths[2]), *addresses[1:], f"{spaced.as_uri()}/1.png",
        f"{spaced.as_uri()}/below/2.png", f"{folder}/\\udcff.png",
    }  # fmt: skip
    errors = {name: rows[name]["error"] for name in rows.keys() - read}
    assert errors.keys() == {
        "c", "d", *(str(folder / x) for x in ("4.parquet", "6.tar", "7.png", "8.parquet")),
        str(tmp_path / "gone.png"), addresses[0], lost,
    }  # fmt: skip
    assert "expected pictures in one of image" in errors[str(folder / "4.parquet")]
    assert errors["d"] == "empty"
    assert errors[str(tmp_path / "gone.png")] == "no such file"
    assert f"{len(rows)} pictures, {len(errors)} of which could not be read" in said.stdout
    for row in rows.values():
        assert (row["label"] is None) == (row["error"] is not None)


def test_a_part_whose_process_dies_is_tried_again_and_then_named(drawn, tmp_path, monkeypatch):
    classifier, output = Classifier.load("textbook"), tmp_path / "out.parquet"
    seen = []
    with begin([str(drawn / "0")], classifier, output) as (todo, parts):
        for part in answer_parts(todo, classifier, output):
            seen.append(part)
            if len(seen) == 1:
                for process in multiprocessing.active_children():
                    process.kill()
                with (
                    pytest.raises(ValueError, match="is at work there"),
                    begin([], classifier, output),
                ):
                    pass
    assert sorted(seen) == todo
    assert count(output, parts) == (1000, 0)
    monkeypatch.setattr("fashion_cnn.scaling.predict.answers_of", die)
    with pytest.raises(RuntimeError, match=r"part 0, from .*00000\.png on: its process died 3 ti"):
        list(answer_parts([0], classifier, output))


def test_a_file_out_of_reach_is_tried_again_by_the_same_command(drawn, tmp_path):
    folder, output, away = tmp_path / "in", tmp_path / "out", tmp_path / "away"
    folder.mkdir()
    (folder / "1.png").write_bytes((drawn / "0" / "00001.png").read_bytes())
    pq.write_table(pa.table({"path": [str(drawn / "0" / "00002.png")]}), folder / "2.parquet")
    classifier = Classifier.load("textbook")
    with begin([str(folder)], classifier, output) as (todo, _):
        assert todo == [0, 1]
        (folder / "2.parquet").rename(away)
        with pytest.raises(
            RuntimeError, match=r"1 parts are missing .part 0, from .*2\.parquet on"
        ):
            list(answer_parts(todo, classifier, output))
    away.rename(folder / "2.parquet")
    folder.rename(away)
    with pytest.raises(RuntimeError, match="no such folder on this machine"):
        list(answer_parts([1], classifier, output))
    away.rename(folder)
    with begin([str(folder)], classifier, output) as (todo, parts):
        assert list(answer_parts(todo, classifier, output)) == [0]
        assert count(output, parts) == (2, 0)


def test_an_address_that_does_not_answer_is_out_of_reach_and_not_spoilt():
    shut = f"?endpoint_override=127.0.0.1:{free_port('127.0.0.1')}&scheme=http&region=none"
    item = {"name": b"s3://key:secret@bucket/1.png" + shut.encode(), "kind": "file", "row_group": 0}
    with pytest.raises(OSError, match="NETWORK_CONNECTION"):
        list(pictures_of([item]))


def test_a_plan_of_very_many_parts_is_read_by_their_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr("fashion_cnn.scaling.plan.PART", 2)
    monkeypatch.setattr("fashion_cnn.scaling.plan.TOGETHER", 3)
    names = [str(tmp_path / f"{i}.png") for i in range(15)]
    assert write_plan(names, tmp_path / "plan.parquet", {"model": "m"}) == 8
    assert pq.read_metadata(tmp_path / "plan.parquet").num_row_groups == 3
    found = {
        n: [x["name"].decode() for x in part]
        for n, part in read_plan(tmp_path / "plan.parquet", [0, 2, 7])
    }
    assert found == {0: names[:2], 2: names[4:6], 7: names[14:]}


def test_a_process_that_dies_with_nothing_to_do_is_replaced():
    seen = []
    with tasks(None, 1) as (submit, room):
        for _, future in work_off([(0, ()), (1, ())], os.getpid, submit, room):
            seen.append(future.result())
            os.kill(seen[-1], signal.SIGKILL)
            time.sleep(0.5)  # until its pool knows
    assert len(set(seen)) == 2


def test_the_output_is_not_mixed_with_other_things(drawn, tmp_path):
    (tmp_path / "mine").write_text("x")
    said = fashion_cnn("predict", drawn, "--output", tmp_path, status=1)
    assert f"{tmp_path}: something else is there" in said.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    said = fashion_cnn("predict", empty, "--output", tmp_path / "out.parquet", status=1)
    assert "no pictures there" in said.stderr
    for words, why in (
        (("--cluster", "auto"), "--cluster needs --output"),
        (("--output", empty, "--format", "csv"), "--output: goes without"),
    ):
        said = fashion_cnn("predict", drawn, *words, status=2)
        assert why in said.stderr


def test_without_ray_this_machine_is_enough(drawn, tmp_path):
    (tmp_path / "ray.py").write_text("raise ModuleNotFoundError('No ray', name='ray')")
    without = {"PYTHONPATH": str(tmp_path)}
    output = tmp_path / "out.parquet"
    call = ("predict", drawn / "4", "--model", "textbook", "--output", output)
    said = fashion_cnn_process(*call, **without)
    assert said.stdout.startswith("200 pictures, 0 of which")
    call = (*call[:-1], tmp_path / "other", "--cluster", "auto")
    said = fashion_cnn_process(*call, status=1, **without)
    assert "ray is not installed: pip install 'fashion-cnn[scale]'" in said.stderr
