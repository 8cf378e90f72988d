"""Groups of pictures: found by a file or a pattern, whole in every split, and suggested."""

import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fashion_cnn.cli import run_command
from fashion_cnn.data import as_data, load_data, reload_data
from fashion_cnn.data.group_hints import PATTERN, suggest_groups
from fashion_cnn.data.recorded import find_origin, require_same_data
from fashion_cnn.run import Run

CLASSES = ("coat", "hat")
PERSON = r"([^/]+)_\d+\.png"  # what the file names below begin with


@pytest.fixture(autouse=True)
def empty_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def fill(folder, names, seed=0):
    """Small pictures of noise by class and name, each of its own."""
    rng = np.random.default_rng(seed)
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for file in names:
            image = Image.fromarray(rng.integers(0, 256, (5, 4), dtype=np.uint8))
            image.save(folder / name / f"{file}.png")


def by_person(people, each):
    return [f"{person}_{i:02}" for person in people for i in range(each)]


def write_groups(path, groups, columns="file,group"):
    path.write_text("\n".join([columns, *(f"{file},{group}" for file, group in groups.items())]))


def person_of(file):
    return re.search(PERSON, file)[1]


def splits_of(data):
    """Split -> its files."""
    held_out = {data.train_files[i] for i in data.validation_index}
    train = set(data.train_files) - held_out
    return {"train": train, "validation": held_out, "test": set(data.test_files)}


def test_each_group_is_in_one_split_and_classes_keep_their_shares(tmp_path):
    people = [f"person{k}" for k in range(40)]
    fill(tmp_path, by_person(people, 5))
    data = load_data(tmp_path, groups=PERSON)
    splits = splits_of(data)
    for name, share in (("train", 32), ("validation", 4), ("test", 4)):
        counts = Counter(Path(file).parent.name for file in splits[name])
        assert counts == {"coat": 5 * share, "hat": 5 * share}
    people_of = {name: {person_of(file) for file in files} for name, files in splits.items()}
    assert sum(map(len, people_of.values())) == len(set().union(*people_of.values())) == 40
    assert f"groups by {PERSON}: 40, the largest of 10 pictures" in data.notes
    groups = [person_of(file) for file in data.train_files]
    assert len(set(zip(groups, data.train_groups.tolist(), strict=True))) == len(set(groups))
    assert load_data(tmp_path, groups=PERSON).sha256 == data.sha256 != load_data(tmp_path).sha256


def test_few_large_groups_leave_no_split_empty(tmp_path):
    fill(tmp_path, by_person(["anna", "ben", "cy"], 10))
    people = {
        name: {person_of(file) for file in files}
        for name, files in splits_of(load_data(tmp_path, groups=PERSON)).items()
    }
    assert sorted(map(len, people.values())) == [1, 1, 1]
    fill(tmp_path / "two", by_person(["anna", "ben"], 10))
    with pytest.raises(ValueError, match=r"0 test pictures.* \(in 2 groups, each in one split\)"):
        load_data(tmp_path / "two", groups=PERSON)
    with pytest.raises(ValueError, match="puts all pictures into 1; expected two"):
        load_data(tmp_path / "two", groups=r"(\.png)")


def test_copies_of_a_file_join_two_groups(tmp_path):
    people = [f"person{k}" for k in range(20)]
    fill(tmp_path, by_person(people, 3))
    for first, second in zip(people[:10], people[10:], strict=True):
        copy = (tmp_path / "coat" / f"{first}_00.png").read_bytes()
        (tmp_path / "hat" / f"{second}_01.png").write_bytes(copy)
    for files in splits_of(load_data(tmp_path, groups=PERSON)).values():
        numbers = {int(person_of(file).removeprefix("person")) for file in files}
        assert numbers == {number + 10 for number in numbers if number < 10} | {
            number - 10 for number in numbers if number >= 10
        }


