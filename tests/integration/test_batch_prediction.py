"""Batch prediction: folders, archives and tables of pictures, predicted in parts."""

import json
import multiprocessing
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import PROGRAM, die, fashion_cnn, fashion_cnn_process
from multi_process import assert_each_predicted_once

from fashion_cnn.inference.batch import count_pictures, open_batch, predict_parts
from fashion_cnn.inference.batch_plan import read_plan, write_plan
from fashion_cnn.inference.batch_sources import read_pictures
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.parallel.local import free_port

pytestmark = pytest.mark.slow


def test_a_folder_is_predicted_on_all_cores_and_continued_after_a_kill(
    picture_folder, tmp_path, real_data
):
    output = tmp_path / "out.parquet"
    call = [PROGRAM, "predict", str(picture_folder), "--model", "textbook", "--output", str(output)]
    call += ["--precision", "float32"]
    with subprocess.Popen(call, stderr=subprocess.DEVNULL) as process:
        for _ in range(600):
            if list(output.glob("part-*")):
                break
            time.sleep(0.05)
        process.kill()
    finished = {path: path.stat().st_mtime_ns for path in output.glob("part-*")}
    assert 1 <= len(finished) < 9
    again = fashion_cnn(*call[1:])
    assert f"{len(finished)} of 9 parts exist already" in again.stderr
    assert again.stdout == f"4,200 pictures, 0 of which could not be read: {output}\n"
    assert finished.items() <= {x: x.stat().st_mtime_ns for x in output.glob("part-*")}.items()
    assert_each_predicted_once(output, picture_folder)
    table = pq.read_table(output)
    names = json.loads(table.schema.metadata[b"class_names"])
    classifier = Classifier.load("textbook")
    expected = classifier.probabilities(real_data.test_images[:4200, ..., np.newaxis])
    np.testing.assert_allclose(table["probabilities"].to_pylist(), expected, atol=1e-5)
    assert table["label"].to_pylist() == [names[k] for k in expected.argmax(1)]
    words = ("predict", picture_folder, "--model", "standard", "--output", output)
    refused = fashion_cnn(*words, status=1)
    assert f"{output}: started with another model" in refused.stderr
    assert table.schema.metadata[b"runtime"].decode() == classifier.runtime
    assert f"Computed by {classifier.runtime}\n" in again.stderr
    refused = fashion_cnn(*call[1:-2], status=1)
    assert f"{output}: started with another runtime and precision" in refused.stderr


def test_a_folder_is_predicted_by_openvino(picture_folder, tmp_path):
    pytest.importorskip("openvino")
    words = ("predict", picture_folder / "0", "--model", "textbook")
    fashion_cnn(*words, "--output", tmp_path / "a", "--precision", "float32")
    fashion_cnn(*words, "--output", tmp_path / "b", "--runtime", "openvino")
    one, two = (pq.read_table(tmp_path / name) for name in "ab")
    assert one.schema.metadata[b"runtime"].startswith(b"ONNX Runtime ")
    assert two.schema.metadata[b"runtime"].startswith(b"OpenVINO ")
    one, two = (np.array(x["probabilities"].to_pylist()) for x in (one, two))
    assert len(one) > 100
    np.testing.assert_allclose(one, two, atol=0.06)  # in bfloat16 where the processor has it


