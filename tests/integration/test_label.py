"""`fashion-cnn label`: its requests, its sources, and the loop from a doubtful label to a run."""

import json
import shutil

import numpy as np
import pytest
from audited import NAMES, make_audit, write_audit
from command import fashion_cnn
from drawn import GARMENTS, garment
from PIL import Image
from serving_client import request_json, send

from fashion_cnn.data import load_data
from fashion_cnn.data.decisions import Decision, read_decisions, to_csv
from fashion_cnn.experiments.audit import DUPLICATE_COLUMNS
from fashion_cnn.files import file_sha256, read_csv, write_csv, write_json
from fashion_cnn.labeling.audit_task import audit_task
from fashion_cnn.labeling.task import default_decisions, make_task
from fashion_cnn.labeling.unlabeled_task import unlabeled_task

pytestmark = pytest.mark.slow

JSON = {"Content-Type": "application/json"}


def post(port, path, content, **headers):
    return request_json(port, "POST", path, json.dumps(content), JSON | headers)


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    return make_audit(tmp_path_factory.mktemp("audited"))


@pytest.fixture
def labeling(audited, serving, tmp_path):
    path = tmp_path / "decisions.csv"
    with serving(audited, "--decisions", path, verb="label") as (_, port, _):
        yield port, path


# Requests


def test_decisions_by_requests(labeling):
    port, path = labeling
    status, first = post(port, "/next", {"by": "me"})
    name = first["item"]["name"]
    assert status == 200 and first["item"]["position"] == 1 and len(first["item"]["top"]) == 3
    choice = {"by": "me", "name": name, "decision": "label", "label": NAMES[0]}
    status, second = post(port, "/decide", choice)
    assert status == 200 and second["item"]["position"] == 2
    (row,) = read_decisions(path).rows  # on the disk before the response
    assert (row.file, row.label, row.by) == (name, NAMES[0], "me")
    status, error = post(port, "/decide", choice | {"by": "you", "label": NAMES[1]})
    assert status == 409 and error["error"].endswith(f"meanwhile: {NAMES[0]}")
    status, back = post(port, "/undo", {"by": "me"})
    assert status == 200 and back["item"]["name"] == name


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        ({"by": "me"}, {"Origin": "http://evil.example"}, 403),
        ({"by": "me"}, {"Content-Type": "text/plain"}, 415),
        ({"by": "me"}, {"Host": "evil.example"}, 400),
        ({"by": "a b"}, {}, 400),
        ({"by": "me", "name": "../../x", "decision": "none"}, {}, 400),
        ({"by": "me", "name": "x", "decision": "delete"}, {}, 400),
    ],
)
def test_requests_of_others_are_refused(labeling, content, headers, status):
    port, path = labeling
    target = "/decide" if "name" in content else "/next"
    assert post(port, target, content, **headers)[0] == status
    assert read_decisions(path).rows == ()


def test_only_pictures_of_the_task_are_sent(labeling, audited):
    port, _ = labeling
    name = post(port, "/next", {"by": "me"})[1]["item"]["name"]
    for path in ("../audit/audit.json", "/etc/passwd", name + "x", ""):
        status, _, _ = send(port, "GET", f"/picture?{query(name=path)}")
        assert status == 404
    status, headers, content = send(port, "GET", f"/picture?{query(name=name)}")
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    assert content != (audited.parent / "photos" / name).read_bytes()  # encoded anew
    assert headers["content-security-policy"].startswith("default-src 'none'")
    status, headers, content = send(port, "GET", "/")
    assert status == 200 and b"static/label.js" in content


def query(**values):
    from urllib.parse import urlencode

    return urlencode(values)