def test_a_file_in_the_folder_and_one_elsewhere_make_the_same_groups(tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    fill(photos, by_person("abcdefgh", 4))
    names = {f"{c}/{file}.png": file[0] for c in CLASSES for file in by_person("abcdefgh", 4)}
    expected = splits_of(load_data(photos, groups=PERSON))
    write_groups(photos / "groups.csv", {f"./{file}": group for file, group in names.items()})
    monkeypatch.chdir(tmp_path)
    inside = load_data(photos, groups="photos/groups.csv")
    assert inside.groups == "groups.csv"
    assert splits_of(inside).keys() == expected.keys()
    assert [len({person_of(f) for f in s}) for s in splits_of(inside).values()] == [6, 1, 1]
    assert not any("left out" in note for note in inside.notes)
    (tmp_path / "mine.CSV").write_text("\ufeffgroup,file\n" + "gone,hat/gone.png\n", "utf-8")
    with (tmp_path / "mine.CSV").open("a") as file:
        file.writelines(f"{group},{name}\n" for name, group in names.items())
    outside = load_data(photos, groups="mine.CSV")
    assert outside.groups == str(tmp_path / "mine.CSV")
    assert outside.sha256 == inside.sha256
    note = "files that it names and that are no pictures here: 1, the first hat/gone.png"
    assert note in outside.notes
    (tmp_path / "mine.CSV").rename(photos / "mine.CSV")
    moved = load_data(photos, groups=outside.groups)  # as a run has recorded it
    assert (moved.groups, moved.sha256) == (outside.groups, outside.sha256)


def test_what_a_pattern_does_not_match_is_a_group_of_its_own(tmp_path):
    fill(tmp_path, [*by_person("abcdefgh", 4), "other", "single"])
    data = load_data(tmp_path, groups=PERSON)
    note = "pictures that it does not match, each a group of its own: 4, the first coat/other.png"
    assert note in data.notes
    assert any(note.endswith(": 12, the largest of 8 pictures") for note in data.notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,group\ncoat/a_00.png,1", r"does not name: 23, the first coat/a_01\.png; expected a"),
        ("file,person\ncoat/a_00.png,1", "got file, person; expected a CSV file with the columns"),
        ("", "got no rows; expected a CSV file with the columns file and group"),
        ("file,group\na,1\na,2", "group of a: got '2' and '1'; expected one"),
        ("file,group\na,1\nb", "group of b: got nothing; expected one"),
        ("file,group\n\udcff,1", "expected a CSV file with the columns file and group"),
    ],
)
def test_files_of_groups_that_do_not_fit_are_refused(tmp_path, text, message):
    fill(tmp_path, by_person("abc", 4))
    (tmp_path / "groups.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=rf"groups\.csv: .*{message}"):
        load_data(tmp_path, groups="groups.csv")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("none.csv", r"--groups: no file 'none\.csv', here or in .*; expected a CSV file"),
        ("([a", r"--groups: got '\(\[a' \(.*\); expected a regular expression"),
        ("person", "--groups: got 'person'; expected a regular expression with a parenthesis"),
        ("person(.)", r"matches no picture, such as coat/a_00\.png; expected"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, option, message):
    fill(tmp_path, by_person("abc", 4))
    with pytest.raises((ValueError, OSError), match=message):
        load_data(tmp_path, groups=option)


def test_only_class_folders_take_the_option(tmp_path):
    images, labels = np.zeros((20, 4, 4), np.uint8), np.arange(20) % 2
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    for source in ("fashion-mnist", tmp_path / "a.npz"):
        with pytest.raises(ValueError, match=r"expected a folder of class.*train_groups=…"):
            load_data(source, groups="(.)")


def test_arrays_hold_out_whole_groups():
    rng = np.random.default_rng(0)
    images, labels = np.zeros((240, 4, 4), np.uint8), rng.integers(0, 2, 240)
    data = as_data(((images, labels), (images, labels)))
    grouped = replace(data, train_groups=np.arange(240) // 5)
    train, held_out = (
        grouped.train_groups[i] for i in (grouped.train_index, grouped.validation_index)
    )
    assert len(held_out) == 20 and not set(train) & set(held_out)
    for groups in (np.zeros(240, int), np.arange(239)):
        with pytest.raises(ValueError, match="train_groups: got"):
            replace(data, train_groups=groups)


def test_groups_that_given_splits_share_are_counted(tmp_path):
    for seed, (split, people) in enumerate([("train", "abcdefgh"), ("val", "ax"), ("test", "bcy")]):
        fill(tmp_path / split, by_person(people, 2), seed)
    notes = load_data(tmp_path, groups=PERSON).notes
    assert (
        "1 of 2 groups in validation are also in train, which makes its accuracy too high" in notes
    )
    assert "2 of 3 groups in test are also in train, which makes its accuracy too high" in notes
    assert not any("also in train" in note for note in load_data(tmp_path).notes)


def test_a_run_is_refused_when_its_groups_have_changed(tmp_path):
    fill(tmp_path, by_person("abcdefghijkl", 4))
    files = [f"{c}/{file}.png" for c in CLASSES for file in by_person("abcdefghijkl", 4)]
    write_groups(tmp_path / "groups.csv", {file: person_of(file) for file in files})
    data = load_data(tmp_path, groups="groups.csv")
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    source = {"source": data.source, "sha256": data.sha256, "class_names": data.class_names}
    run.write_environment({"data": source})
    assert find_origin(run, "x")["groups"] == ""
    run.write_environment({"data": source | {"groups": data.groups}})
    require_same_data(run, reload_data(find_origin(run, tmp_path)))
    write_groups(tmp_path / "groups.csv", {file: file[-5] for file in files})
    with pytest.raises(ValueError, match=r"trained on with --groups groups\.csv, or has changed"):
        require_same_data(run, reload_data(find_origin(run, tmp_path)))


@pytest.mark.parametrize(
    ("names", "suggested"),
    [
        (by_person(["anna", "ben", "cy"], 4), "file names suggest 3 groups, such as anna"),
        ([f"p{i % 5}-x_{i}" for i in range(20)], "file names suggest 5 groups, such as p0-x"),
        ([f"IMG_{i}" for i in range(9)] + [f"DSC_{i}" for i in range(9)], ""),
        ([f"IMG_2024{k:04}_{i}" for k in range(3) for i in range(9)], ""),
        ([f"{i % 3:03}_{i}" for i in range(18)], ""),  # numbers alone, or dates
        ([f"train_{i}" for i in range(9)] + [f"test_{i}" for i in range(9)], ""),
        ([f"name{i // 2}_{i}" for i in range(40)], "file names suggest 20 groups"),
        ([f"name{i}_{i}" for i in range(40)], ""),  # pairs at most
        ([*by_person(["anna", "ben"], 6), *"abcdefgh"], ""),  # of most names nothing is known
        ([f"{i:03}" for i in range(20)], ""),
    ],
)
def test_file_names_suggest_groups(tmp_path, names, suggested):
    fill(tmp_path, names)
    hint = suggest_groups(tmp_path, 0)
    assert hint.startswith(suggested) and bool(hint) == bool(suggested)
    if hint:
        assert load_data(tmp_path, groups=PATTERN).train_groups is not None


def test_the_name_of_a_class_and_its_abbreviation_are_no_groups(tmp_path):
    for names in (CLASSES, ("ct", "ht")):
        folder = tmp_path / names[0]
        fill(folder, [])
        for name, prefix in zip(CLASSES, names, strict=True):
            for i in range(9):
                Image.new("L", (4, 4), i).save(folder / name / f"{prefix}_{i}.png")
        assert suggest_groups(folder, 0) == ""


def test_data_suggests_groups_until_they_are_given(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "photos", [f"{i:03}" for i in range(20)])
    assert suggest_groups(tmp_path / "photos", 0) == ""
    hint = "test pictures have near-duplicates in training: --groups FILE.csv keeps"
    assert suggest_groups(tmp_path / "photos", 3).startswith(hint)
    for split in ("train", "test"):  # splits of the user's own do not change
        fill(tmp_path / "splits" / split, [f"{i:03}" for i in range(20)])
    assert suggest_groups(tmp_path / "splits", 3) == ""
    fill(tmp_path / "people", by_person(["anna", "ben", "cy", "di"], 5))
    assert run_command(["data", "--data", "people"]) == 0
    option = r"--groups '([^/]+)[-_ .][0-9]+\.[^/.]+$'"
    if sys.platform == "win32":  # whose shell knows no other quotation marks
        option = option.replace("'", '"')
    assert f"Groups      file names suggest 4 groups, such as anna: {option} keeps what" in (
        capsys.readouterr().out
    )
    assert run_command(["data", "--data", "people", "--groups", PATTERN]) == 0
    assert "Groups  " not in capsys.readouterr().out
    (tmp_path / "people" / "groups.csv").write_text("file,group\n")
    assert suggest_groups(tmp_path / "people", 0).startswith("groups.csv is in the folder: --gr")


@pytest.mark.parametrize(
    ("function", "words"), [("tune.tune", ["tune"]), ("seeds.train_seeds", ["train", "--seeds=2"])]
)
def test_several_trainings_get_the_groups(tmp_path, monkeypatch, function, words):
    calls = []

    def stop(*arguments):
        calls.append(arguments)
        raise ValueError("far enough")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(f"fashion_cnn.experiments.{function}", stop)
    fill(tmp_path / "photos", by_person("abcdefgh", 4))
    assert run_command([*words, "--data", "photos", "--groups", PERSON]) == 1
    origin = calls[0][1]
    assert (origin["source"], origin["groups"]) == (str(tmp_path / "photos"), PERSON)
