import numpy as np
import pytest

from fashion_cnn import build_model
from fashion_cnn.framework import keras


def shapes(model, kind):
    return [layer.output.shape[1] for layer in model.layers if type(layer).__name__ in kind]


def test_textbook_follows_the_code():
    model = build_model("textbook")
    assert model.count_params() == 241_546
    assert shapes(model, ("Conv2D", "MaxPooling2D", "Flatten")) == [26, 13, 11, 5, 3, 1152]


def test_padded_follows_the_table():
    model = build_model("textbook", options={"padding": "same"})
    assert model.count_params() == 503_690
    assert shapes(model, ("Conv2D", "MaxPooling2D", "Flatten")) == [28, 14, 14, 7, 5, 3200]


def test_batch_norm_and_dropout_stand_where_they_should():
    model = build_model("textbook", options={"batch_norm": True, "dropout": 0.3})
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds[1:4] == ["Conv2D", "BatchNormalization", "ReLU"]
    assert kinds[-4:] == ["Dropout", "Dense", "Dropout", "Dense"]


@pytest.mark.parametrize("options", [{}, {"batch_norm": True, "dropout": 0.3}])
def test_saved_and_loaded_it_answers_the_same(tmp_path, options):
    model = build_model("textbook", (20, 24, 3), 7, options)
    images = np.random.default_rng(0).integers(0, 256, (5, 20, 24, 3), dtype=np.uint8)
    before = model.predict(images, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(again.predict(images, verbose=0), before)
    assert before.dtype == np.float32
    np.testing.assert_allclose(before.sum(1), 1, rtol=1e-5)


def test_pixels_are_scaled_once_inside():
    model = build_model("textbook")
    np.testing.assert_allclose(model.layers[0](np.uint8([0, 51, 255])), [0, 0.2, 1], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("textbok", {}, "expected one of textbook"),
        ("textbook", {"depth": 3}, "unknown option 'depth'"),
        ("textbook", {"padding": "full"}, "expected valid or same"),
        ("textbook", {"dropout": 1.0}, "0 <= rate < 1"),
    ],
)
def test_refusals(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_model(name, options=options)
