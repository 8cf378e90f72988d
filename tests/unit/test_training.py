import dataclasses
import importlib.util
import json
import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from command import run_on_jax, write_data_npz
from rounding import ROUNDING, relative_difference

from fashion_cnn import RECIPES, evaluate, predict, train
from fashion_cnn.data import as_data
from fashion_cnn.evaluation import measure_run
from fashion_cnn.keras_setup import bfloat16_is_fast, keras
from fashion_cnn.models import build_model
from fashion_cnn.models.forward import BATCH, compile_forward
from fashion_cnn.recipe import fit_to_data, read_recipe
from fashion_cnn.report import draw_run
from fashion_cnn.run import STARTED, Run
from fashion_cnn.training.batches import (
    chunks,
    count_steps,
    epoch_images,
    epoch_plan,
    training_index,
)
from fashion_cnn.training.checkpoint import KEEP, repair
from fashion_cnn.training.normalization import training_copy
from fashion_cnn.training.optimizers import FusedAdam, FusedSGD, Triangle, make_optimizer
from fashion_cnn.training.steps import class_weights, compile_steps

# 165 images: the last batch has 20, which is still worked on in halves
SHORT = dataclasses.replace(RECIPES["textbook"], epochs=2, batch_size=29, seed=3)
PLUS = dataclasses.replace(RECIPES["textbook-plus"], epochs=3, batch_size=29, seed=3)
SPRINT = dataclasses.replace(RECIPES["sprint"], epochs=3, batch_size=29, flip_average=True)


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


@pytest.mark.parametrize("recipe", [PLUS, SPRINT], ids=["plus", "sprint"])
def test_a_resumed_run_equals_an_uninterrupted_one(recipe, tiny_data, tmp_path):
    whole = train(recipe, tiny_data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tiny_data, tmp_path / "broken", callbacks=[Stop(2)])
    resumed = train(recipe, tiny_data, tmp_path / "broken", resume=True)
    assert without_seconds(resumed.history) == without_seconds(whole.history)
    for one, other in zip(resumed.model.variables, whole.model.variables, strict=True):
        np.testing.assert_array_equal(one, other)