def test_parquet_tar_and_addresses_are_read_and_errors_are_rows(picture_folder, tmp_path):
    paths = sorted(picture_folder.rglob("*.png"))[:6]
    contents, names = [path.read_bytes() for path in paths], [path.name for path in paths]
    folder = tmp_path / "in"
    folder.mkdir()
    pq.write_table(
        pa.table({"image": [*contents[:2], b"spoilt", None], "id": ["a", "b", "c", "d"]}),
        folder / "1.parquet",
        row_group_size=3,
    )
    nested = [{"bytes": contents[2], "path": "held.png"}]
    pq.write_table(pa.table({"image": nested, "label": [1]}), folder / "2.parquet")
    missing = str(tmp_path / "no" / "such.png")
    pq.write_table(pa.table({"path": [str(paths[3]), missing]}), folder / "3.parquet")
    pq.write_table(pa.table({"label": [1]}), folder / "4.parquet")
    with tarfile.open(folder / "5.tar", "w") as archive:
        for path in paths[4:]:
            archive.add(path, path.name)
            archive.add(__file__, f"{path.stem}.cls")
            archive.add(path, f".thumbs/{path.name}")
    (folder / "6.tar").write_bytes((folder / "5.tar").read_bytes()[:700])
    (folder / "7.png").write_bytes(b"spoilt")
    (folder / "8.parquet").write_bytes(b"PAR1 spoilt \x08\x00\x00\x00PAR1")
    (folder / "8.TAR").write_bytes((folder / "5.tar").read_bytes())
    addresses = ["https://nowhere.invalid/a.png", paths[0].as_uri(), "../9 ü/1.png"]
    pq.write_table(pa.table({"url": addresses}), folder / "9.parquet")
    (folder / "._7.png").write_bytes(b"of another system")
    (folder / ".thumbs").mkdir()
    (folder / ".thumbs" / "7.png").write_bytes(contents[0])
    (folder / "without ending").write_bytes(contents[0])
    special = tmp_path / "9 ü"
    (special / "below").mkdir(parents=True)
    for path in (special / "1.png", special / "below" / "2.png"):
        path.write_bytes(contents[1])
    escaped = []
    if sys.platform == "linux":  # macOS refuses names that are not UTF-8
        undecodable = os.fsdecode(os.fsencode(folder) + b"/\xff.png")
        Path(undecodable).write_bytes(contents[0])
        escaped = [f"{folder}/\\udcff.png"]
    output = folder / "results"  # which is not read
    words = [
        folder,
        f"{special.as_uri()}/",
        picture_folder / "0" / "0000[12].png",
        tmp_path / "gone.png",
    ]
    call = [PROGRAM, "predict", "-", "--model", "textbook", "--output", output]
    stdin = "\n".join(map(str, words))
    options = {"capture_output": True, "text": True, "timeout": 300}
    process = subprocess.run(call, input=stdin, **options)
    assert process.returncode == 0, process.stderr
    rows = {row["path"]: row for row in pq.read_table(output).to_pylist()}
    predicted = {name for name, row in rows.items() if row["error"] is None}
    tar = folder / "5.tar"
    assert predicted == {
        "a", "b", "held.png", str(paths[3]), f"{tar}#{names[4]}", f"{tar}#{names[5]}",
        f"{folder / '8.TAR'}#{names[4]}", f"{folder / '8.TAR'}#{names[5]}",
        str(paths[1]), str(paths[2]), *addresses[1:], f"{special.as_uri()}/1.png",
        f"{special.as_uri()}/below/2.png", *escaped,
        f"{folder}/without ending",
    }  # fmt: skip
    errors = {name: rows[name]["error"] for name in rows.keys() - predicted}
    assert errors.keys() == {
        "c", "d", *(str(folder / x) for x in ("4.parquet", "6.tar", "7.png", "8.parquet")),
        str(tmp_path / "gone.png"), addresses[0], missing,
    }  # fmt: skip
    assert "expected pictures in one of image" in errors[str(folder / "4.parquet")]
    assert errors["d"] == "empty"
    assert errors[str(tmp_path / "gone.png")] == "no such file"
    assert f"{len(rows)} pictures, {len(errors)} of which could not be read" in process.stdout
    for row in rows.values():
        assert (row["label"] is None) == (row["error"] is not None)


def test_a_part_whose_process_dies_is_retried_and_then_named(picture_folder, tmp_path, monkeypatch):
    classifier, output = Classifier.load("textbook"), tmp_path / "out.parquet"
    finished = []
    with open_batch([str(picture_folder / "0")], classifier, output) as (todo, parts):
        for part in predict_parts(todo, classifier, output):
            finished.append(part)
            if len(finished) == 1:
                for child in multiprocessing.active_children():
                    child.kill()
                with (
                    pytest.raises(ValueError, match="in use by process"),
                    open_batch([], classifier, output),
                ):
                    pass
    assert sorted(finished) == todo
    assert count_pictures(output, parts)[:2] == (1000, 0)
    monkeypatch.setattr("fashion_cnn.inference.batch.predict_part", die)
    with pytest.raises(RuntimeError, match=r"part 0, .* with .*00000\.png: its process died 3 ti"):
        list(predict_parts([0], classifier, output))


