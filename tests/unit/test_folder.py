import io
import os
import re
import shutil
import sys
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fashion_cnn.data import cache, class_folders, folder, load_data


@pytest.fixture(autouse=True)
def empty_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def draw(path, seed=0, size=(40, 30), mode="RGB", **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = size[::-1] if mode == "L" else (*size[::-1], 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels, mode).save(path, **settings)
    return pixels


def fill(folder_path, classes=("coat", "hat"), each=20, seed=0, **settings):
    for k, name in enumerate(classes):
        for i in range(each):
            draw(folder_path / name / f"{i:03}.png", seed=seed + 100 * k + i, **settings)


def test_without_split_folders_each_class_is_split_80_10_10(tmp_path):
    fill(tmp_path, each=40)
    data = load_data(tmp_path)
    assert (len(data.train_files), len(data.validation_index), len(data.test_files)) == (72, 8, 8)
    assert data.class_names == ("coat", "hat")
    assert np.bincount(data.test_labels).tolist() == [4, 4]
    assert np.bincount(data.train_labels[data.validation_index]).tolist() == [4, 4]
    assert data.image_shape == (30, 40, 3)  # all are small and have the same size
    for images, files in (
        (data.train_images, data.train_files),
        (data.test_images, data.test_files),
    ):
        for image, file in zip(images, files, strict=True):
            np.testing.assert_array_equal(image, np.asarray(Image.open(tmp_path / file)))
    assert len(data.notes) == 2
    assert "no test folder" in data.notes[0]


def test_the_split_depends_on_no_machine_and_no_listing_order(tmp_path, monkeypatch):
    accent = "caf\u00e9"
    for path, form in ((tmp_path / "a", "NFC"), (tmp_path / "b", "NFD")):
        fill(path, ("\u30b7\u30e3\u30c4", unicodedata.normalize(form, accent), "a b&c"))
    first = load_data(tmp_path / "a")
    walk = class_folders.walk
    monkeypatch.setattr(class_folders, "walk", lambda p: reversed(list(walk(p))))
    second = load_data(tmp_path / "b")
    assert first.class_names == second.class_names == ("a b&c", accent, "\u30b7\u30e3\u30c4")
    test_files = [unicodedata.normalize("NFC", name) for name in second.test_files]
    assert test_files == list(first.test_files)
    np.testing.assert_array_equal(first.train_images, second.train_images)
    np.testing.assert_array_equal(first.validation_index, second.validation_index)
    # must never change: users compare results across versions
    assert first.test_files == (
        "a b&c/007.png",
        "a b&c/016.png",
        f"{accent}/002.png",
        f"{accent}/004.png",
        "\u30b7\u30e3\u30c4/012.png",
        "\u30b7\u30e3\u30c4/019.png",
    )


def test_existing_split_folders_are_used_and_class_names_are_sorted(tmp_path):
    fill(tmp_path / "train", ("b", "c", "a"), each=10)
    fill(tmp_path / "Val", ("c",), each=3, seed=1000)
    fill(tmp_path / "test", ("d", "a"), each=2, seed=2000)
    data = load_data(tmp_path)
    assert data.class_names == ("a", "b", "c", "d")
    assert Counter(data.test_labels.tolist()) == {0: 2, 3: 2}
    held_out = [data.train_files[i] for i in data.validation_index]
    assert held_out == ["Val/c/000.png", "Val/c/001.png", "Val/c/002.png"]
    assert data.train_labels[data.validation_index].tolist() == [2] * 3
    assert data.notes == (
        "no training picture of d",
        "classes without a test picture: 2 (b, c)",
    )
    assert np.bincount(data.train_labels[data.train_index]).tolist() == [10, 10, 10]


def test_a_class_may_be_named_train(tmp_path):
    fill(tmp_path, ("train", "car"))
    data = load_data(tmp_path)
    assert data.class_names == ("car", "train")
    assert "classes that are named like splits: 1 (train); splits need" in data.notes[-1]


def test_pictures_of_all_formats_and_modes_are_resized(tmp_path):
    fill(tmp_path, each=12, mode="L")
    assert load_data(tmp_path).image_shape == (30, 40, 1)  # gray stays gray
    draw(tmp_path / "hat" / "a.jpg", size=(300, 200), quality=95)
    assert load_data(tmp_path).image_shape == (64, 64, 3)
    Image.new("CMYK", (90, 90), (0, 255, 255, 0)).save(tmp_path / "hat" / "b.jpg")
    Image.new("RGBA", (90, 90), (0, 0, 255, 0)).save(tmp_path / "hat" / "c.png")
    Image.new("P", (90, 90)).save(tmp_path / "hat" / "d.gif", transparency=0)
    Image.fromarray(np.full((90, 90), 0x8000, np.uint16)).save(tmp_path / "hat" / "e.png")
    frames = [Image.new("RGB", (9, 9), color) for color in ("lime", "red")]
    frames[0].save(
        tmp_path / "hat" / "f.webp", save_all=True, append_images=frames[1:], lossless=True
    )
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise: the white top becomes the right side
    top = Image.new("RGB", (60, 60))
    top.paste("white", (0, 0, 60, 30))
    top.save(tmp_path / "hat" / "g.png", exif=exif)
    data = load_data(tmp_path, 32)
    assert data.image_shape == (32, 32, 3)
    pixels = dict(
        zip(
            (*data.train_files, *data.test_files),
            (*data.train_images, *data.test_images),
            strict=True,
        )
    )
    centers = {
        name: pixels[f"hat/{name}"][16, 16].tolist()
        for name in ("c.png", "d.gif", "e.png", "f.webp")
    }
    assert centers == {
        "c.png": [255] * 3,
        "d.gif": [255] * 3,
        "e.png": [128] * 3,
        "f.webp": [0, 255, 0],
    }
    red, green, blue = pixels["hat/b.jpg"][16, 16].astype(int)
    assert red > 200 > 60 > max(green, blue)
    assert pixels["hat/g.png"][16, 28].tolist() == [255] * 3
    assert pixels["hat/g.png"][16, 3].tolist() == [0] * 3


def test_unreadable_files_are_left_out_and_named(tmp_path):
    fill(tmp_path)
    complete = load_data(tmp_path)
    content = (tmp_path / "hat" / "003.png").read_bytes()
    (tmp_path / "hat" / "003.png").write_bytes(content[:1000])  # the header is complete
    (tmp_path / "hat" / "004.png").write_text("not a picture")
    (tmp_path / "hat" / "notes.txt").write_text("not meant to be one")
    (tmp_path / "hat" / "._005.png").write_text("written by macOS")
    data = load_data(tmp_path)
    removed = {"hat/003.png", "hat/004.png"}
    assert {*data.train_files, *data.test_files} == {
        *complete.train_files,
        *complete.test_files,
    } - removed
    (note,) = [note for note in data.notes if "unreadable" in note]
    assert note.startswith("unreadable files, left out: 2; the first: hat/003.png (")
    assert data.sha256 != complete.sha256
    listing = class_folders.list_pictures(tmp_path)
    assert (len(listing.pictures), listing.ignored) == (40, ("hat/notes.txt",))
    assert any(note.endswith("class folder): 1; the first: hat/notes.txt") for note in data.notes)


def test_the_cache_is_used_until_a_file_changes(tmp_path, monkeypatch):
    fill(tmp_path)
    before = load_data(tmp_path)
    decoded = []
    fit = folder.fit_picture
    monkeypatch.setattr(folder, "fit_picture", lambda p, *a: decoded.append(p.name) or fit(p, *a))
    cached = load_data(tmp_path)
    assert (decoded, cached.sha256) == ([], before.sha256)
    path = tmp_path / "coat" / "007.png"
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    size = path.stat().st_size
    pixels = draw(path, seed=999)
    path.write_bytes(path.read_bytes()[:size].ljust(size, b"\0"))  # the same size
    if sys.platform != "win32":  # which does not say when a file was last changed otherwise
        os.utime(path, ns=times)
    after = load_data(tmp_path)
    assert after.sha256 != before.sha256
    images = dict(
        zip(
            after.train_files + after.test_files,
            (*after.train_images, *after.test_images),
            strict=True,
        )
    )
    np.testing.assert_array_equal(images["coat/007.png"], pixels)
    (tmp_path / "coat" / "008.png").unlink()
    assert len(load_data(tmp_path).train_files) == len(before.train_files) - 1


def test_the_cache_has_a_size_limit(tmp_path, monkeypatch):
    fill(tmp_path, size=(200, 100))
    size = 40 * 32 * 32 * 3 + 128
    monkeypatch.setattr(cache, "MAX_CACHE_BYTES", 2 * size + 1000)
    arrays = cache.cache_root() / "arrays"
    for edge in (32, 31, 30):
        load_data(tmp_path, edge)
        assert sum(p.stat().st_size for p in arrays.iterdir()) <= cache.MAX_CACHE_BYTES
    load_data(tmp_path, 30)
    with pytest.raises(
        ValueError, match=r"40 images of 200x200x3 need 4,800,000 bytes.*image_size"
    ):
        load_data(tmp_path, 200)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "coat" / "000.png"))  # no folder
    with pytest.raises(OSError, match="set XDG_CACHE_HOME"):
        load_data(tmp_path, 30)