def test_large_checkpoints_are_not_written_each_epoch(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr("fashion_cnn.training.checkpoint.LARGE_BYTES", 0)
    recipe = dataclasses.replace(SPRINT, epochs=5)
    whole = train(recipe, tiny_data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tiny_data, tmp_path / "broken", callbacks=[Stop(3)])
    names = [path.name for path in (tmp_path / "broken" / "checkpoints").iterdir()]
    assert names == ["epoch-00001.npz"]  # the next would have come ten seconds later
    resumed = train(recipe, tiny_data, tmp_path / "broken", resume=True)
    assert without_seconds(resumed.history) == without_seconds(whole.history)
    assert (tmp_path / "broken" / "checkpoints" / "epoch-00005.npz").is_file()
    for one, other in zip(resumed.model.variables, whole.model.variables, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
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
    with pytest.raises(ValueError, match="is not what this run was trained on"):
        train(SHORT, ((255 - x, y), (x, y)), run_folder, resume=True)


def test_a_run_can_be_given_in_place_of_its_model(tiny_data, run_folder):
    trained = train(SHORT, tiny_data, run_folder)
    images = tiny_data.test_images[:3]
    expected = predict(trained.model, images)
    for run in (trained.run, str(run_folder), Run(run_folder)):
        np.testing.assert_array_equal(predict(run, images), expected)


def test_keras_shows_its_own_progress_on_request(tiny_data, capsys):
    train(SHORT, tiny_data, verbose=2)
    assert "Epoch 2/2" in capsys.readouterr().out


def test_a_recipe_given_by_name_is_fitted_to_few_images(tiny_data, run_folder):
    train_part = tiny_data.train_images[:60], tiny_data.train_labels[:60]
    few = as_data((train_part, (tiny_data.test_images, tiny_data.test_labels)))
    trained = train("sprint", few, run_folder)
    recipe = read_recipe(Run(run_folder))
    assert recipe == fit_to_data(RECIPES["sprint"], few)
    assert recipe.skip_easy == 0 < RECIPES["sprint"].skip_easy
    assert (recipe.batch_size, len(trained.history)) == (8, 30)
    with pytest.raises(ValueError, match="batch_size: got 128; there are 55 training images"):
        train(RECIPES["sprint"], few)


def test_resuming_with_another_recipe_names_the_difference(tiny_data, run_folder):
    train(SHORT, tiny_data, run_folder)
    with pytest.raises(ValueError, match=r'requested\) are \{"seed": \[3, 4\]\}'):
        train(dataclasses.replace(SHORT, seed=4), tiny_data, run_folder, resume=True)


def test_a_finished_run_goes_on_to_more_epochs(tiny_data, tmp_path):
    recipe = dataclasses.replace(SHORT, ema=0.9)
    folder, whole = tmp_path / "run", train(recipe, tiny_data)
    train(recipe, tiny_data, folder, epochs=1)
    run = Run(folder)
    measure_run(run, tiny_data)
    for name in ("model.onnx.json", "report.html", "notes.txt"):
        (folder / name).write_text("made of one epoch")
    run.write_checksums()
    longer = train(recipe, tiny_data, folder, resume=True)
    assert without_seconds(longer.history) == without_seconds(whole.history)
    images = tiny_data.test_images
    np.testing.assert_array_equal(predict(run, images), predict(whole.model, images))
    assert read_recipe(run) == recipe
    left = {path.name for path in folder.iterdir()}
    assert left == {
        *STARTED,
        "history.csv",
        "model.keras",
        "checkpoints",
        "SHA256SUMS",
        "notes.txt",
    }
    with pytest.raises(ValueError, match="started with another recipe"):
        train(recipe, tiny_data, folder, epochs=1, resume=True)


def test_a_schedule_that_has_ended_is_not_continued(tiny_data, run_folder):
    train(SPRINT, tiny_data, run_folder, epochs=1)
    before = sorted(run_folder.rglob("*"))
    command = re.escape(f"fashion-cnn train {run_folder / 'recipe.json'} --epochs 3")
    expected = f"falls to 0 at epoch 1 .*: {command}"
    with pytest.raises(ValueError, match=expected):
        train(SPRINT, tiny_data, run_folder, resume=True)
    assert (sorted(run_folder.rglob("*")), Run(run_folder).damaged_files()) == (before, [])


def test_a_run_with_a_model_of_ones_own_is_not_resumed_without_it(tiny_data, run_folder):
    train(SHORT, tiny_data, run_folder, epochs=1, model=own_model(), scale="0..1")
    with pytest.raises(ValueError, match="another model; resume it from Python, with model="):
        train(SHORT, tiny_data, run_folder, resume=True)


def test_a_damaged_run_with_more_epochs_is_repaired_to_these(tiny_data, run_folder):
    for epochs in (1, 2):
        train(SHORT, tiny_data, run_folder, epochs=epochs, resume=epochs == 2)
    (run_folder / "checkpoints" / "epoch-00002.npz").write_bytes(b"")
    repair(Run(run_folder))  # the checkpoint before was written when the recipe had one epoch
    assert read_recipe(Run(run_folder)).epochs == 2


@pytest.mark.parametrize("epochs", [0, 2.5])
def test_impossible_epochs_are_refused(tiny_data, epochs):
    with pytest.raises(ValueError, match=f"epochs: got '?{epochs}'?; expected a"):
        train("textbook", tiny_data, epochs=epochs)


def test_keras_evaluates_the_trained_model(tiny_data):
    model = train(SPRINT, tiny_data, epochs=1).model
    images, labels = tiny_data.test_images, tiny_data.test_labels
    loss, accuracy = model.evaluate(images, labels, verbose=0)
    expected = evaluate(model, images, labels)
    assert (loss, accuracy) == pytest.approx((expected["loss"], expected["accuracy"]), rel=1e-4)


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
        "SHA256SUMS",
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
    index = training_index(SHORT, tiny_data)
    plans = [epoch_plan(SHORT, epoch, index, np.zeros(180)) for epoch in (0, 1)]
    first, second = (order for order, _ in plans)
    assert sorted(first) == sorted(second) == sorted(tiny_data.train_index)
    assert list(first) != list(second)
    seen = [np.concatenate(x) for x in zip(*chunks(SHORT, tiny_data, plans[0], 64), strict=True)]
    np.testing.assert_array_equal(seen[0], first)
    np.testing.assert_array_equal(seen[2], tiny_data.train_labels[first])


def test_later_epochs_skip_images_that_are_easy():
    """Of 165 images all but three batches of 29: 78 of the 156 easiest; 9 are in every epoch."""
    recipe = dataclasses.replace(SHORT, skip_easy=0.4)
    index = np.arange(10, 175)
    confidences = np.random.default_rng(0).permutation(180).astype(np.float32)
    hardest = index[np.argsort(confidences[index])[:9]]
    orders = [epoch_plan(recipe, epoch, index, confidences)[0] for epoch in range(4)]
    assert [len(order) for order in orders] == [165, 87, 87, 87]
    assert [epoch_images(recipe, epoch, 165) for epoch in range(4)] == [165, 87, 87, 87]
    assert count_steps(recipe, 165, range(4)) == 6 + 3 * 3
    weighted = dataclasses.replace(recipe, class_weights=True)
    assert count_steps(weighted, 165, range(4)) == 4 * 6
    for order in orders[1:]:
        assert len(set(order)) == 87 and set(order) <= set(index) and {*hardest} <= {*order}
    assert set(orders[1]) != set(orders[2])  # drawn anew
    nearly = confidences.copy()  # as another machine rounds: the order of some is another
    np.add.at(nearly, np.argsort(confidences)[100:150], np.tile([1.5, -1.5], 25))
    assert set(epoch_plan(recipe, 1, index, nearly)[0]) == set(orders[1])


def test_the_learning_rate_ends_at_0_with_images_left_out(tiny_data):
    trained = train(dataclasses.replace(SPRINT, skip_easy=0.4), tiny_data)
    rates = [row["learning_rate"] for row in trained.history]
    assert rates[1] > 0.01 and rates[2] < 0.001


def test_confidences_are_those_of_the_labels(tiny_data):
    images, labels = tiny_data.train_images[:17, ..., None], tiny_data.train_labels[:17]
    keras.utils.set_random_seed(0)
    model = build_model("textbook", (28, 28, 1), 4)
    expected = model.predict(images, verbose=0)[np.arange(17), labels]
    model.compile(keras.optimizers.SGD(1e-9), keras.losses.CategoricalCrossentropy())
    for halves in (True, False):
        _, _, confidences = compile_steps(model, 5, halves)(images, labels.astype(np.int32))
        np.testing.assert_allclose(confidences, expected, rtol=1e-4)
    soft = 0.6 * np.eye(4, dtype=np.float32)[labels] + np.float32(0.1)
    _, _, confidences = compile_steps(model, 17, soft_labels=True)(images, soft)
    np.testing.assert_allclose(confidences, expected, rtol=1e-4)


def test_an_image_meets_the_same_fate_in_any_chunk(tiny_data):
    plan = epoch_plan(PLUS, 1, training_index(PLUS, tiny_data), np.zeros(180))
    fates = [
        np.concatenate([images for _, images, _ in chunks(PLUS, tiny_data, plan, size)])
        for size in (16, 33, 1000)
    ]
    np.testing.assert_array_equal(fates[0], fates[1])
    np.testing.assert_array_equal(fates[0], fates[2])


def test_steps_do_what_fit_does(tiny_data):
    """The same batches through Keras's own loop: the same network but for rounding."""
    once = dataclasses.replace(SHORT, epochs=1, label_smoothing=0.1)
    ours = train(once, tiny_data)
    keras.utils.set_random_seed(SHORT.seed)
    model = build_model("textbook", (28, 28, 1), 4)
    start = model.get_weights()
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    model.compile(keras.optimizers.Adam(0.001), loss, metrics=["accuracy"])
    plan = epoch_plan(once, 0, training_index(once, tiny_data), np.zeros(180))
    ((_, images, labels),) = chunks(once, tiny_data, plan, 1000)
    x, y = tiny_data.split("validation")
    options = {"batch_size": 29, "shuffle": False, "validation_data": (x[..., None], np.eye(4)[y])}
    fitted = model.fit(images, np.eye(4)[labels], **options, verbose=0)
    for figure in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert ours.history[0][figure] == pytest.approx(fitted.history[figure][0], rel=1e-4)
    assert relative_difference(ours.model.get_weights(), model.get_weights(), start) < ROUNDING


JAX = """
import json, sys
from fashion_cnn import load_data, predict, train
from fashion_cnn.recipes import find_recipe
data = load_data("data.npz")
trained = train(find_recipe("recipe.json"), data, "run")
assert "tensorflow" not in sys.modules  # which takes seconds to import
answers = predict(trained.model, data.test_images)
print(json.dumps([trained.history, answers.tolist()]))
"""


@pytest.mark.slow
def test_jax_trains_as_tensorflow_does(tiny_data, tmp_path):
    if keras.backend.backend() != "tensorflow" or not importlib.util.find_spec("jax"):
        pytest.skip("compares TensorFlow with JAX; needs both")
    write_data_npz(tmp_path / "data.npz", tiny_data)
    recipe = dataclasses.replace(SHORT, epochs=8)
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    said = run_on_jax(JAX, cwd=tmp_path)
    history, answers = json.loads(said)
    ours = train(recipe, tiny_data)
    for row, other in zip(ours.history, history, strict=True):
        assert row.keys() == other.keys()
    assert history[0]["loss"] == pytest.approx(ours.history[0]["loss"], rel=0.2)
    assert history[-1]["val_accuracy"] > 0.95 and ours.history[-1]["val_accuracy"] > 0.95
    right = np.argmax(answers, axis=1) == tiny_data.test_labels
    assert history[-1]["val_accuracy"] == pytest.approx(right.mean(), abs=0.05)


STEPS = """
import dataclasses
import numpy as np
from fashion_cnn.keras_setup import keras
from fashion_cnn.training.normalization import training_copy
from fashion_cnn.recipes import RECIPES
from fashion_cnn.training.optimizers import make_optimizer
from fashion_cnn.training.steps import compile_steps
model = training_copy(keras.saving.load_model("network.keras"))
start = model.get_weights()
loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
recipe = dataclasses.replace(RECIPES["sprint"], learning_rate=0.01)
model.compile(make_optimizer(recipe, 12), loss)
with np.load("data.npz") as data:
    images, labels = data["images"], data["labels"]
sums = [compile_steps(model, 32, split_batch=False)(images, labels)[:2]]
soft = 0.6 * np.eye(4, dtype=np.float32)[labels] + np.float32(0.1)
sums += [compile_steps(model, 32, split_batch=False, soft_labels=True)(images, soft)[:2]]
np.savez(f"{keras.backend.backend()}.npz", np.array(sums), *start, *model.get_weights())
"""


def smooth_network():
    """Convolution and normalization, and no unit that rounding could switch on a step earlier.

    Two backends differ by 1e-6 to 4e-6 of the change (six seeds), with ReLU and pooling by up to
    5e-2.
    """
    layers = keras.layers
    x = pixels = keras.Input((28, 28, 1), dtype="uint8")
    for layer in (
        layers.Rescaling(1 / 255),
        layers.Conv2D(8, 3, strides=2, use_bias=False),
        layers.BatchNormalization(),
        layers.Activation("tanh"),
        layers.AveragePooling2D(4),
        layers.Flatten(),
        layers.Dense(8, activation="tanh"),
        layers.Dense(4, activation="softmax"),
    ):
        x = layer(x)
    return keras.Model(pixels, x)


@pytest.mark.slow
def test_steps_on_jax_are_tensorflows(tiny_data, tmp_path, monkeypatch):
    """Normalization, momentum, decay and schedule: from the same weights to the same weights."""
    if keras.backend.backend() != "tensorflow" or not importlib.util.find_spec("jax"):
        pytest.skip("compares TensorFlow with JAX; needs both")
    monkeypatch.chdir(tmp_path)
    smooth_network().save("network.keras")
    images, labels = tiny_data.train_images[:180, ..., None], tiny_data.train_labels[:180]
    np.savez("data.npz", images=images, labels=labels.astype(np.int32))
    exec(STEPS, {})  # noqa: S102 (ours)
    run_on_jax(STEPS)
    (sums, *ours), (other_sums, *theirs) = (
        list(np.load(f"{backend}.npz").values()) for backend in ("tensorflow", "jax")
    )
    np.testing.assert_allclose(sums, other_sums, rtol=ROUNDING)
    half = len(ours) // 2
    for one, other in zip(ours[:half], theirs[:half], strict=True):
        np.testing.assert_array_equal(one, other)
    assert relative_difference(ours[half:], theirs[half:], ours[:half]) < ROUNDING
    moved = [np.abs(a - b).max() for a, b in zip(ours[half:], ours[:half], strict=True)]
    assert min(moved) > 1e-3


def test_both_halves_of_a_batch_are_the_batch(tiny_data):
    """An odd batch, and a last one of a single image in its second half."""
    images, labels = tiny_data.train_images[:17, ..., None], tiny_data.train_labels[:17]
    found = []
    for halves in (True, False):
        keras.utils.set_random_seed(0)
        model = build_model("textbook", (28, 28, 1), 4)
        start = model.get_weights()
        model.compile(keras.optimizers.SGD(0.1), keras.losses.CategoricalCrossentropy())
        *sums, confidences = compile_steps(model, 15, halves)(images, labels.astype(np.int32))
        found.append(([*sums, *confidences], [np.asarray(v) for v in model.trainable_variables]))
    (sums, ours), (whole_sums, whole) = found
    assert sums == pytest.approx(whole_sums, rel=1e-5)
    assert relative_difference(ours, whole, start) < ROUNDING


@pytest.mark.parametrize("halves", [True, False])
def test_class_weights_let_every_class_count_alike(tiny_data, halves):
    index = np.flatnonzero(np.isin(tiny_data.train_labels, (0, 1)))[:24]
    index = np.concatenate([index, np.flatnonzero(tiny_data.train_labels == 3)[:6]])
    images, labels = tiny_data.train_images[index, ..., None], tiny_data.train_labels[index]
    weights = class_weights(labels, 4)
    assert weights.tolist() == pytest.approx([30 / 36, 30 / 36, 10, 30 / 18])
    model = build_model("textbook", (28, 28, 1), 4)
    answers = model.predict(images, verbose=0)
    losses = -np.log(answers[np.arange(30), labels])
    model.compile(keras.optimizers.SGD(0.1), keras.losses.CategoricalCrossentropy())
    steps = compile_steps(model, 30, halves, weights)
    loss, _, _ = steps(images, labels.astype(np.int32))
    of_class = [losses[labels == k].mean() for k in (0, 1, 3)]
    assert loss == pytest.approx(10 * sum(of_class), rel=1e-4)
    recipe = dataclasses.replace(SHORT, class_weights=True)
    assert len(train(recipe, tiny_data).history) == recipe.epochs


def test_moving_averages_take_the_mean_of_both_halves(tiny_data):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("halves are TensorFlow's")
    images, labels = tiny_data.train_images[:17, ..., None], tiny_data.train_labels[:17]
    found = []
    for batches in ([slice(17)], [slice(8), slice(8, 17)]):
        moved = 0
        for batch in batches:
            keras.utils.set_random_seed(0)
            model = training_copy(build_model("compact", (28, 28, 1), 4))
            before = [np.asarray(v) for v in model.non_trainable_variables]
            model.compile(keras.optimizers.SGD(0.1), keras.losses.CategoricalCrossentropy())
            steps = compile_steps(model, 17, split_batch=len(batches) == 1)
            steps(images[batch], labels[batch].astype(np.int32))
            after = [np.asarray(v) for v in model.non_trainable_variables]
            share = len(labels[batch]) / 17
            moved += share * np.concatenate([b - a for a, b in zip(before, after, strict=True)])
        found.append(moved)
    assert np.abs(found[0]).min() > 0
    np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [PLUS, SPRINT], ids=["plus", "sprint"])
def test_every_size_of_batch_trains(recipe, tiny_data):
    for batch_size in (1, 2, 4, 165):  # 165 images: 2 and 4 leave one for the last batch
        once = dataclasses.replace(recipe, epochs=1, batch_size=batch_size)
        trained = train(once, tiny_data)
        assert all(np.isfinite(v).all() for v in trained.model.variables)
        assert np.isfinite(trained.history[0]["loss"])


def test_forward_is_the_model_for_any_number_of_images(tiny_data):
    model = build_model("textbook", (28, 28, 1), 4)
    images = np.concatenate([tiny_data.train_images] * 3)[..., None]
    forward = compile_forward(model)
    for n in (1, BATCH, BATCH + 1, len(images)):
        np.testing.assert_allclose(forward(images[:n]), model(images[:n]), rtol=1e-4, atol=1e-6)


def test_callbacks_are_called_and_can_stop(tiny_data):
    class Listen(keras.callbacks.Callback):
        heard: ClassVar = []

        def on_train_batch_end(self, batch, logs=None):
            self.heard.append((batch, *sorted(logs)))

        def on_epoch_end(self, epoch, logs=None):
            self.heard.append((epoch, *sorted(logs)))

    patient = keras.callbacks.EarlyStopping("loss", mode="max", patience=1)
    long = dataclasses.replace(SHORT, epochs=50)
    trained = train(long, tiny_data, callbacks=[Listen(), patient])
    assert len(trained.history) == 2  # the loss went down, which is no gain when more is better
    epoch = ("accuracy", "loss", "val_accuracy", "val_loss")
    assert Listen.heard == [(5, *epoch[:2]), (0, *epoch), (5, *epoch[:2]), (1, *epoch)]


@pytest.mark.slow
def test_overfits_64_images(real_data):
    x, y = real_data.train_images[:70], real_data.train_labels[:70]
    few = dataclasses.replace(RECIPES["textbook"], epochs=60, batch_size=16)
    trained = train(few, ((x, y), (x, y)))
    assert trained.history[-1]["accuracy"] == 1
    assert trained.history[-1]["loss"] < 0.05


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("kind", "fused"),
    [
        (lambda rate: keras.optimizers.Adam(rate, weight_decay=0.1), FusedAdam),
        (lambda rate: keras.optimizers.SGD(rate, 0.9, True, weight_decay=0.1), FusedSGD),
    ],
    ids=["adam", "sgd"],
)
def test_a_fused_optimizer_is_kerass(kind, fused):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the fused kernels are TensorFlow's")
    rng = np.random.default_rng(0)
    start = rng.normal(size=(4, 5)).astype("float32")
    ends = []
    for optimizer in (kind(0.01), fused.from_config(kind(0.01).get_config())):
        variable = keras.Variable(start)
        gradients = np.random.default_rng(1)
        for _ in range(20):
            gradient = keras.ops.convert_to_tensor(gradients.normal(size=(4, 5)).astype("float32"))
            optimizer.apply([gradient], [variable])
        ends.append(np.asarray(variable))
    np.testing.assert_allclose(*ends, rtol=1e-5, atol=1e-6)
    assert not np.allclose(ends[0], start, atol=0.05)


