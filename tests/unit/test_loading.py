"""Untrusted `.keras` files are read as data, or refused as not a valid model."""

import io
import json
import zipfile

import h5py
import numpy as np
import pytest

from fashion_cnn.keras_setup import keras
from fashion_cnn.models import build_model, loading
from fashion_cnn.models.loading import load_keras_file
from fashion_cnn.models.wrappers import flip_averaged


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """The members of the file of a saved model: name -> content."""
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    build_model("compact", (28, 28, 1), 4, {"width": 4, "hidden": 4}).save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zip_bytes(members, method=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("wrap", [lambda model: model, flip_averaged])
def test_a_saved_model_loads(tmp_path, wrap):
    model = wrap(build_model("textbook", (28, 28, 1), 4, {"dropout": 0.1, "batch_norm": True}))
    model.save(tmp_path / "model.keras")
    loaded = load_keras_file(tmp_path / "model.keras")
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), dtype=np.uint8)
    np.testing.assert_array_equal(model(images), loaded(images))


@pytest.mark.parametrize("share", [k / 16 for k in range(16)])
def test_a_truncated_file_is_refused(tmp_path, members, share):
    content = zip_bytes(members)
    (tmp_path / "model.keras").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"model\.keras: not a valid model"):
        load_keras_file(tmp_path / "model.keras")


def test_a_file_of_another_format_is_refused(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000))
    with pytest.raises(ValueError, match=r"model\.keras: not a valid model"):
        load_keras_file(tmp_path / "model.keras")


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_keras_file(tmp_path / "model.keras")


def with_changed_layers(members, change):
    config = json.loads(members["config.json"])
    change(config["config"]["layers"])
    return {**members, "config.json": json.dumps(config)}


def dense_configs(layers):
    return [layer["config"] for layer in layers if layer["class_name"] == "Dense"]


def make_too_wide(layers):
    dense_configs(layers)[0]["units"] = 10**9


def add_lambda(layers):
    serialized = keras.saving.serialize_keras_object(keras.layers.Lambda(lambda x: x))
    layers[3] = {**layers[3], **serialized}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (make_too_wide, "not a valid model"),
        (add_lambda, "not a valid model.*[Ll]ambda"),
        (lambda layers: layers.pop(), "not a valid model"),
        (lambda layers: dense_configs(layers)[0].update(units="many"), "not a valid model"),
    ],
)
def test_an_invalid_configuration_is_refused(tmp_path, members, change, reason):
    (tmp_path / "model.keras").write_bytes(zip_bytes(with_changed_layers(members, change)))
    with pytest.raises(ValueError, match=reason):
        load_keras_file(tmp_path / "model.keras")


def test_weight_sizes_are_checked_before_allocation(tmp_path, monkeypatch):
    build_model("textbook", (28, 28, 1), 4).save(tmp_path / "model.keras")
    monkeypatch.setattr(loading, "MAX_KERAS_BYTES", 100 * 1000)
    with pytest.raises(ValueError, match="bytes in it; at most 100,000"):
        load_keras_file(tmp_path / "model.keras")
    monkeypatch.setattr(loading, "MAX_KERAS_BYTES", (tmp_path / "model.keras").stat().st_size)
    wide = json.loads(build_model("compact", (28, 28, 1), 4, {"hidden": 10**4}).to_json())
    (tmp_path / "wide.keras").write_bytes(zip_bytes({"config.json": json.dumps(wide)}))
    with pytest.raises(ValueError, match=r"its weights would take 92,\d+,\d+ bytes"):
        load_keras_file(tmp_path / "wide.keras")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", b" " * (11 << 20), "less than 10,485,760 bytes"),
        ("config.json", b"[" * 10**6, "not a valid model"),
        ("model.weights.h5", bytes(100 << 20), "bytes in it"),
        ("model.weights.h5", b"no HDF5", "not a valid model"),
    ],
)
def test_zip_bombs_are_refused(tmp_path, monkeypatch, members, name, content, reason):
    monkeypatch.setattr(loading, "MAX_KERAS_BYTES", 99 << 20)
    bomb = zip_bytes({**members, name: content}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 5 << 20
    (tmp_path / "model.keras").write_bytes(bomb)
    with pytest.raises(ValueError, match=reason):
        load_keras_file(tmp_path / "model.keras")


def test_declared_shapes_are_compared_before_weights_are_read(tmp_path, monkeypatch, members):
    """A compressed data set that was never written takes few bytes, and as many as it declares."""
    file, names = io.BytesIO(members["model.weights.h5"]), []
    with h5py.File(file, "r+") as weights:
        weights.visititems(
            lambda name, item: names.append(name) if getattr(item, "ndim", 0) > 1 else None
        )
        del weights[names[0]]
        shape = {"shape": (8000, 8000), "dtype": "float32", "chunks": True, "compression": "gzip"}
        weights.create_dataset(names[0], **shape)
    bomb = zip_bytes({**members, "model.weights.h5": file.getvalue()}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 1 << 20
    (tmp_path / "model.keras").write_bytes(bomb)
    monkeypatch.setattr(keras.Model, "load_weights", None)  # not called
    with pytest.raises(ValueError, match=r"weights of shape \(8000, 8000\)"):
        load_keras_file(tmp_path / "model.keras")


def test_weights_much_larger_than_the_network_are_not_unpacked(tmp_path, members):
    content = {**members, "model.weights.h5": bytes(50 << 20)}
    (tmp_path / "model.keras").write_bytes(zip_bytes(content, zipfile.ZIP_DEFLATED))
    with pytest.raises(ValueError, match="52,428,800 bytes of weights for a network of"):
        load_keras_file(tmp_path / "model.keras")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    model = build_model("textbook", (28, 28, 1), 4)
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"not a valid model \(weights that are not finite\)"):
        load_keras_file(tmp_path / "model.keras")