def test_an_unreachable_file_is_retried_by_the_same_command(picture_folder, tmp_path):
    folder, output, away = tmp_path / "in", tmp_path / "out", tmp_path / "away"
    folder.mkdir()
    (folder / "1.png").write_bytes((picture_folder / "0" / "00001.png").read_bytes())
    pq.write_table(
        pa.table({"path": [str(picture_folder / "0" / "00002.png")]}), folder / "2.parquet"
    )
    classifier = Classifier.load("textbook")
    with open_batch([str(folder)], classifier, output) as (todo, _):
        assert todo == [0, 1]
        (folder / "2.parquet").rename(away)
        with pytest.raises(
            RuntimeError, match=r"1 parts are missing .part 0, .* with .*2\.parquet:"
        ):
            list(predict_parts(todo, classifier, output))
    away.rename(folder / "2.parquet")
    folder.rename(away)
    with pytest.raises(RuntimeError, match="no such folder on this machine"):
        list(predict_parts([1], classifier, output))
    away.rename(folder)
    with open_batch([str(folder)], classifier, output) as (todo, parts):
        assert list(predict_parts(todo, classifier, output)) == [0]
        assert count_pictures(output, parts)[:2] == (2, 0)


def test_a_server_that_does_not_respond_is_a_temporary_error():
    closed_port = f"?endpoint_override=127.0.0.1:{free_port('127.0.0.1')}&scheme=http&region=none"
    item = {
        "name": b"s3://key:secret@bucket/1.png" + closed_port.encode(),
        "kind": "file",
        "row_group": 0,
    }
    with pytest.raises(OSError, match="NETWORK_CONNECTION"):
        list(read_pictures([item]))


def test_a_plan_of_very_many_parts_is_read_by_their_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr("fashion_cnn.inference.batch_plan.PART", 2)
    monkeypatch.setattr("fashion_cnn.inference.batch_plan.PARTS_PER_ROW_GROUP", 3)
    names = [str(tmp_path / f"{i}.png") for i in range(15)]
    assert write_plan(names, tmp_path / "plan.parquet", {"model": "m"}) == 8
    assert pq.read_metadata(tmp_path / "plan.parquet").num_row_groups == 3
    names_by_part = {
        n: [x["name"].decode() for x in part]
        for n, part in read_plan(tmp_path / "plan.parquet", [0, 2, 7])
    }
    assert names_by_part == {0: names[:2], 2: names[4:6], 7: names[14:]}


def test_the_output_folder_must_not_hold_other_files(picture_folder, tmp_path):
    (tmp_path / "mine").write_text("x")
    process = fashion_cnn("predict", picture_folder, "--output", tmp_path, status=1)
    assert f"{tmp_path}: holds other files" in process.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    process = fashion_cnn("predict", empty, "--output", tmp_path / "out.parquet", status=1)
    assert "no pictures there" in process.stderr
    for words, message in (
        (("--cluster", "auto"), "--cluster needs --output"),
        (("--output", empty, "--format", "csv"), "--output cannot be combined with"),
    ):
        process = fashion_cnn("predict", picture_folder, *words, status=2)
        assert message in process.stderr


def test_ray_is_not_needed_without_a_cluster(picture_folder, tmp_path):
    (tmp_path / "ray.py").write_text("raise ModuleNotFoundError('No ray', name='ray')")
    without = {"PYTHONPATH": str(tmp_path)}
    output = tmp_path / "out.parquet"
    call = ("predict", picture_folder / "4", "--model", "textbook", "--output", output)
    process = fashion_cnn_process(*call, **without)
    assert process.stdout.startswith("200 pictures, 0 of which")
    call = (*call[:-1], tmp_path / "other", "--cluster", "auto")
    process = fashion_cnn_process(*call, status=1, **without)
    assert 'ray is not installed: pip install "fashion-cnn[scale]"' in process.stderr