def test_usage(audited, tmp_path):
    for words, message in (
        ((), "got 0 of SOURCE, --merge and --export; expected one: a SOURCE"),
        ((audited, "--export", tmp_path), "got 2 of SOURCE, --merge and --export"),
        (("--export", tmp_path / "copy"), "need --decisions CSV"),
        ((audited, "--host", "0.0.0.0"), "give --token-file PATH as well"),  # noqa: S104
    ):
        assert message in fashion_cnn("label", *words, status=2).stderr
    done = fashion_cnn("label", tmp_path / "nothing", status=1)
    assert "no such file; expected the folder of an audit or of pictures" in done.stderr
    assert not list(tmp_path.iterdir())
    merges = ("--merge", tmp_path / "a.csv", "--merge", tmp_path / "b.csv")
    done = fashion_cnn("label", *merges, "--decisions", tmp_path / "c.csv", status=1)
    assert "a.csv: no such file; expected the decisions.csv" in done.stderr


# Sources


def test_an_audit_is_in_order_and_knows_its_data(audited):
    task = audit_task(audited)
    data = load_data(audited.parent / "photos")
    assert task.class_names == data.class_names and task.doubtful == 25
    assert set(task.names[:25]) == set(data.train_files[:25])
    assert sorted(task.names) == sorted(data.train_files + data.test_files)
    item = task.describe(task.names[0])
    assert item.label == task.names[0].split("/")[0] and len(item.neighbors) == 6
    assert item.top[0][0] != item.label and "doubtful" in item.reason
    assert all(data.train_files.index(name) >= 0 for name, _ in item.neighbors)
    assert audit_task(audited, split="test", doubtful=True).names == []
    assert len(audit_task(audited, split="test").names) == len(data.test_files)


def test_near_duplicates_with_different_labels_come_first(tmp_path):
    audited = make_audit(tmp_path, suspects=3)
    data = load_data(tmp_path / "photos")
    test, train = data.test_labels, data.train_labels
    index = 3 + int(np.flatnonzero(train[3:] != test[0])[0])  # after the suspects
    row = {"test_index": 0, "train_index": index, "distance": 0.0}
    row |= {"test_label": data.class_names[test[0]], "train_label": data.class_names[train[index]]}
    write_csv(audited / "duplicates.csv", DUPLICATE_COLUMNS, [row])
    task = audit_task(audited)
    assert set(task.names[:2]) == {data.test_files[0], data.train_files[index]}
    assert set(task.names[2:5]) == set(data.train_files[:3]) and task.doubtful == 5
    reason = task.describe(data.test_files[0]).reason
    assert reason == f"Nearly the same picture is labeled {row['train_label']}"
    assert audit_task(audited, doubtful=True).names == task.names[:5]


def test_an_audit_of_arrays_after_decisions_keeps_the_names(tiny_data, tmp_path):
    np.savez(
        tmp_path / "data.npz",
        x_train=tiny_data.train_images,
        y_train=tiny_data.train_labels,
        x_test=tiny_data.test_images,
        y_test=tiny_data.test_labels,
    )
    task = audit_task(write_audit(tmp_path / "one", load_data(tmp_path / "data.npz"), 5))
    path = tmp_path / "d.csv"
    name = "train/1"
    path.write_text(to_csv([Decision(name, task.sha256(name), "none", was="1")]))
    decided = load_data(tmp_path / "data.npz", decisions=path)
    task = audit_task(write_audit(tmp_path / "two", decided, 5))
    assert name not in task.names
    for name in ("train/0", "train/2", "train/179", "test/3"):
        split, index = name.split("/")
        images = tiny_data.train_images if split == "train" else tiny_data.test_images
        np.testing.assert_array_equal(task.read(name), images[int(index)])


def test_unfit_audits_are_refused(audited, tmp_path):
    shutil.copytree(audited.parent, tmp_path / "copy")
    copy = tmp_path / "copy" / "audit"
    (copy / "probabilities.npz").unlink()
    with pytest.raises(ValueError, match="run `fashion-cnn audit` again"):
        audit_task(copy)
    shutil.copy(audited / "probabilities.npz", copy)
    next((tmp_path / "copy" / "photos" / "coat").iterdir()).unlink()
    with pytest.raises(ValueError, match="has changed since the audit"):
        audit_task(copy, str(tmp_path / "copy" / "photos"))
    summary = json.loads((copy / "audit.json").read_text())
    summary["data"]["source"] = str(tmp_path / "moved")
    write_json(copy / "audit.json", summary)
    with pytest.raises(FileNotFoundError, match="moved; give --data the place where it is now"):
        audit_task(copy)
    (copy / "audit.json").unlink()  # interrupted
    (copy / "fold-1-of-5.npz").touch()
    with pytest.raises(ValueError, match="no complete audit"):
        make_task(copy, "clothes")
    write_json(copy / "audit.json", {"recipe": "quick"})  # of an earlier version
    with pytest.raises(ValueError, match=r"no complete audit \('data'\); run"):
        audit_task(copy)