def test_triangle_goes_up_and_down_to_nothing():
    rates = [float(Triangle(2.0, 4, 10)(step)) for step in range(10)]
    assert rates == pytest.approx(
        [0.25, 0.75, 1.25, 1.75, *(2 * x / 6 for x in (5.5, 4.5, 3.5, 2.5, 1.5, 0.5))]
    )
    assert float(Triangle(2.0, 0, 10)(0)) == pytest.approx(1.9)
    assert float(Triangle(2.0, 4, 10)(50)) == 0


def test_weight_decay_spares_biases_and_normalizations(tiny_data):
    optimizer = make_optimizer(dataclasses.replace(SPRINT, weight_decay=0.9), 10)
    model = build_model("compact", (28, 28, 1), 4)
    optimizer.build(model.trainable_variables)
    spared = {v.name for v in model.trainable_variables if not optimizer._use_weight_decay(v)}
    assert spared == {"bias", "beta", "gamma"}


@pytest.mark.slow
def test_compact_trains_in_bfloat16_and_without_validation(tiny_data, run_folder):
    changes = {"validation": "none", "epochs": 8, "flip_average": False, "skip_easy": 0.0}
    trained = train(dataclasses.replace(SPRINT, **changes), tiny_data, run_folder)
    assert trained.history[-1]["accuracy"] > 0.95
    assert np.isnan([row["val_accuracy"] for row in trained.history]).all()
    lines = (run_folder / "history.csv").read_text().splitlines()
    assert lines[1].split(",")[3:5] == ["", ""]
    assert (predict(run_folder, tiny_data.test_images).argmax(1) == tiny_data.test_labels).all()
    metrics = measure_run(Run(run_folder), tiny_data)
    assert metrics["test_accuracy"] == 1 and "validation_accuracy" not in metrics
    assert len(draw_run(Run(run_folder), tiny_data)) == 4
    rates = [row["learning_rate"] for row in trained.history]
    assert max(rates) == rates[1] and rates[-1] < 0.02  # the triangle


