import gzip
import os
import re
import shutil
import struct
import sys

import numpy as np
import pytest

from fashion_cnn.data import fashion_mnist, load_data
from fashion_cnn.data.cache import cache_root
from fashion_cnn.data.fashion_mnist import CLASS_NAMES, FILES


def write_files(folder, skip=(), shapes=None):
    folder.mkdir(parents=True, exist_ok=True)
    for name, shape in FILES.items():
        shape = (shapes or {}).get(name, shape)
        header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
        if name not in skip:
            (folder / name).write_bytes(header + bytes(int(np.prod(shape))))
    return folder


def test_shapes_and_labels(real_data):
    assert real_data.train_images.shape == (60000, 28, 28)
    assert real_data.test_images.shape == (10000, 28, 28)
    assert real_data.train_images.dtype == np.uint8
    assert real_data.class_names == CLASS_NAMES
    assert np.bincount(real_data.train_labels).tolist() == [6000] * 10
    assert np.bincount(real_data.test_labels).tolist() == [1000] * 10
    assert real_data.train_labels[0] == 9  # the data set's first image is an ankle boot


def set_folder(folder, monkeypatch):
    """Set the variable that names a folder with Fashion-MNIST."""
    monkeypatch.setenv("FASHION_CNN_DATA", str(folder))


def test_wrong_checksum_is_explained(tmp_path, monkeypatch):
    set_folder(write_files(tmp_path), monkeypatch)
    with pytest.raises(ValueError, match=r"right shape but not Fashion-MNIST.*plain MNIST"):
        load_data()


def test_wrong_shape_names_both_shapes(tmp_path, monkeypatch):
    set_folder(write_files(tmp_path, shapes={"train-images-idx3-ubyte": (5, 28, 28)}), monkeypatch)
    with pytest.raises(ValueError, match=r"\(5, 28, 28\); Fashion-MNIST has \(60000, 28, 28\)"):
        load_data()


def test_missing_file_is_named(tmp_path, monkeypatch):
    folder = write_files(tmp_path, skip=["t10k-labels-idx1-ubyte"])
    with pytest.raises(FileNotFoundError, match="missing t10k-labels"):
        load_data(str(folder))
    set_folder(folder, monkeypatch)
    with pytest.raises(FileNotFoundError, match="missing t10k-labels-idx1-ubyte"):
        load_data()


def test_a_missing_folder_is_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="--data: no folder"):
        load_data(str(tmp_path / "nowhere"))
    set_folder(tmp_path / "nowhere", monkeypatch)
    with pytest.raises(FileNotFoundError, match="FASHION_CNN_DATA: no folder"):
        load_data()


def test_a_folder_with_one_changed_file_is_refused(tmp_path, real_data):
    for name in FILES:
        path = fashion_mnist.find_file(fashion_mnist.Path(real_data.location), name)
        shutil.copy(path, tmp_path / path.name)
    assert load_data(str(tmp_path)).class_names == CLASS_NAMES
    images, _ = fashion_mnist.read_idx(tmp_path / path.with_name("t10k-images-idx3-ubyte.gz").name)
    (tmp_path / "t10k-images-idx3-ubyte.gz").unlink()
    header = struct.pack(">HBB3I", 0, 8, 3, *images.shape)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(header + (images ^ 1).tobytes())
    with pytest.raises(
        ValueError, match="t10k-images-idx3-ubyte: right shape but not Fashion-MNIST"
    ):
        load_data(str(tmp_path))


@pytest.fixture
def empty_machine(tmp_path, monkeypatch):
    """Empty caches, no Debian package, and unreachable mirrors."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", fashion_mnist.Path("nowhere"))
    monkeypatch.setattr(fashion_mnist, "MIRRORS", ("http://127.0.0.1:9/",))
    return tmp_path


def test_environment_variable_names_the_folder(empty_machine, monkeypatch):
    monkeypatch.setenv("FASHION_CNN_DATA", str(write_files(empty_machine / "given")))
    with pytest.raises(ValueError, match=r"given.*not Fashion-MNIST"):
        load_data()


def test_unreachable_mirrors_are_listed(empty_machine, monkeypatch):
    monkeypatch.setattr(fashion_mnist.shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"127\.0\.0\.1.*apt-get.*--data"):
        load_data()
    assert not list((empty_machine / "cache").rglob("*ubyte*"))


def test_a_cache_that_cannot_be_written_is_named(empty_machine, monkeypatch):
    (empty_machine / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(empty_machine / "file"))
    below = re.escape(f"file{os.sep}")
    message = rf"{below}.*cannot be written.*set XDG_CACHE_HOME.*--data"
    with pytest.raises(OSError, match=message):
        load_data()


def test_a_wrong_file_from_a_mirror_is_not_stored(empty_machine, monkeypatch):
    def bad_mirror(mirror, scratch):
        return write_files(scratch)

    monkeypatch.setattr(fashion_mnist, "_from_mirror", bad_mirror)
    monkeypatch.setattr(fashion_mnist.shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match="not Fashion-MNIST"):
        load_data()
    assert not list((empty_machine / "cache").rglob("*ubyte*"))


def test_a_wrong_file_in_a_cache_is_named_and_skipped(empty_machine, monkeypatch, real_data):
    write_files(empty_machine / "keras" / "datasets" / "fashion-mnist")
    location = fashion_mnist.Path(real_data.location)
    folder = location.resolve()
    if sys.platform != "win32":  # where it may be on another drive
        folder = folder.relative_to("/")
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", folder)
    with pytest.warns(UserWarning, match=r"keras.*not Fashion-MNIST.*looking elsewhere"):
        assert load_data().location == str(location)


def test_good_mirror_fills_the_cache(empty_machine, monkeypatch, real_data):
    def good_mirror(mirror, scratch):
        for name in FILES:
            path = fashion_mnist.find_file(fashion_mnist.Path(real_data.location), name)
            content = path.read_bytes()
            compressed = content if path.suffix == ".gz" else gzip.compress(content, 1)
            (scratch / f"{name}.gz").write_bytes(compressed)
        return scratch

    monkeypatch.setattr(fashion_mnist, "_from_mirror", good_mirror)
    first = load_data()
    monkeypatch.setattr(fashion_mnist, "_from_mirror", None)
    second = load_data()
    assert first.location == second.location == str(cache_root() / "fashion-mnist")
    np.testing.assert_array_equal(second.test_images, real_data.test_images)


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("apt-get") and shutil.which("dpkg-deb")), reason="apt-get is not installed"
)
def test_debian_package_is_downloaded_without_installing_it(tmp_path):
    try:
        folder = fashion_mnist._from_debian(tmp_path)
    except OSError as error:
        pytest.skip(f"no Debian mirror is reachable: {error}")
    assert sorted(p.name for p in folder.iterdir()) == sorted(f"{name}.gz" for name in FILES)
    assert folder.is_relative_to(tmp_path)