def fill_with_text(path):
    for name in "ab":
        (path / name).mkdir()
        for i in range(9):
            (path / name / f"{i}.png").write_text("no")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "expected at least two folders with pictures"),
        (lambda p: draw(p / "a.png"), "expected at least two folders with pictures"),
        (lambda p: fill(p, ("one",)), "expected at least two folders with pictures"),
        (
            lambda p: fill(p, each=3),
            "4 training, 1 validation and 1 test pictures; expected at least 12",
        ),
        (fill_with_text, r"0 training.*18 cannot be read, the first: a/0\.png: not a picture"),
    ],
)
def test_folders_unusable_for_training_are_refused(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_data(tmp_path)


def test_copies_of_a_file_are_in_the_same_split(tmp_path):
    fill(tmp_path, each=20)
    for k in range(20):
        shutil.copy(tmp_path / "hat" / f"{k:03}.png", tmp_path / "hat" / f"copy {k:03}.png")
    data = load_data(tmp_path)
    held_out = {data.train_files[i] for i in data.validation_index}
    train = set(data.train_files) - held_out
    for split in (train, held_out, set(data.test_files)):
        originals = {name.replace("copy ", "") for name in split}
        assert {name for name in split if "copy" in name} == {
            name.replace("hat/", "hat/copy ") for name in originals if name.startswith("hat/")
        }
    fill(tmp_path / "with splits" / "train", each=20)
    fill(tmp_path / "with splits" / "test", each=2)
    (note,) = [note for note in load_data(tmp_path / "with splits").notes if "also" in note]
    assert note == "4 test pictures are also training or validation pictures"


def test_split_folders_without_class_folders_are_refused(tmp_path):
    fill(tmp_path / "train", each=20)
    (tmp_path / "val").mkdir()
    assert load_data(tmp_path).class_names == ("coat", "hat")
    draw(tmp_path / "val" / "a.png")
    with pytest.raises(ValueError, match="val: has pictures, but no class folders"):
        load_data(tmp_path)


def test_hidden_files_are_left_out(tmp_path):
    fill(tmp_path)
    draw(tmp_path / "hat" / ".thumbnails" / "1.png")
    data = load_data(tmp_path)
    assert len(data.train_files) + len(data.test_files) == 40


@pytest.mark.skipif(
    sys.platform != "linux", reason="macOS and Windows have no file names that are not text"
)
def test_hidden_files_and_invalid_file_names_are_left_out(tmp_path):
    fill(tmp_path)
    draw(tmp_path / "hat" / ".thumbnails" / "1.png")
    not_utf8 = os.fsencode(tmp_path / "hat") + b"/\xff.png"
    with open(not_utf8, "wb") as file:
        file.write((tmp_path / "hat" / "001.png").read_bytes())
    data = load_data(tmp_path)
    assert len(data.train_files) + len(data.test_files) == 40
    (note,) = [note for note in data.notes if "unreadable" in note]
    assert r"hat/\udcff.png (its name is not UTF-8)" in note


def test_pictures_are_recognized_by_their_content(tmp_path):
    fill(tmp_path)
    for path in (tmp_path / "hat").iterdir():
        path.rename(path.with_suffix("" if path.stem < "010" else ".jfif"))
    data = load_data(tmp_path)
    assert len(data.train_files) + len(data.test_files) == 40
    assert not any("left out" in note for note in data.notes)


def test_folders_without_a_readable_picture_are_no_classes_and_named(tmp_path):
    fill(tmp_path)
    (tmp_path / "bird").mkdir()
    (tmp_path / "fish").mkdir()
    (tmp_path / "fish" / "a.jpg").write_text("no picture")
    (tmp_path / "readme.txt").write_text("of the data set")
    data = load_data(tmp_path)
    assert data.class_names == ("coat", "hat")
    assert "folders without a readable picture, left out: 2 (bird, fish)" in data.notes
    (note,) = [note for note in data.notes if "in no class folder" in note]
    assert note.endswith(": 1; the first: readme.txt")


def test_files_that_are_no_pictures_are_read_only_once(tmp_path, monkeypatch):
    fill(tmp_path)
    (tmp_path / "hat" / "notes.txt").write_text("no picture")
    before = load_data(tmp_path)
    monkeypatch.setattr(class_folders, "is_picture", None)
    assert load_data(tmp_path).notes == before.notes


def test_the_folder_of_a_run_in_the_data_is_not_data(tmp_path):
    fill(tmp_path)
    before = load_data(tmp_path)
    draw(tmp_path / "runs" / "one" / "plot.png")
    draw(tmp_path / "hat" / "@eaDir" / "small.png")
    for name in ("recipe.json", "environment.json"):
        (tmp_path / "runs" / "one" / name).write_text("{}")
    data = load_data(tmp_path)
    assert (data.class_names, data.sha256) == (before.class_names, before.sha256)


def test_splits_of_other_names_are_used_and_what_is_beside_them_is_named(tmp_path):
    fill(tmp_path / "seg_train" / "seg_train")
    fill(tmp_path / "seg_test" / "seg_test", each=3, seed=1000)
    fill(tmp_path, ("seg_pred",), each=2)
    data = load_data(tmp_path)
    assert (data.class_names, len(data.test_files)) == (("coat", "hat"), 6)
    (note,) = [note for note in data.notes if "left out" in note]
    assert note.endswith(": 2; the first: seg_pred/000.png")


def test_the_same_picture_in_two_classes_is_named(tmp_path):
    fill(tmp_path)
    shutil.copy(tmp_path / "coat" / "003.png", tmp_path / "hat" / "x.png")
    (note,) = [note for note in load_data(tmp_path).notes if "two classes" in note]
    assert note == "the same picture in two classes: 1; the first: hat/x.png and coat/003.png"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda p: fill(p / "photos"),
            r"got 1 \(photos\); if the folders in it are the classes, give "
            rf".*{re.escape(os.sep)}photos$",
        ),
        (
            lambda p: [fill(p, ("hat",)), (p / "notes.txt").touch()],
            r"got 1 \(hat\); files left out: 1, the first: notes\.txt",
        ),
        (
            lambda p: [fill(p, ("hat",)), fill_with_text(p)],
            r"only in the class folder hat; expected at least two \(18 cannot be read",
        ),
        (lambda p: [draw(p / s / "1.png") for s in ("Training", "Testing")], "named like splits"),
    ],
)
def test_a_folder_without_two_classes_is_refused_with_what_is_there(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_data(tmp_path)


HIDDEN_FOLDERS = {".cache", "@eaDir"}
FOLDERS = st.sampled_from(["coat", "hat", "Training", "test_set", *HIDDEN_FOLDERS])
NAMES = st.sampled_from(["a.png", "b.jfif", "c", ".e.png"])
PATHS = st.builds(lambda folders, name: (*folders, name), st.lists(FOLDERS, max_size=3), NAMES)


@settings(max_examples=60)
@given(st.dictionaries(PATHS, st.booleans(), min_size=5, max_size=12))
def test_no_file_of_any_folder_vanishes_without_a_word(files):
    png = io.BytesIO()
    Image.new("L", (3, 2)).save(png, "PNG")
    with tempfile.TemporaryDirectory() as name:
        for parts, is_picture in files.items():
            path = Path(name, *parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png.getvalue() if is_picture else b"some text")
        try:
            listing = class_folders.list_pictures(Path(name))
        except ValueError as error:
            assert "\n" not in str(error) and len(str(error)) < 500
            return
    visible = {parts for parts in files if not HIDDEN_FOLDERS & {*parts} and parts[-1] != ".e.png"}
    pictures = {tuple(p.path.split("/")): p for p in listing.pictures}
    ignored = {tuple(path.split("/")) for path in listing.ignored}
    assert pictures.keys() | ignored == visible
    assert not pictures.keys() & ignored
    for parts, picture in pictures.items():
        assert files[parts] == (picture.error is None)
        is_split = parts[0] == "Training" and parts[1] in ("coat", "hat")
        assert picture.class_name in (parts[1:2] if is_split else parts[:-1])


def test_a_truncated_picture_is_decoded_only_once(tmp_path, monkeypatch):
    fill(tmp_path)
    path = tmp_path / "hat" / "003.png"
    path.write_bytes(path.read_bytes()[:1000])
    load_data(tmp_path)
    monkeypatch.setattr(folder, "fit_picture", None)
    assert class_folders.list_pictures(tmp_path).pictures[23].error
    load_data(tmp_path)  # from the cache alone
    monkeypatch.setattr(class_folders, "_decoder_versions", lambda: "pillow 99")
    listing = class_folders.list_pictures(tmp_path)
    assert not listing.pictures[23].error  # other versions might read it


def test_imbalanced_classes_are_noted(tmp_path):
    fill(tmp_path, ("coat",), each=50)
    fill(tmp_path, ("hat",), each=10, seed=1000)
    (note,) = [note for note in load_data(tmp_path).notes if "class_weights" in note]
    assert note.startswith("40 training pictures of coat, 8 of hat:")
