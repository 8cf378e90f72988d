import gzip
import os
import re
import struct

import numpy as np
import pytest

from fashion_cnn.data import as_data, load_data, mnist

LABELS = np.array([3, 7, 9, 7] * 5, np.uint8)


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write(
    folder, prefix="", test="t10k", dash="-", compress=False, labels=LABELS, shape=(20, 6, 8)
):
    folder.mkdir(exist_ok=True)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for split in ("train", test):
        for kind, array in (("images", images), ("labels", labels)):
            content = idx(array)
            name = f"{prefix}{split}-{kind}{dash}idx{array.ndim}-ubyte{'.gz' * compress}"
            (folder / name).write_bytes(gzip.compress(content) if compress else content)
    return images


@pytest.mark.parametrize(
    "layout", [{}, {"compress": True}, {"dash": "."}, {"prefix": "qq-", "test": "test"}], ids=str
)
def test_idx_files_of_all_naming_schemes_are_found(tmp_path, layout):
    images = write(tmp_path, **layout)
    data = load_data(tmp_path)
    assert data.class_names == ("3", "7", "9")
    np.testing.assert_array_equal(data.train_images, images)
    np.testing.assert_array_equal(data.test_labels, np.searchsorted([3, 7, 9], LABELS))
    assert data.image_shape == (6, 8, 1)
    assert set(data.sha256) == {f"{s}-{k}" for s in ("train", "test") for k in ("images", "labels")}
    assert load_data(tmp_path).sha256 == data.sha256
    assert len(data.validation_index) == 2


def test_idx_with_color_channels(tmp_path):
    write(tmp_path, shape=(20, 6, 8, 3))
    assert load_data(tmp_path).image_shape == (6, 8, 3)


def test_emnist_is_transposed_and_has_letters_as_class_names(tmp_path):
    images = write(tmp_path, prefix="emnist-letters-", test="test", compress=True)
    (tmp_path / "emnist-letters-mapping.txt").write_text("3 67 99\n7 71\n9 73 105\n")
    data = load_data(tmp_path)
    assert data.class_names == ("C/c", "G", "I/i")
    np.testing.assert_array_equal(data.train_images[3], images[3].T)


def test_labels_are_numbered_alike_in_idx_npz_and_arrays(tmp_path):
    """As EMNIST's letters, 1 to 26."""
    labels = np.arange(40, dtype=np.uint8) % 26 + 1
    x = write(tmp_path / "idx", labels=labels, shape=(40, 6, 8))
    path = npz(tmp_path / "a.npz", x_train=x, y_train=labels[:, None], x_test=x, y_test=labels)
    arrays = as_data(((x, labels.astype(int)), (x, labels[:, None])))
    for data in (load_data(tmp_path / "idx"), load_data(path), arrays):
        assert data.class_names == tuple(str(k) for k in range(1, 27))
        np.testing.assert_array_equal(data.train_labels, labels - 1)
        np.testing.assert_array_equal(data.test_labels, labels - 1)


def test_channels_first_is_named_in_idx_and_npz(tmp_path):
    x = write(tmp_path / "idx", shape=(20, 3, 6, 8))
    for source in (tmp_path / "idx", npz(tmp_path / "a.npz", x_train=x, x_test=x)):
        with pytest.raises(ValueError, match=r"channels first; .* use np\.moveaxis\(x, 1, -1\)"):
            load_data(source)


def test_emnist_images_that_are_none_are_refused(tmp_path):
    write(tmp_path, prefix="emnist-letters-", test="test", shape=(20,))
    with pytest.raises(ValueError, match=r"train images: got uint8 \(20.*expected raw pixels"):
        load_data(tmp_path)


