import dataclasses

import numpy as np
import pytest

from fashion_cnn import RECIPES, predict, train
from fashion_cnn.data import as_data
from fashion_cnn.framework import keras
from fashion_cnn.training.batches import Batches
from fashion_cnn.training.checkpoint import KEEP
from fashion_cnn.training.optimizers import FusedAdam

SHORT = dataclasses.replace(RECIPES["textbook"], epochs=2, batch_size=32, seed=3)
PLUS = dataclasses.replace(RECIPES["textbook-plus"], epochs=3, batch_size=32, seed=3)


def without_seconds(history):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


@pytest.mark.parametrize("recipe", [SHORT, PLUS], ids=["textbook", "plus"])
def test_same_seed_gives_the_same_run_twice(recipe, tiny_data):
    first, second = train(recipe, tiny_data), train(recipe, tiny_data)
    assert without_seconds(first.history) == without_seconds(second.history)
    for one, other in zip(first.model.variables, second.model.variables, strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_seed_gives_another_run(tiny_data):
    other = dataclasses.replace(SHORT, seed=4)
    assert train(SHORT, tiny_data).history[0]["loss"] != train(other, tiny_data).history[0]["loss"]


class Stop(keras.callbacks.Callback):
    """Breaks training off at the start of an epoch, as a signal would."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def test_a_run_broken_off_and_resumed_is_the_run_never_broken(tiny_data, tmp_path):
    whole = train(PLUS, tiny_data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(PLUS, tiny_data, tmp_path / "broken", callbacks=[Stop(2)])
    resumed = train(PLUS, tiny_data, tmp_path / "broken", resume=True)
    assert without_seconds(resumed.history) == without_seconds(whole.history)
    for one, other in zip(resumed.model.variables, whole.model.variables, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tiny_data, tmp_path):
    whole = train(PLUS, tiny_data, tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / "epoch-00003.npz"
    for damage in (newest.read_bytes()[:-100], b""):
        newest.write_bytes(damage)
        with pytest.warns(UserWarning, match=r"epoch-00003\.npz: damaged"):
            again = train(PLUS, tiny_data, tmp_path / "run", resume=True)
        assert without_seconds(again.history) == without_seconds(whole.history)


def test_a_run_whose_checkpoints_are_all_damaged_is_not_started_over(tiny_data, run_folder):
    train(SHORT, tiny_data, run_folder)
    for path in (run_folder / "checkpoints").iterdir():
        path.write_bytes(b"")
    before = (run_folder / "history.csv").read_text()
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(ValueError, match="none of its 2 checkpoints can be read"),
    ):
        train(SHORT, tiny_data, run_folder, resume=True)
    assert (run_folder / "history.csv").read_text() == before


def test_resuming_on_other_data_is_refused(tiny_data, run_folder):
    x, y = tiny_data.train_images, tiny_data.train_labels
    train(SHORT, ((x, y), (x, y)), run_folder)
    with pytest.raises(ValueError, match="was started on other data"):
        train(SHORT, ((255 - x, y), (x, y)), run_folder, resume=True)


def test_resuming_with_another_recipe_names_the_difference(tiny_data, run_folder):
    train(SHORT, tiny_data, run_folder)
    with pytest.raises(ValueError, match=r'differ in \{"seed": \[3, 4\]\}'):
        train(dataclasses.replace(SHORT, seed=4), tiny_data, run_folder, resume=True)


def test_resuming_what_is_no_run_is_refused(tiny_data, run_folder):
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        train(SHORT, tiny_data, run_folder, resume=True)


def test_a_folder_with_something_in_it_is_left_alone(tiny_data, run_folder):
    run_folder.mkdir()
    (run_folder / "thesis.txt").write_text("dear")
    with pytest.raises(ValueError, match="not empty"):
        train(SHORT, tiny_data, run_folder)
    assert [p.name for p in run_folder.iterdir()] == ["thesis.txt"]


def test_run_folder_and_saved_model(tiny_data, run_folder):
    trained = train(PLUS, tiny_data, run_folder)
    names = {p.relative_to(run_folder).as_posix() for p in run_folder.rglob("*")}
    assert names == {
        "recipe.json",
        "environment.json",
        "history.csv",
        "model.keras",
        "checkpoints",
        "checkpoints/epoch-00002.npz",
        "checkpoints/epoch-00003.npz",
    }
    assert KEEP == 2
    images = tiny_data.test_images
    np.testing.assert_array_equal(predict(run_folder, images), predict(trained.model, images))
    plain = keras.saving.load_model(run_folder / "model.keras")  # no custom objects in it
    assert plain.count_params() == trained.model.count_params()


def test_every_epoch_sees_every_training_image_once(tiny_data):
    batches = Batches(SHORT, tiny_data)
    assert len(batches) == 6
    first = batches.order
    batches.on_epoch_end()
    batches.on_epoch_begin()
    assert sorted(first) == sorted(batches.order) == sorted(tiny_data.train_index)
    assert list(first) != list(batches.order)


def test_an_image_meets_the_same_fate_in_any_batch_size(tiny_data):
    fates = []
    for batch_size in (16, 33):
        batches = Batches(dataclasses.replace(PLUS, batch_size=batch_size), tiny_data)
        images = np.concatenate([batches[step][0] for step in range(len(batches))])
        fates.append(images)
    np.testing.assert_array_equal(*fates)


def test_overfits_64_images(real_data):
    x, y = real_data.train_images[:70], real_data.train_labels[:70]
    few = dataclasses.replace(RECIPES["textbook"], epochs=60, batch_size=16)
    trained = train(few, ((x, y), (x, y)))
    assert trained.history[-1]["accuracy"] == 1
    assert trained.history[-1]["loss"] < 0.05


def test_shuffled_labels_give_chance(real_data):
    x, y = real_data.train_images[:6000], real_data.train_labels[:6000]
    shuffled = np.random.default_rng(0).permutation(y)
    once = dataclasses.replace(RECIPES["textbook"], epochs=1)
    trained = train(once, ((x, shuffled), (real_data.test_images, real_data.test_labels)))
    accuracy = (
        predict(trained.model, real_data.test_images).argmax(1) == real_data.test_labels
    ).mean()
    assert accuracy < 0.25
    trained = train(once, ((x, y), (real_data.test_images, real_data.test_labels)))
    answers = predict(trained.model, real_data.test_images).argmax(1)
    assert (answers == real_data.test_labels).mean() > 0.6  # with the true ones it learns


def test_fused_adam_is_adam():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the fused kernel is TensorFlow's")
    rng = np.random.default_rng(0)
    start = rng.normal(size=(4, 5)).astype("float32")
    ends = []
    for kind in (keras.optimizers.Adam, FusedAdam):
        variable, optimizer = keras.Variable(start), kind(0.01)
        gradients = np.random.default_rng(1)
        for _ in range(20):
            gradient = keras.ops.convert_to_tensor(gradients.normal(size=(4, 5)).astype("float32"))
            optimizer.apply([gradient], [variable])
        ends.append(np.asarray(variable))
    np.testing.assert_allclose(*ends, rtol=1e-5, atol=1e-6)
    assert not np.allclose(ends[0], start, atol=0.05)


def own_model(classes=4, activation="softmax"):
    pixels = keras.Input((28, 28, 1))
    x = keras.layers.Conv2D(8, 5, strides=3, activation="relu")(pixels)
    x = keras.layers.Flatten()(x)
    return keras.Model(pixels, keras.layers.Dense(classes, activation=activation)(x))


def test_a_model_of_your_own(tiny_data, run_folder):
    recipe = dataclasses.replace(SHORT, epochs=8)
    trained = train(recipe, tiny_data, run_folder, model=own_model(), scale="0..1")
    assert trained.history[-1]["val_accuracy"] > 0.9
    probabilities = predict(run_folder, tiny_data.test_images)  # raw pixels, as for every model
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": own_model()}, r"scale: got None; expected '0\.\.255' or '0\.\.1'"),
        ({"model": own_model(7), "scale": "0..1"}, r"expected \(None, 4\)"),
        ({"model": own_model(4, None), "scale": "0..1"}, "end in softmax"),
        ({"scale": "0..1"}, "scale: only for a model of your own"),
    ],
)
def test_a_model_that_cannot_be_right_is_refused(tiny_data, arguments, message):
    with pytest.raises(ValueError, match=message):
        train(SHORT, tiny_data, **arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x / 255, y), "expected raw pixels, uint8"),
        (lambda x, y: (x[0], y), "expected raw pixels, uint8"),
        (lambda x, y: (x, y[:-1]), "one whole number an image"),
        (lambda x, y: (x, y.astype(float)), "one whole number an image"),
        (lambda x, y: (x[:11], y[:11]), "got 11; expected at least 12"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tiny_data, change, message):
    test = (tiny_data.test_images, tiny_data.test_labels)
    with pytest.raises(ValueError, match=message):
        as_data((change(tiny_data.train_images, tiny_data.train_labels), test))


def test_what_is_no_data_is_refused():
    with pytest.raises(ValueError, match=r"expected what load_data returns, or arrays"):
        as_data(np.zeros(3))


def test_a_batch_larger_than_the_data_is_refused(tiny_data):
    with pytest.raises(ValueError, match="there are 165 training images"):
        train(dataclasses.replace(SHORT, batch_size=166), tiny_data)
