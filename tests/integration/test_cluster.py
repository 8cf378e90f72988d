"""A Ray cluster of several machines, one of which dies; the machines are processes here."""

import http.client
import io
import json
import os
import re
import socket
import subprocess
import time
from contextlib import closing
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from command import PROGRAM, QUICK_XLA, fashion_cnn_process
from multi_process import (
    QUICK,
    SEARCH_SPACE,
    STABLE,
    AfterFirstEpoch,
    assert_each_predicted_once,
    assert_same_weights,
)

from fashion_cnn.experiments.tune import tune
from fashion_cnn.inference.batch import count_pictures, open_batch, predict_parts
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.parallel.local import free_port
from fashion_cnn.run import Run
from fashion_cnn.training.distributed import train_distributed

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-the-tests-and-of-nothing-else"  # noqa: S105
SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": TOKEN,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # or other tests take the cores from it
}


@pytest.fixture(scope="module")
def cluster_of_two():
    """Two nodes of one core: the address, `kill()` of one of them, and `fill()` to replace it."""
    settings = SETTINGS | QUICK_XLA
    before = {name: os.environ.get(name) for name in settings}
    os.environ |= settings
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
    """The address of a cluster of two machines, and a function that kills one of them."""
    address, kill, fill = cluster_of_two
    fill()
    return address, kill


def test_a_cluster_that_loses_a_machine_trains_to_the_end(
    data, one_process, machines, tmp_path, capfd
):
    address, kill = machines
    capfd.readouterr()
    run, callback = tmp_path / "run", AfterFirstEpoch(kill)
    train_distributed(STABLE, data, Run(run), 2, address, [callback])  # epoch 2 has one process
    assert callback.finished == [0, 1]
    assert Run(run).history()["epoch"] == [1, 2]
    assert_same_weights(run, one_process)
    with pytest.raises(ValueError, match="1 free; 2 processes need as many"):
        train_distributed(STABLE, data, Run(tmp_path / "late"), 2, address)
    assert capfd.readouterr().out == ""  # it is for results


def test_a_cluster_that_loses_a_machine_predicts_each_picture_once(
    picture_folder, machines, tmp_path
):
    address, kill = machines
    classifier, output = Classifier.load("textbook"), tmp_path / "out.parquet"
    finished = []
    with open_batch([str(picture_folder)], classifier, output) as (todo, parts):
        assert len(todo) == parts == 9
        for part in predict_parts(todo, classifier, output, address):
            finished.append(part)
            if len(finished) == 1:
                kill()
    assert sorted(finished) == todo
    assert count_pictures(output, parts)[:2] == (4200, 0)
    assert_each_predicted_once(output, picture_folder)


def test_a_cluster_that_loses_a_machine_runs_each_trial_once(few_images, machines, tmp_path):
    address, kill = machines
    labels = []

    def advance(label):
        labels.append(label)
        if len(labels) == 2:  # a trial has ended, others are running
            kill()

    rows = tune(
        QUICK,
        {"source": str(few_images)},
        SEARCH_SPACE,
        4,
        tmp_path / "search",
        address,
        advance=advance,
    )
    assert sorted(row["trial"] for row in rows) == [0, 1, 2, 3]
    assert len(labels) == 5
    assert {row["state"] for row in rows} <= {"COMPLETE", "PRUNED"}


def test_paths_are_absolute_on_a_cluster(picture_folder, few_images, machines, tmp_path):
    (tmp_path / "photos").symlink_to(picture_folder / "4")
    (tmp_path / "quick.json").write_text(replace(QUICK, epochs=1).to_json())
    (tmp_path / "few.npz").symlink_to(few_images)
    calls = (
        ("predict", "photos", "--model", "textbook", "--output", "predictions"),
        ("tune", "quick.json", "--data", "few.npz", "--set", "batch_size=32", "--trials", "1"),
    )
    for call in calls:
        words = (*call, "--cluster", machines[0])
        done = fashion_cnn_process(*words, cwd=tmp_path, KERAS_BACKEND="jax")
    errors = pq.read_table(tmp_path / "predictions")["error"].to_pylist()
    assert errors == 200 * [None]
    assert "Best: fashion-cnn train tune-quick/best.json --data few.npz" in done.stdout
    assert (tmp_path / "tune-quick" / "best.json").exists()
    environment = Run(tmp_path / "tune-quick" / "trial-0").environment()
    assert environment["backend"] == "jax"  # as here


def test_a_cluster_serves_the_same_predictions_and_errors(machines, picture_folder, tmp_path):
    (tmp_path / "token").write_text("of-the-service")
    port, log = free_port("127.0.0.1"), tmp_path / "log"
    call = ["serve", "textbook", "--cluster", machines[0], "--port", str(port), "--token-file"]
    photo = next(picture_folder.rglob("*.png")).read_bytes()

    def post(body, **headers):
        headers |= {"Authorization": "Bearer of-the-service"} if not headers else {}
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            connection.request("POST", "/predict", body, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = fashion_cnn_process(*call[:4], "--port", str(taken.getsockname()[1]), status=1)
    assert re.fullmatch(
        r"fashion-cnn: cluster .*: not served at 127.* \(Failed to bind .*\)\n", refused.stderr
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
            status, prediction = post(photo)
            expected = Classifier.load("textbook").predict(io.BytesIO(photo))
            assert (status, prediction["label"]) == (200, expected.label)
            assert abs(prediction["probability"] - expected.probability) < 1e-5
            assert post(photo, Authorization="Bearer no")[0] == 401
            assert post(b"no photo")[0] == 415
            assert post(bytes(17 << 20))[0] == 413
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
                connection.request(
                    "GET", "/metrics", headers={"Authorization": "Bearer of-the-service"}
                )
                metrics = connection.getresponse().read().decode()
            (verdicts,) = [
                x for x in metrics.splitlines() if x.startswith("fashion_cnn_verdicts_total")
            ]
            assert re.search(r'replica="\w+"', verdicts)  # one of many
            other = fashion_cnn_process(*call[:4], "--port", str(free_port("127.0.0.1")), status=1)
            assert "already serves fashion-cnn" in other.stderr
            assert post(photo)[0] == 200
        finally:
            process.terminate()
            process.wait(60)
    with pytest.raises(ConnectionRefusedError):
        post(photo)


def test_a_cluster_refuses_a_wrong_token(picture_folder, machines, tmp_path):
    call = ("predict", picture_folder, "--output", tmp_path / "no", "--cluster", machines[0])
    for token in ({"RAY_AUTH_TOKEN": "x" * 40}, {"RAY_AUTH_MODE": "disabled"}):
        refused = fashion_cnn_process(*call, status=1, **token)
        assert f"fashion-cnn: cluster {machines[0]}: " in refused.stderr
        assert "RAY_AUTH_TOKEN" in refused.stderr
        assert not list((tmp_path / "no").glob("part-*"))
