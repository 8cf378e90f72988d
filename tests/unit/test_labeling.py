"""The order of pictures, the log of decisions, who is shown what, and what people agree on."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fashion_cnn.console import UsageError
from fashion_cnn.data import load_data
from fashion_cnn.data.decisions import Decision, read_decisions, to_csv
from fashion_cnn.labeling.log import DecisionLog
from fashion_cnn.labeling.order import order_labeled, order_unlabeled
from fashion_cnn.labeling.results import export_corrected, fleiss_kappa, merge_decisions
from fashion_cnn.labeling.server import label_settings
from fashion_cnn.labeling.session import LEASE_SECONDS, AlreadyDecided, LabelSession
from fashion_cnn.labeling.task import Item, Task, most_probable

CLASSES = ("coat", "hat", "<b>")
NAMES = [f"p{i}" for i in range(6)]


def describe(name):
    top = (("hat", 0.6), ("coat", 0.4))
    return Item(name, "coat", "doubtful", top, (("p5", "hat"),))


def read(name):
    return np.full((4, 4), int(name[1:]), np.uint8)


@pytest.fixture
def session(tmp_path):
    log = DecisionLog(tmp_path / "decisions.csv")
    yield LabelSession(Task("six", "/data", CLASSES, NAMES, 2, describe, read), log)
    log.close()


def shown(result):
    return result["item"] and result["item"]["name"]


# Order


def test_probable_errors_come_first():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    labels = np.array([0, 0, 1, 1])
    assert order_labeled(labels, probabilities).tolist() == [1, 2, 3, 0]


def test_unlabeled_pictures_between_two_classes_come_first_but_not_alike_in_a_row():
    top = np.linspace(0.5, 1, 40)
    probabilities = np.stack([top, 1 - top], 1)
    different = np.eye(40)
    assert order_unlabeled(probabilities, different).tolist() == list(range(40))
    alike = np.zeros((40, 3))
    alike[:30, 0] = alike[30:35, 1] = alike[35:, 2] = 1  # thirty are the same picture
    order = order_unlabeled(probabilities, alike)
    assert sorted(order) == list(range(40)) and order[0] == 0
    assert {30, 35} <= set(order[:3])  # one of each kind, though their margins are large
    assert order_unlabeled(np.zeros((0, 2)), np.zeros((0, 3))).tolist() == []


def test_most_probable_classes():
    assert most_probable(CLASSES, np.array([0.25, 0.7, 0.05]))[:2] == (("hat", 0.7), ("coat", 0.25))


# Log


def test_decisions_are_on_the_disk_and_read_again(tmp_path):
    path = tmp_path / "d.csv"
    log = DecisionLog(path)
    log.append(Decision("a", "1", "label", "hat", "coat", by="me"))
    log.append(Decision("b", "2", "none", was="coat", by="me"))
    assert [x.file for x in read_decisions(path).rows] == ["a", "b"]
    assert log.undo("you") is None
    assert log.undo("me").file == "b"
    log.close()
    again = DecisionLog(path)
    assert [(x.file, x.label) for x in again.decided] == [("a", "hat")]
    assert again.undo("me").file == "a" and again.undo("me") is None
    again.close()
    rows = read_decisions(path).rows
    assert [x.decision for x in rows] == ["label", "none", "undo", "undo"]
    assert all(x.time.startswith("20") for x in rows)


def test_a_row_of_a_killed_process_is_cut_off(tmp_path):
    path = tmp_path / "d.csv"
    whole = to_csv([Decision("a", "1", "none")])
    path.write_text(whole + "b,2,lab", newline="\n")
    log = DecisionLog(path)
    assert path.read_text() == whole
    log.append(Decision("c", "3", "none"))
    log.close()
    assert [x.file for x in read_decisions(path).rows] == ["a", "c"]


KILLED = """
import os, sys
from pathlib import Path
from fashion_cnn.data.decisions import Decision
from fashion_cnn.labeling.log import DecisionLog
log = DecisionLog(Path(sys.argv[1]))
for i in range(int(sys.argv[2])):
    log.append(Decision(f"p{i}", str(i), "none"))
