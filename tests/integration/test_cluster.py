"""Several machines, one of which dies; the machines are processes here."""

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
from scaling import QUICK, SPACE, STEADY, AfterAnEpoch, assert_each_once, assert_same

from fashion_cnn.experiments.tune import tune
from fashion_cnn.inference.batch import count_pictures, open_batch, predict_parts
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.parallel.cluster import free_port
from fashion_cnn.run import Run
from fashion_cnn.training.distributed import train_distributed

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-the-tests-and-of-nothing-else"  # noqa: S105
SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": TOKEN,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # or other tests take the processor from it
}


@pytest.fixture(scope="module")
def cluster_of_two():
    """One core each; their address, and how to end one of them and to bring it back."""
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
    """Where two machines are, and what ends one of them."""
    address, kill, fill = cluster_of_two
    fill()
    return address, kill


def test_a_cluster_that_loses_a_machine_trains_to_the_end(data, alone, machines, tmp_path, capfd):
    address, kill = machines
    capfd.readouterr()
    run, heard = tmp_path / "run", AfterAnEpoch(kill)
    train_distributed(STEADY, data, run, 2, address, [heard])  # one is left for the second epoch
    assert heard.ends == [0, 1]
    assert Run(run).history()["epoch"] == [1, 2]
    assert_same(run, alone)
    with pytest.raises(ValueError, match="1 free; 2 processes need as many"):
        train_distributed(STEADY, data, tmp_path / "late", 2, address)
    assert capfd.readouterr().out == ""  # that is for answers


def test_a_cluster_that_loses_a_machine_predicts_each_picture_once(drawn, machines, tmp_path):
    address, kill = machines
    classifier, output = Classifier.load("textbook"), tmp_path / "out.parquet"
    seen = []
    with open_batch([str(drawn)], classifier, output) as (todo, parts):
        assert len(todo) == parts == 9
        for part in predict_parts(todo, classifier, output, address):
            seen.append(part)
            if len(seen) == 1:
                kill()
    assert sorted(seen) == todo
    assert count_pictures(output, parts) == (4200, 0)
    assert_each_once(output, drawn)


def test_a_cluster_that_loses_a_machine_tries_every_trial_once(few, machines, tmp_path):
    address, kill = machines
    ticks = []

    def advance(what):
        ticks.append(what)
        if len(ticks) == 2:  # a trial has ended, others run
            kill()

    rows = tune(QUICK, str(few), SPACE, 4, tmp_path / "search", address, advance=advance)
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
    about = Run(tmp_path / "tune-quick" / "trial-0").environment()
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