def test_pictures_that_were_added_can_be_decided_again(tmp_path):
    make_audit(tmp_path, suspects=3)
    photos, extra = tmp_path / "photos", tmp_path / "extra.png"
    extra.write_bytes((photos / "coat" / "<i>00 ü.png").read_bytes() + b" ")
    row = Decision("extra.png", file_sha256(extra), "label", NAMES[1], source=str(tmp_path))
    (tmp_path / "d.csv").write_text(to_csv([row]))
    data = load_data(photos, decisions=tmp_path / "d.csv")
    task = audit_task(write_audit(tmp_path / "again", data, 3))
    assert str(extra) in task.names and task.locate(str(extra)) == (str(tmp_path), "extra.png")
    item = task.describe(str(extra))
    assert item.label == "" and item.reason.endswith(f"it was decided to be {NAMES[1]}")


def test_pictures_with_several_labels_are_refused(tmp_path):
    audited = make_audit(tmp_path, count=15, suspects=3)
    photos = tmp_path / "photos"
    for path in list((photos / "coat").iterdir())[:8]:
        shutil.copy(path, photos / NAMES[2] / f"also {path.name}")
    shutil.rmtree(audited)
    write_audit(audited, load_data(photos), 3)
    with pytest.raises(ValueError, match="make a data set for each label, with the folders yes"):
        audit_task(audited)


@pytest.fixture(scope="module")
def rest(tmp_path_factory):
    """Pictures without labels, two of which cannot be read."""
    folder = tmp_path_factory.mktemp("unlabeled") / "rest"
    folder.mkdir()
    for i, name in enumerate(GARMENTS):
        garment(name, (40 * i, 90, 200 - 30 * i)).resize((200, 200)).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.new("RGB", (90, 90), "white").save(folder / "one\nline.png")
    return folder


def test_a_folder_without_labels(rest, capsys):
    assert default_decisions(rest) == rest.with_name("rest-decisions.csv")
    task = make_task(rest, "clothes")
    assert sorted(task.names) == [str(rest / f"{i}.png") for i in range(6)]
    errors = capsys.readouterr().err
    assert "broken.png" in errors and "its name has control characters" in errors
    item = task.describe(str(rest / "2.png"))
    assert task.locate(item.name) == (str(rest), "2.png") and item.label == ""
    assert len(item.neighbors) == 5 and item.name not in dict(item.neighbors)
    doubtful = unlabeled_task(rest, "clothes", doubtful=True)
    assert doubtful.names == task.names[: task.doubtful]


def test_what_predict_writes(rest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fashion_cnn("predict", rest, "--unsure", "unsure.csv", status=None)
    unsure = {row["path"] for row in read_csv(tmp_path / "unsure.csv") if not row["error"]}
    unsure.remove(str(rest / "one\nline.png"))
    assert set(make_task(tmp_path / "unsure.csv", "clothes").names) == unsure
    assert default_decisions(tmp_path / "unsure.csv") == tmp_path / "unsure-decisions.csv"
    fashion_cnn("predict", rest, "--output", "many")
    assert set(make_task(tmp_path / "many", "clothes").names) == unsure
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="got the columns a, b; expected what predict --unsure"):
        make_task(tmp_path / "other.csv", "clothes")