os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_nothing_is_lost_when_the_process_is_killed(tmp_path):
    path = tmp_path / "d.csv"
    done = subprocess.run([sys.executable, "-c", KILLED, path, "7"])
    assert done.returncode == -9
    assert len(read_decisions(path).rows) == 7
    DecisionLog(path).close()  # the lock ended with the process


def test_a_file_has_one_process(tmp_path):
    log = DecisionLog(tmp_path / "d.csv")
    with pytest.raises(ValueError, match="another `fashion-cnn label` has it open"):
        DecisionLog(tmp_path / "d.csv")
    log.close()


def test_other_files_are_not_continued(tmp_path):
    path = tmp_path / "notes.csv"
    path.write_text("mine,yours\n1,2\n")
    with pytest.raises(ValueError, match=r"expected the decisions\.csv"):
        DecisionLog(path)
    assert path.read_text() == "mine,yours\n1,2\n"


@pytest.mark.parametrize("content", ['{"important": 1}', "token", "index,label\n", "file,sha256\n"])
def test_what_is_no_file_of_decisions_stays_as_it_is(tmp_path, content):
    (tmp_path / "mine").write_text(content, newline="\n")
    with pytest.raises(ValueError, match=r"begins with .*; expected the decisions\.csv"):
        DecisionLog(tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == content


def test_a_log_without_decisions_leaves_no_file(tmp_path):
    (tmp_path / "cut.csv").write_text("file,sh")  # killed while it was made
    for name in ("new.csv", "cut.csv"):
        DecisionLog(tmp_path / name).close()
        assert not (tmp_path / name).exists()
    with pytest.raises(OSError, match="give --decisions another file"):
        DecisionLog(tmp_path / "no" / "d.csv")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows replaces no file that is open")
def test_a_file_that_was_replaced_meanwhile_is_an_error(tmp_path):
    log = DecisionLog(tmp_path / "d.csv")
    log.append(Decision("a", "1", "none"))
    (tmp_path / "other").write_text(to_csv([]))
    os.replace(tmp_path / "other", tmp_path / "d.csv")
    with pytest.raises(OSError, match="deleted or replaced by another program"):
        log.append(Decision("b", "2", "none"))
    assert [x.file for x in log.decided] == ["a"]
    log.close()
    assert (tmp_path / "d.csv").exists()  # it is not this log's


def test_a_changed_decision_counts_once(tmp_path):
    log = DecisionLog(tmp_path / "d.csv")
    for file, label in (("a", "hat"), ("b", "coat"), ("a", "coat")):
        log.append(Decision(file, "1", "label", label, "coat"))
    assert [(x.file, x.label) for x in log.decided] == [("b", "coat"), ("a", "coat")]
    assert log.advice() == "0 of the last 2 decisions were corrections"
    log.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no file that is open")
def test_a_file_that_was_removed_meanwhile_stays_away(tmp_path):
    log = DecisionLog(tmp_path / "d.csv")
    log.path.unlink()
    log.close()
    assert not log.path.exists()


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    log = DecisionLog(tmp_path / "d.csv")
    log.append(Decision("a", "1", "none"))
    before = log.path.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"d\.csv: could not be written"):
        log.append(Decision("b", "2", "none"))
    monkeypatch.undo()
    assert log.path.read_bytes() == before
    assert [x.file for x in log.decided] == ["a"]
    log.close()


def test_advice_to_stop(tmp_path):
    log = DecisionLog(tmp_path / "d.csv")
    for i in range(50):
        log.append(Decision(f"p{i}", "1", "label", "hat", "coat"))
    assert log.advice() == "50 of the last 50 decisions were corrections: it is worth going on"
    for i in range(49):
        log.append(Decision(f"q{i}", "1", "label", "coat", "coat"))
    text = "1 of the last 50 decisions were corrections: few errors are left, you can stop"
    assert log.advice() == text
    log.close()


# Session


def test_pictures_come_in_their_order(session):
    assert shown(session.next_item("me")) == "p0"
    assert shown(session.next_item("me")) == "p0"  # the page was loaded again
    result = session.decide("me", "p0", "label", "hat")
    assert shown(result) == "p1" and result["progress"]["decided"] == 1
    assert shown(session.decide("me", "p1", "skip")) == "p2"
    assert shown(session.decide("me", "p2", "none")) == "p3"
    for name in ("p3", "p4", "p5"):
        result = session.decide("me", name, "label", "coat")
    assert result["item"] is None
    progress = result["progress"]
    assert (progress["decided"], progress["corrected"], progress["total"]) == (5, 2, 6)