def test_sgd_without_momentum_trains(tiny_data):
    trained = train(dataclasses.replace(SPRINT, momentum=0), tiny_data)
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]


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
        (lambda x, y: (x, y[:-1]), "one integer per image"),
        (lambda x, y: (x, y.astype(float)), "one integer per image"),
        (lambda x, y: (x[:11], y[:11]), "got 11; expected at least 12"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tiny_data, change, message):
    test = (tiny_data.test_images, tiny_data.test_labels)
    with pytest.raises(ValueError, match=message):
        as_data((change(tiny_data.train_images, tiny_data.train_labels), test))


def test_what_is_no_data_is_refused():
    with pytest.raises(ValueError, match=r"expected the result of load_data, or arrays"):
        as_data(np.zeros(3))


def test_bfloat16_is_left_alone_where_onednn_may_not_use_it(monkeypatch):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("oneDNN is TensorFlow's")
    for limit in ("AVX2", "avx512_core"):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
        assert not bfloat16_is_fast()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "ALL")
    about = Path("/proc/cpuinfo")
    cpu = about.read_text() if about.exists() else ""
    assert bfloat16_is_fast() == ("avx512_bf16" in cpu or "amx_bf16" in cpu)


def test_a_batch_larger_than_the_data_is_refused(tiny_data):
    with pytest.raises(ValueError, match="there are 165 training images"):
        train(dataclasses.replace(SHORT, batch_size=166), tiny_data)
