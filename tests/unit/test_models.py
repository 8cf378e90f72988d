import numpy as np
import pytest

from fashion_cnn import build_model
from fashion_cnn.keras_setup import keras
from fashion_cnn.models.wrappers import flip_averaged


def output_sizes(model, layer_types):
    """The second axis of the output of each layer of these types."""
    chosen = [layer for layer in model.layers if type(layer).__name__ in layer_types]
    return [layer.output.shape[1] for layer in chosen]


def test_textbook_with_valid_padding():
    model = build_model("textbook")
    assert model.count_params() == 241_546
    assert output_sizes(model, ("Conv2D", "MaxPooling2D", "Flatten")) == [26, 13, 11, 5, 3, 1152]


def test_textbook_with_same_padding():
    model = build_model("textbook", options={"padding": "same"})
    assert model.count_params() == 503_690
    assert output_sizes(model, ("Conv2D", "MaxPooling2D", "Flatten")) == [28, 14, 14, 7, 5, 3200]


def test_positions_of_batch_norm_and_dropout():
    model = build_model("textbook", options={"batch_norm": True, "dropout": 0.3})
    names = [type(layer).__name__ for layer in model.layers]
    assert names[1:4] == ["Conv2D", "BatchNormalization", "ReLU"]
    assert names[-4:] == ["Dropout", "Dense", "Dropout", "Dense"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("textbook", {}),
        ("textbook", {"batch_norm": True, "dropout": 0.3}),
        ("compact", {}),
        ("compact", {"convolutions": 2, "dropout": 0.3}),
        ("compact", {"stem": 0}),
        ("residual", {}),
        ("residual", {"repeats": 2, "drop_path": 0.5}),
    ],
)
def test_a_saved_and_loaded_model_predicts_the_same(tmp_path, name, options):
    channels = 1 if options.get("stem") == 0 else 3
    model = build_model(name, (20, 24, channels), 7, options)
    images = np.random.default_rng(0).integers(0, 256, (5, 20, 24, channels), dtype=np.uint8)
    probabilities = model.predict(images, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), probabilities)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


def test_the_model_scales_pixels_itself():
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
def test_invalid_names_and_options_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_model(name, options=options)


def test_compact_shapes_and_invalid_options():
    model = build_model("compact", options={"convolutions": 2})
    assert output_sizes(model, ("Conv2D", "MaxPooling2D", "Flatten")) == [
        27,
        27,
        13,
        13,
        13,
        6,
        6,
        2304,
    ]
    assert model.output_shape == (None, 10)
    for options, message in (
        ({"blocks": 5}, "blocks, convolutions: got 5, 1"),
        ({"convolutions": 0}, "got 2, 0"),
        ({"dropout": 1.0}, "dropout: got 1.0"),
        ({"width": 0}, "width: got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            build_model("compact", options=options)


@pytest.mark.parametrize("name", ["compact", "residual"])
def test_the_stem_of_0_filters_is_fixed_and_for_gray_images(name):
    model = build_model(name, options={"stem": 0})
    stem = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    assert [tuple(weight.shape) for weight in stem.weights] == [(2, 2, 1, 8)]
    assert not stem.trainable_weights
    patch = np.array([[0.1, 0.2], [0.4, 0.8]], np.float32)
    (a, b), (c, d) = patch
    wavelets = np.array([0.5, 2, 2, 3]) * (
        a + b + c + d,
        a + b - c - d,
        a - b + c - d,
        a - b - c + d,
    )
    expected = np.maximum([*wavelets, *-wavelets], 0)
    np.testing.assert_allclose(np.ravel(stem(patch[None, ..., None])), expected, atol=1e-6)
    color = build_model(name, (28, 28, 3), options={"stem": 0})
    assert len(color.trainable_weights) == len(build_model(name, (28, 28, 3)).trainable_weights)


def test_residual_shapes_shortcuts_and_invalid_options():
    model = build_model("residual")
    layer_types = ("Conv2D", "MaxPooling2D", "GlobalAveragePooling2D")
    assert output_sizes(model, layer_types) == [27, 27, 27, 13, 13, 13, 13, 6, 6, 6, 128]
    assert model.output_shape == (None, 10)
    additions = [x for x in model.layers if isinstance(x, keras.layers.Add)]
    assert [[x.shape[1:] for x in layer.input] for layer in additions] == [
        [(13, 13, 64)] * 2,
        [(6, 6, 128)] * 2,
    ]
    for options, message in (
        ({"blocks": 5}, "blocks, convolutions: got 5, 3"),
        ({"convolutions": 1}, "convolutions: got 1; expected at least 2"),
        ({"hidden": 0}, "hidden: got 0"),
        ({"repeats": 0}, "repeats: got 0"),
        ({"drop_path": 1.0}, "drop_path: got 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            build_model("residual", options=options)


def test_drop_path_skips_residual_branches_per_image_in_training_only():
    options = {"width": 8, "repeats": 2, "drop_path": 0.4}
    model = build_model("residual", options=options)
    dropouts = [x for x in model.layers if isinstance(x, keras.layers.Dropout)]
    assert [x.rate for x in dropouts] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert [x.output.shape[1:] for x in dropouts] == [(13, 13, 8)] * 2 + [(6, 6, 16)] * 2
    last = keras.Model(model.input, [dropouts[-1].input, dropouts[-1].output])
    images = np.random.default_rng(0).integers(0, 256, (200, 28, 28, 1), dtype=np.uint8)
    before, after = (np.asarray(x).reshape(200, -1) for x in last(images, training=True))
    dropped = (after == 0).all(1)
    assert 45 < dropped.sum() < 115  # 80, five standard deviations each way
    np.testing.assert_allclose(after[~dropped], before[~dropped] / 0.6, rtol=1e-5)
    before, after = last(images)
    np.testing.assert_array_equal(before, after)


def test_flip_average_is_the_mean_over_both_orientations(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), dtype=np.uint8)
    model = build_model("compact")
    averaged = flip_averaged(model)
    probabilities = averaged.predict(images, verbose=0)
    of_flipped = averaged.predict(images[:, :, ::-1], verbose=0)
    np.testing.assert_allclose(probabilities, of_flipped, atol=1e-6)
    single = [model.predict(x, verbose=0) for x in (images, images[:, :, ::-1])]
    np.testing.assert_allclose(probabilities, (single[0] + single[1]) / 2, atol=1e-6)
    averaged.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), probabilities)
    assert averaged.count_params() == model.count_params()
