"""Decisions of people: the file, and data with decisions applied."""

import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image

from fashion_cnn.data import load_data, reload_data
from fashion_cnn.data.dataset import Data
from fashion_cnn.data.decisions import (
    Decision,
    decide_arrays,
    describe,
    pixels_sha256,
    read_decisions,
    to_csv,
)
from fashion_cnn.data.recorded import find_origin, require_same_data
from fashion_cnn.files import file_sha256
from fashion_cnn.run import Run

CLASSES = ("coat", "hat")


def write(path, *decisions):
    path.write_bytes(to_csv(decisions).encode())
    return path


@pytest.fixture
def arrays():
    """Images of noise in two classes."""
    images = np.random.default_rng(0).integers(0, 256, (60, 5, 5), dtype=np.uint8)
    labels = np.arange(60) % 2
    return Data(images[:48], labels[:48], images[48:], labels[48:], CLASSES)


def about(data, split, index, decision, label=""):
    images = data.train_images if split == "train" else data.test_images
    return Decision(f"{split}/{index}", pixels_sha256(images[index]), decision, label, "coat")


@pytest.fixture
def photos(tmp_path):
    """A folder with 30 pictures of each class, all different."""
    rng = np.random.default_rng(1)
    for i in range(30):
        for name in CLASSES:
            (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i:02}.png")
    return tmp_path / "photos"


def about_file(folder, file, decision, label="", source=""):
    sha256 = file_sha256(folder / file)
    return Decision(file, sha256, decision, label, file.split("/")[0], source=source)


def test_the_last_decision_counts_unless_it_is_skipped_or_undone(tmp_path):
    rows = [
        Decision("a", "1", "label", "hat", "coat"),
        Decision("a", "1", "none", was="coat"),
        Decision("a", "1", "undo", was="coat"),
        Decision("b", "2", "label", "coat", "coat"),
        Decision("b", "2", "skip", was="coat"),
        Decision("c", "3", "label", "hat", "coat"),
        Decision("c", "3", "undo", was="coat"),
        Decision("c", "3", "undo", was="coat"),  # of nothing
        Decision("d", "4", "none"),
        Decision("e", "5", "label", "hat"),
    ]
    decisions = read_decisions(write(tmp_path / "d.csv", *rows))
    assert decisions.rows == tuple(rows)
    latest = {file: (x.decision, x.label) for (file, _), x in decisions.latest.items()}
    expected = {"a": ("label", "hat"), "b": ("label", "coat"), "d": ("none", "")}
    assert latest == expected | {"e": ("label", "hat")}
    note = describe(decisions, decisions.latest.values())
    assert note.endswith("d.csv: 1 kept, 1 relabeled, 1 labeled, 1 left out")


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        (Decision("a", "1", "label", "hat", "coat"), True),
        (Decision("a", "1", "label", "coat", "coat", predicted="hat"), False),
        (Decision("a", "1", "label", "hat", predicted="hat"), False),
        (Decision("a", "1", "label", "hat", predicted="coat"), True),
        (Decision("a", "1", "none"), True),
        (Decision("a", "1", "skip", was="coat"), False),
    ],
)
def test_corrections_differ_from_the_label_or_else_the_prediction(decision, expected):
    assert decision.is_correction == expected


def test_any_text_survives_the_file(tmp_path):
    row = Decision('<b>, "x"\u2028\r/ü.jpg', "1", "label", "<script>", "Жар,", by="a b", source="'")
    assert read_decisions(write(tmp_path / "d.csv", row)).rows == (row,)


def test_a_row_that_is_not_complete_is_ignored(tmp_path):
    rows = [Decision(str(i), "1", "none") for i in range(3)]
    path = write(tmp_path / "d.csv", *rows)
    path.write_bytes(path.read_bytes()[:-3])
    assert read_decisions(path).rows == tuple(rows[:2])