def test_class_folders_are_for_an_audit(rest, tmp_path):
    for name in ("dress", "skirt"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        shutil.copy(rest / "1.png", tmp_path / "photos" / name)
    with pytest.raises(ValueError, match=r"to check these: `fashion-cnn audit --data"):
        make_task(tmp_path / "photos", "clothes")


# The loop


def test_from_doubtful_labels_to_a_better_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_audit(tmp_path, ("coat", "hat", "sock"))
    photos, extra = tmp_path / "photos", tmp_path / "extra.png"
    before = load_data("photos")
    wrong = [before.train_files[0], before.test_files[0]]
    rows = [
        Decision(file, file_sha256(photos / file), "label", "sock", file.split("/")[0])
        for file in wrong
    ]
    gone = before.test_files[1]
    rows.append(Decision(gone, file_sha256(photos / gone), "none", was=gone.split("/")[0]))
    extra.write_bytes((photos / before.train_files[-1]).read_bytes() + b" ")  # another file
    rows.append(Decision("extra.png", file_sha256(extra), "label", "sock", source=str(tmp_path)))
    (tmp_path / "decisions.csv").write_text(to_csv(rows))
    words = ("--data", "photos", "--set", "epochs=1", "--no-report")
    fashion_cnn("train", "textbook", *words, "--run", "before")
    done = fashion_cnn(
        "train", "textbook", *words, "--run", "after", "--decisions", "decisions.csv"
    )
    assert "2 relabeled, 1 labeled, 1 left out" in done.stderr
    environment = json.loads((tmp_path / "after" / "environment.json").read_text())
    assert environment["data"]["decisions"] == str(tmp_path / "decisions.csv")
    recorded = environment["data"]["sha256"]["decisions"]
    assert recorded == file_sha256(tmp_path / "after" / "decisions.csv")  # a copy
    assert recorded == file_sha256(tmp_path / "decisions.csv")
    done = fashion_cnn("compare", "before", "after")
    assert f"labels as recorded, {len(before.test_files) - 1} images" in done.stdout
    assert f"labels as corrected, {len(before.test_files) - 1} images" in done.stdout
    evaluate = ("evaluate", "before", "--decisions", "decisions.csv")
    assert "The same with the labels of decisions.csv: " in fashion_cnn(*evaluate).stdout
    with open(tmp_path / "decisions.csv", "a") as file:  # more is decided, and the run still works
        more = Decision(wrong[0], rows[0].sha256, "none", was=rows[0].was)
        file.write(to_csv([more], header=False))
    (tmp_path / "decisions.csv").rename(tmp_path / "moved.csv")
    first = json.loads(fashion_cnn("evaluate", "after", "--json").stdout)
    (tmp_path / "moved.csv").rename(tmp_path / "decisions.csv")
    metrics = json.loads((tmp_path / "after" / "metrics.json").read_text())
    assert first["test_accuracy"] == metrics["test_accuracy"]
    done = fashion_cnn("train", "--run", "after", "--resume")
    assert "already finished" in done.stderr
    done = fashion_cnn("data", "--data", "photos", "--decisions", "decisions.csv")
    assert "1 relabeled, 1 labeled, 2 left out" in done.stdout
    done = fashion_cnn(
        "label", "--export", "copy", "--data", "photos", "--decisions", "decisions.csv"
    )
    assert f"{len(before.train_files) + len(before.test_files) - 1} pictures: copy" in done.stdout
    assert (tmp_path / "copy" / "train" / "sock" / "extra.png").is_file()


def test_several_people(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, labels in (("a", "hat hat coat"), ("b", "hat coat coat"), ("c", "coat coat coat")):
        rows = [
            Decision(f"{i}.png", "1", "label", label, "coat")
            for i, label in enumerate(labels.split())
        ]
        (tmp_path / f"{name}.csv").write_text(to_csv(rows))
    merges = [word for name in "abc" for word in ("--merge", f"{name}.csv")]
    done = fashion_cnn("label", *merges, "--decisions", "all.csv")
    assert "3 have a majority; 1 of these change the label" in done.stdout
    assert "Fleiss' kappa 0.00 over the 3 pictures" in done.stdout
    assert len(read_decisions(tmp_path / "all.csv").latest) == 3