def test_a_class_of_one_split_only_keeps_its_rank(tmp_path):
    write(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.full(20, 8, np.uint8)))
    data = load_data(tmp_path)
    assert data.class_names == ("3", "7", "8", "9")
    assert set(data.test_labels) == {2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: write(d, prefix="emnist-mnist-"), r"more than one data set \(\*, emnist-mnist-"),
        (lambda d: (d / "t10k-labels-idx1-ubyte").unlink(), "missing t10k-labels"),
        (
            lambda d: (d / "t10k-labels-idx1-ubyte").write_bytes(idx(LABELS[:9])),
            r"expected one integer",
        ),
        (lambda d: (d / "t10k-labels-idx1-ubyte").write_bytes(b"no"), "not IDX"),
    ],
)
def test_invalid_idx_folders_are_refused(tmp_path, change, message):
    write(tmp_path)
    change(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_data(tmp_path)


def test_an_invalid_mapping_is_named(tmp_path):
    write(tmp_path, prefix="emnist-x-", test="test")
    (tmp_path / "emnist-x-mapping.txt").write_text("3 not-a-number")
    with pytest.raises(ValueError, match=r"mapping\.txt: damaged"):
        load_data(tmp_path)


def npz(path, **changes):
    x = np.random.default_rng(0).integers(0, 256, (20, 5, 5, 3), dtype=np.uint8)
    arrays = {"x_train": x, "y_train": LABELS[:, None], "x_test": x, "y_test": LABELS} | changes
    np.savez_compressed(path, **{name: x for name, x in arrays.items() if x is not None})
    return path


def test_npz_with_integer_or_text_labels(tmp_path):
    data = load_data(npz(tmp_path / "a.npz"))
    assert (data.class_names, data.image_shape) == (("3", "7", "9"), (5, 5, 3))
    assert set(data.sha256) == set(mnist.NPZ_KEYS)
    words = np.array(["coat", "shoe"] * 10)
    data = load_data(npz(tmp_path / "b.npz", y_train=words, y_test=words))
    assert (data.class_names, data.test_labels[:2].tolist()) == (("coat", "shoe"), [0, 1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, "has no y_test but x_train, y_train, x_test"),
        ({"x_train": np.zeros((20, 5, 5))}, "got float64.*uint8 0..255"),
        ({"y_train": np.zeros(20)}, "labels: got float64 and uint8; expected one integer"),
        ({"y_test": np.array(["a"] * 20)}, "labels: got uint8 and <U1"),
        ({"y_train": np.array([{}] * 20)}, "pickle"),
        ({"x_test": np.zeros((20, 4, 5, 3), np.uint8)}, "differ in shape"),
    ],
)
def test_npz_with_invalid_arrays_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=rf"a\.npz: .*{message}"):
        load_data(npz(tmp_path / "a.npz", **changes))


@pytest.mark.parametrize("below", ["raw", "FashionMNIST/raw"])
def test_the_root_folder_of_torchvision_is_looked_through(tmp_path, below):
    folder = tmp_path / below
    folder.mkdir(parents=True)
    images = write(folder)
    np.testing.assert_array_equal(load_data(tmp_path).train_images, images)
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    write(tmp_path / "MNIST" / "raw")
    below = re.escape(os.path.join("MNIST", "raw"))
    with pytest.raises(ValueError, match=rf"more than one data set \(.*{below}"):
        load_data(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("photos.zip", "unpack it, and give the folder"),
        ("train.CSV", "CSV is not read; expected an .npz of x_train.*numpy.savez"),
        ("train-images-idx3-ubyte.gz", "give the folder that holds them"),
    ],
)
def test_data_in_other_forms_is_refused_with_what_to_do(tmp_path, name, message):
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=message):
        load_data(tmp_path / name)


def test_an_archive_of_many_files_is_refused_in_few_words(tmp_path):
    np.savez(tmp_path / "a.npz", **{f"photo {i}": np.zeros(1) for i in range(2000)})
    with pytest.raises(ValueError, match=r"has no x_train.* but photo 0, .*, …") as error:
        load_data(tmp_path / "a.npz")
    assert len(str(error.value)) < 400


def test_damaged_or_too_large_npz_is_refused(tmp_path, monkeypatch):
    path = npz(tmp_path / "a.npz")
    content = path.read_bytes()
    for damaged in (b"", b"text", content[:-30], content[:200] + bytes(50) + content[250:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.npz: "):
            load_data(path)
    path.write_bytes(content)
    monkeypatch.setattr(mnist, "MAX_NPZ_BYTES", 1000)
    with pytest.raises(ValueError, match="bytes in it; at most 1,000"):
        load_data(path)