def test_undo_goes_back_step_by_step(session):
    for name in ("p0", "p1"):
        session.decide("me", name, "label", "hat")
    session.decide("me", "p2", "skip")
    assert [shown(session.undo("me")) for _ in range(3)] == ["p2", "p1", "p0"]
    assert session.undo("me")["message"] == "There is nothing to undo"
    assert read_decisions(session.log.path).latest == {}


def test_two_people_are_shown_different_pictures(session, monkeypatch):
    assert shown(session.next_item("me")) == "p0"
    assert shown(session.next_item("you")) == "p1"
    session.decide("you", "p1", "label", "hat")
    assert shown(session.decide("me", "p0", "none")) == "p3"  # "you" looks at p2
    assert session.undo("me")["item"]["name"] == "p0"  # not what "you" decided
    monkeypatch.setattr("fashion_cnn.labeling.session.LEASE_SECONDS", -LEASE_SECONDS)
    assert shown(session.next_item("third")) == "p0"


def test_a_decision_of_somebody_else_is_not_overwritten(session):
    session.next_item("me")
    session.decide("you", "p0", "label", "hat")
    with pytest.raises(AlreadyDecided, match="Somebody else has decided it meanwhile: hat"):
        session.decide("me", "p0", "none")
    assert [x.by for x in session.log.decided] == ["you"]
    session.decide("you", "p0", "label", "coat")  # one's own may be changed
    assert session.log.latest("p0", session.task.sha256("p0")).label == "coat"


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (("nothing", "label", "hat"), "no picture 'nothing'"),
        (("p0", "label", "sock"), "label: got 'sock'"),
        (("p0", "none", "hat"), "label: got 'hat'"),
        (("p0", "undo", ""), "decision: got 'undo'"),
    ],
)
def test_wrong_decisions_are_refused(session, choice, message):
    with pytest.raises(ValueError, match=message):
        session.decide("me", *choice)
    assert not session.log.made


def test_a_second_start_goes_on_and_shows_skipped_pictures_again(session):
    session.decide("me", "p0", "skip")
    session.decide("me", "p1", "label", "hat")
    session.log.close()
    again = LabelSession(session.task, DecisionLog(session.log.path))
    assert shown(again.next_item("me")) == "p0"
    assert shown(again.decide("me", "p0", "none")) == "p2"
    again.log.close()


def test_the_same_decision_sent_twice_is_one(session):
    for _ in range(2):
        session.decide("me", "p0", "label", "hat")
    assert len(session.log.made) == 1
    assert session.undo("me")["item"]["name"] == "p0" and not session.log.made


def test_a_picture_that_is_gone_is_passed_over(session, monkeypatch):
    def read_some(name):
        if name == "p1":
            raise FileNotFoundError(name)
        return read(name)

    object.__setattr__(session.task, "read", read_some)
    assert shown(session.decide("me", "p0", "none")) == "p2"


def test_how_many_are_left_to_others(session):
    session.next_item("you")  # looks at p0
    session.decide("me", "p1", "skip")
    for name in NAMES[2:]:
        result = session.decide("me", name, "none")
    assert result["item"] is None and result["remaining"] == 2
    assert session.decide("you", "p0", "none")["item"]["name"] == "p1"


def test_blind_sessions_tell_nothing(session):
    blind = LabelSession(session.task, session.log, blind=True)
    result = blind.decide("me", "p0", "label", "hat")
    assert result["progress"]["corrected"] is None and result["progress"]["advice"] == ""
    item = result["item"]
    assert (item["label"], item["reason"], item["top"], item["neighbors"]) == ("", "", [], [])
    assert session.log.made[0].was == "coat"  # which the file has


def test_others_reach_the_page_only_with_a_token():
    assert "localhost" in label_settings("127.0.0.1", 0, None).hosts
    assert label_settings("0.0.0.0", 0, "secret").token == "secret"  # noqa: S104, S105
    with pytest.raises(UsageError, match="give --token-file PATH as well"):
        label_settings("0.0.0.0", 0, None)  # noqa: S104