def test_only_the_first_rows_are_read_on_request(tmp_path):
    rows = [Decision(str(i), "1", "none") for i in range(3)]
    before = read_decisions(write(tmp_path / "d.csv", *rows[:2]))
    write(tmp_path / "d.csv", *rows)
    assert read_decisions(tmp_path / "d.csv", before.sha256) == before
    write(tmp_path / "d.csv", *rows[1:])
    with pytest.raises(ValueError, match="does not begin with the decisions that the run was"):
        read_decisions(tmp_path / "d.csv", before.sha256)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\na,b\n", "expected the decisions.csv of `fashion-cnn label`"),
        (to_csv([Decision("a", "1", "delete")]), "row 2: got 'delete'"),
        (to_csv([]) + "a,1,none\n", "row 2: got 'none'"),
        (b"\xff\xfe\n", "expected the decisions"),
        (to_csv([])[:-1], "begins with 'nothing'; expected the decisions"),
        ("secret", "begins with 'nothing'; expected the decisions"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    (tmp_path / "d.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        read_decisions(tmp_path / "d.csv")
    with pytest.raises(FileNotFoundError, match=r"none\.csv: no such file; expected the decisions"):
        read_decisions(tmp_path / "none.csv")


def test_decisions_change_arrays(arrays, tmp_path):
    rows = [
        about(arrays, "train", 0, "label", "hat"),
        about(arrays, "train", 3, "none"),
        about(arrays, "test", 2, "none"),
        about(arrays, "test", 4, "label", "hat"),
    ]
    decisions = read_decisions(write(tmp_path / "d.csv", *rows))
    decided = decide_arrays(arrays, decisions)
    kept = np.delete(np.arange(48), 3)
    np.testing.assert_array_equal(decided.train_images, arrays.train_images[kept])
    np.testing.assert_array_equal(decided.train_labels, [1, *arrays.train_labels[kept][1:]])
    np.testing.assert_array_equal(decided.kept_test, np.delete(np.arange(12), 2))
    np.testing.assert_array_equal(decided.recorded_test_labels, np.delete(arrays.test_labels, 2))
    assert decided.test_labels[3] == 1 != decided.recorded_test_labels[3]
    held_out = {x.tobytes() for x in arrays.split("validation")[0]}  # the same images
    assert {x.tobytes() for x in decided.split("validation")[0]} == held_out - {
        arrays.train_images[3].tobytes()
    }
    assert decided.sha256["decisions"] == file_sha256(tmp_path / "d.csv")
    assert "2 relabeled, 2 left out" in decided.notes[-1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file": "train/48"}, "train/48 is not an image of arrays"),
        ({"file": "coat/1.jpg"}, r"coat/1\.jpg is not an image of arrays"),
        ({"sha256": "0"}, "train/0 is not an image of arrays, or has changed"),
        ({"label": "sock"}, "decided to be 'sock'; expected one of the classes coat, hat"),
    ],
)
def test_decisions_about_other_arrays_are_refused(arrays, tmp_path, changes, message):
    row = dataclasses.replace(about(arrays, "train", 0, "label", "hat"), **changes)
    with pytest.raises(ValueError, match=message):
        decide_arrays(arrays, read_decisions(write(tmp_path / "d.csv", row)))


def test_decisions_change_an_npz(arrays, tmp_path):
    names = np.array(CLASSES)
    np.savez(
        tmp_path / "data.npz",
        x_train=arrays.train_images,
        y_train=names[arrays.train_labels],
        x_test=arrays.test_images,
        y_test=names[arrays.test_labels],
    )
    path = write(tmp_path / "d.csv", about(arrays, "train", 0, "label", "hat"))
    data = load_data(tmp_path / "data.npz", decisions=path)
    assert data.train_labels[0] == 1 and data.decisions == str(path)


def test_decisions_change_class_folders(photos, tmp_path):
    rest = tmp_path / "rest"
    rest.mkdir()
    for name in ("new.png", "other.png"):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(rest / name)
    before = load_data(photos)
    relabeled, left_out = before.train_files[0], before.test_files[1]
    moved = before.test_files[0]
    rows = [
        about_file(photos, relabeled, "label", "hat"),
        about_file(photos, left_out, "none"),
        about_file(photos, moved, "label", "hat"),
        Decision("new.png", file_sha256(rest / "new.png"), "label", "hat", source=str(rest)),
        Decision("other.png", file_sha256(rest / "other.png"), "none", source=str(rest)),
    ]
    data = load_data(photos, decisions=write(tmp_path / "d.csv", *rows))
    assert data.train_files == (*before.train_files, str(rest / "new.png"))
    assert data.train_labels[0] == data.train_labels[-1] == 1 != before.train_labels[0]
    np.testing.assert_array_equal(data.validation_index, before.validation_index)
    new = np.asarray(Image.open(rest / "new.png"))
    np.testing.assert_array_equal(data.train_images[-1], new)
    assert data.test_files == tuple(file for file in before.test_files if file != left_out)
    assert data.test_labels[0] == 1 and data.recorded_test_labels[0] == before.test_labels[0]
    np.testing.assert_array_equal(data.kept_test, np.delete(np.arange(len(before.test_files)), 1))
    unchanged = {name: data.sha256[name] for name in before.sha256}
    assert unchanged == before.sha256  # what the folder has, and beside it the decisions
    assert data.sha256["decisions"] == file_sha256(tmp_path / "d.csv")
    assert any("2 relabeled, 1 labeled, 1 left out" in note for note in data.notes)


def test_decisions_about_other_folders_are_refused(photos, tmp_path):
    row = about_file(photos, "coat/00.png", "none")
    path = write(tmp_path / "d.csv", dataclasses.replace(row, file="train/coat/00.png"))
    with pytest.raises(ValueError, match=r"none of its pictures, such as train/coat/00\.png, is"):
        load_data(photos, decisions=path)
    gone = dataclasses.replace(row, file="coat/gone.png")
    data = load_data(photos, decisions=write(path, row, gone))  # deleted since: nothing to do
    assert any("1 left out; pictures that are not there: 1" in note for note in data.notes)


def test_pictures_from_elsewhere_do_not_change_the_images(photos, tmp_path):
    Image.new("RGB", (200, 100), "red").save(tmp_path / "large.png")
    row = Decision("large.png", file_sha256(tmp_path / "large.png"), "label", "hat")
    row = dataclasses.replace(row, source=str(tmp_path))
    data = load_data(photos, decisions=write(tmp_path / "d.csv", row))
    assert data.image_shape == load_data(photos).image_shape == (9, 9, 3)
    # replaced, and decided again: only the newer decision counts
    Image.new("RGB", (50, 50), "blue").save(tmp_path / "large.png")
    with pytest.raises(ValueError, match=r"large\.png is missing, or has changed"):
        load_data(photos, decisions=tmp_path / "d.csv")
    newer = dataclasses.replace(row, sha256=file_sha256(tmp_path / "large.png"))
    data = load_data(photos, decisions=write(tmp_path / "d.csv", row, newer))
    assert len(data.train_files) == 55 and data.train_images[-1].mean() == 85
    # moved into its folder by hand: it is there once
    (tmp_path / "large.png").rename(photos / "hat" / "large.png")
    data = load_data(photos, decisions=tmp_path / "d.csv")
    assert sum("large.png" in file for file in data.train_files + data.test_files) == 1


def test_changed_and_missing_pictures_are_refused(photos, tmp_path):
    path = tmp_path / "d.csv"
    write(path, about_file(photos, "coat/00.png", "label", "hat"))
    Image.new("RGB", (9, 9), "red").save(photos / "coat" / "00.png")
    with pytest.raises(ValueError, match=r"coat/00\.png has changed since it was decided"):
        load_data(photos, decisions=path)
    write(path, Decision("no.png", "0", "label", "hat", source=str(tmp_path)))
    with pytest.raises(ValueError, match=r"no\.png is missing, or has changed since"):
        load_data(photos, decisions=path)
    write(path, about_file(photos, "coat/01.png", "label", "sock"))
    with pytest.raises(ValueError, match="'sock'; expected one of the classes coat, hat"):
        load_data(photos, decisions=path)
    broken = tmp_path / "broken.png"
    broken.write_bytes((photos / "coat" / "02.png").read_bytes()[:60])
    row = Decision("broken.png", file_sha256(broken), "label", "hat", source=str(tmp_path))
    with pytest.raises(ValueError, match=r"broken\.png: .*"):
        load_data(photos, decisions=write(path, row))


def test_notes_tell_what_decisions_leave(photos, tmp_path):
    for split, names in (("train", ("coat", "hat")), ("test", ("coat",))):
        for name in names:
            (tmp_path / "split" / split).mkdir(parents=True, exist_ok=True)
            shutil.copytree(photos / name, tmp_path / "split" / split / name)
    folder, changed = tmp_path / "split", "train/coat/00.png"
    assert "30 test pictures are also training" in "\n".join(load_data(folder).notes)
    old = dataclasses.replace(about_file(folder, changed, "label", "hat"), sha256="1")
    tests = [about_file(folder, f"test/coat/{i:02}.png", "none") for i in range(29)]
    test = about_file(folder, "test/coat/29.png", "label", "hat")
    rows = [old, about_file(folder, changed, "label", "hat"), *tests, test]
    rows = [dataclasses.replace(row, was="coat") for row in rows]
    notes = load_data(folder, decisions=write(tmp_path / "d.csv", *rows)).notes
    text = "\n".join(notes)
    assert "2 relabeled, 29 left out" in text  # 00.png counts once
    assert "1 test pictures are also training" in text
    assert "classes without a test picture: 1 (coat)" in text


def test_a_run_keeps_the_decisions_that_it_was_trained_with(photos, tmp_path):
    row = about_file(photos, "coat/00.png", "label", "hat")
    path = write(tmp_path / "d.csv", row)
    data = load_data(photos, decisions=path)
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    recorded = {"source": data.source, "sha256": data.sha256, "class_names": data.class_names}
    run.write_environment({"data": {**recorded, "decisions": data.decisions}})
    shutil.copy(path, run.decisions_path)
    write(path, row, about_file(photos, "coat/01.png", "label", "hat"))  # more is decided
    assert load_data(photos, decisions=path).sha256 != data.sha256
    again = reload_data(find_origin(run))
    require_same_data(run, again)
    np.testing.assert_array_equal(again.train_labels, data.train_labels)
    np.testing.assert_array_equal(again.test_labels, data.test_labels)
    with pytest.raises(ValueError, match=r"with --decisions .*d\.csv, or has changed since"):
        require_same_data(run, load_data(photos, decisions=path))
    assert reload_data(data.origin).sha256 == data.sha256