# Results


def test_fleiss_kappa_of_the_literature():
    # Fleiss 1971 as in the example of Gwet: 10 subjects, 14 raters, 5 categories
    counts = """0 0 0 0 14;0 2 6 4 2;0 0 3 5 6;0 3 9 2 0;2 2 8 1 1;7 7 0 0 0;3 2 6 3 0;2 5 3 2 2
    6 5 2 1 0;0 2 2 3 7""".replace("\n", ";")
    table = [
        [k for k, count in enumerate(row.split()) for _ in range(int(count))]
        for row in counts.split(";")
    ]
    assert fleiss_kappa(table) == pytest.approx(0.2099, abs=1e-4)
    assert fleiss_kappa([["a", "a"], ["b", "b"]]) == 1
    assert math.isnan(fleiss_kappa([])) and math.isnan(fleiss_kappa([["a", "a"]]))


def test_majorities(tmp_path):
    def person(name, **choices):
        rows = [
            Decision(file, "1", "label" if label else "none", label, "coat", by=name)
            for file, label in choices.items()
        ]
        (tmp_path / f"{name}.csv").write_text(to_csv(rows), newline="\n")
        return tmp_path / f"{name}.csv"

    paths = [
        person("x", a="hat", b="hat", c="coat", d=""),
        person("y", a="hat", b="coat", c="hat", e="hat"),
        person("z", a="coat", b="", c="hat", d=""),
    ]
    result = merge_decisions(paths, tmp_path / "all.csv")
    assert (result.pictures, result.common, result.undecided) == (5, 3, 1)
    latest = read_decisions(tmp_path / "all.csv").latest
    assert {file: x.label for (file, _), x in latest.items()} == {
        "a": "hat",
        "c": "hat",
        "d": "",
        "e": "hat",
    }
    assert latest["a", "1"].by == "2 of 3" and latest["d", "1"].decision == "none"
    rows = [["hat", "hat", "coat"], ["hat", "coat", ""], ["coat", "hat", "hat"]]
    assert result.kappa == pytest.approx(fleiss_kappa(rows))
    with pytest.raises(ValueError, match="exists already"):
        merge_decisions(paths, tmp_path / "all.csv")
    with pytest.raises(ValueError, match="at least two files, each once"):
        merge_decisions([paths[0], paths[0]], tmp_path / "new.csv")


def test_a_corrected_copy_of_class_folders(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(40):
        folder = tmp_path / "photos" / CLASSES[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    before = load_data(tmp_path / "photos")
    file = before.train_files[0]
    name = os.path.basename(file)
    log = DecisionLog(tmp_path / "d.csv")
    photos = tmp_path / "photos"
    task = Task("", "", CLASSES[:2], [file], 1, describe, lambda name: photos / name)
    log.append(Decision(file, task.sha256(file), "label", "hat", "coat"))
    log.close()
    data = load_data(tmp_path / "photos", decisions=log.path)
    assert export_corrected(data, tmp_path / "copy") == 40
    assert (tmp_path / "photos" / file).exists()  # nothing is moved
    assert (tmp_path / "copy" / "train" / "hat" / name).is_file()
    copy = load_data(tmp_path / "copy")
    for split in ("train", "validation", "test"):
        images, labels = data.split(split)
        others, other_labels = copy.split(split)
        pairs = {(x.tobytes(), k) for x, k in zip(images, labels, strict=True)}
        assert pairs == {(x.tobytes(), k) for x, k in zip(others, other_labels, strict=True)}
    with pytest.raises(ValueError, match="holds other files"):
        export_corrected(data, tmp_path / "copy")


def test_a_corrected_copy_of_arrays(random_data, tmp_path):
    assert export_corrected(random_data, tmp_path / "copy") == 240
    copy = load_data(tmp_path / "copy" / "data.npz")
    names = np.array(random_data.class_names)[random_data.train_labels]
    np.testing.assert_array_equal(np.array(copy.class_names)[copy.train_labels], names)
    np.testing.assert_array_equal(copy.test_images, random_data.test_images)
