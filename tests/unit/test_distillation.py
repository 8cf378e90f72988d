"""A network that learns from another's answers."""

import dataclasses
import shutil

import numpy as np
import pytest

from fashion_cnn import RECIPES, evaluate, train
from fashion_cnn.data import as_data
from fashion_cnn.evaluation import measure_run
from fashion_cnn.experiments.experiment import open_experiment
from fashion_cnn.export import export_in_process
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.keras_setup import keras
from fashion_cnn.recipe import Recipe
from fashion_cnn.run import Run
from fashion_cnn.training.distillation import training_targets

SHORT = dataclasses.replace(
    RECIPES["sprint"], epochs=3, batch_size=15, options={"width": 8, "hidden": 16}
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def taught_by(tiny_data, tmp_path_factory):
    """A run that knows the tiny data."""
    return make_teacher(SHORT, tiny_data, tmp_path_factory.mktemp("teacher") / "run")


def make_teacher(recipe, data, run):
    train(recipe, data, run)
    measure_run(Run(run), data)
    export_in_process(Run(run), data, "onnx", run / "model.onnx")
    return str(run)


def misled(data):
    """The same images, every label the next class's."""
    return dataclasses.replace(data, train_labels=(data.train_labels + 1) % 4)


@pytest.mark.slow
def test_the_student_predicts_what_the_teacher_predicts(tiny_data, tmp_path, taught_by, cache):
    recipe = dataclasses.replace(
        SHORT, teacher=taught_by, distill_weight=1.0, epochs=12
    )  # 9 of 9 seeds
    for size in (15, 32):  # the halves of 32 are worked on at the same time
        run = tmp_path / f"by-{size}"
        trained = train(dataclasses.replace(recipe, batch_size=size), misled(tiny_data), run)
        found = evaluate(trained.model, tiny_data.test_images, tiny_data.test_labels)
        assert found["accuracy"] > 0.9
        assert trained.history[-1]["accuracy"] > 0.9  # of the teacher's answers
        assert trained.history[-1]["val_accuracy"] < 0.1  # of the labels
        by = Classifier.load(taught_by).sha256
        assert Run(run).environment()["teacher_sha256"] == by
    alone = train(dataclasses.replace(recipe, distill_weight=0.0), misled(tiny_data))
    assert evaluate(alone.model, tiny_data.test_images, tiny_data.test_labels)["accuracy"] < 0.1


def test_targets_are_the_weighted_mean_and_computed_once(tiny_data, taught_by, cache, monkeypatch):
    recipe = dataclasses.replace(SHORT, teacher=taught_by, distill_weight=0.25, label_smoothing=0.1)
    targets = training_targets(recipe, tiny_data)
    truth = 0.9 * np.eye(4)[tiny_data.train_labels] + 0.025  # smoothed; what is said is not
    said = Classifier.load(taught_by).probabilities(tiny_data.train_images[..., None])
    assert targets.dtype == np.float32
    np.testing.assert_allclose(targets, 0.25 * said + 0.75 * truth, atol=1e-6)
    assert len(list(cache.glob("**/teacher-*.npy"))) == 1
    monkeypatch.setattr(Classifier, "probabilities", lambda *_: pytest.fail("asked again"))
    np.testing.assert_array_equal(training_targets(recipe, tiny_data), targets)
    assert training_targets(SHORT, tiny_data) is tiny_data.train_labels


def test_the_loss_does_not_smooth_the_outputs_of_a_teacher(tiny_data, taught_by, cache):
    recipe = dataclasses.replace(SHORT, epochs=1, teacher=taught_by, distill_weight=1.0)
    plain, smoothed = (
        train(dataclasses.replace(recipe, label_smoothing=s), tiny_data).history for s in (0.0, 0.3)
    )
    assert plain[0]["loss"] == smoothed[0]["loss"]
    assert plain[0]["val_loss"] == smoothed[0]["val_loss"]


@pytest.mark.slow
def test_a_preset_and_a_models_file_teach_the_same(tiny_data, taught_by, cache, real_data):
    by_run = training_targets(dataclasses.replace(SHORT, teacher=taught_by), tiny_data)
    file = dataclasses.replace(SHORT, teacher=f"{taught_by}/model.onnx")
    np.testing.assert_array_equal(training_targets(file, tiny_data), by_run)
    by_preset = training_targets(dataclasses.replace(SHORT, teacher="textbook"), real_data)
    right = by_preset[real_data.validation_index].argmax(1) == real_data.split("validation")[1]
    assert by_preset.shape == (60_000, 10) and right.mean() > 0.9


def first_thousand(data):
    images, labels = data.train_images[:1000], data.train_labels[:1000]
    return as_data(((images, labels), (data.test_images[:9], data.test_labels[:9])))


def test_who_cannot_teach_is_refused_before_anything(tiny_data, real_data, tmp_path, cache):
    """The arrays' own split holds out what the preset has learnt."""
    named = dataclasses.replace(first_thousand(real_data), class_names=real_data.class_names)
    for data, name, match in (
        (tiny_data, "nowhere", "nowhere: no model; expected a run folder with model.onnx"),
        (tiny_data, "textbook", r"takes \(28, 28, 1\) and predicts T-shirt/top, .* north-west"),
        (named, "textbook", "textbook was trained on other data"),
    ):
        with pytest.raises((FileNotFoundError, ValueError), match=match):
            train(dataclasses.replace(SHORT, teacher=name), data, tmp_path / "run")
        assert not (tmp_path / "run").exists()
    with pytest.raises(
        ValueError, match="class_weights: got true; cannot be combined with a teacher"
    ):
        dataclasses.replace(SHORT, teacher="textbook", class_weights=True)


@pytest.mark.slow
def test_a_teacher_trained_on_held_out_images_is_refused(tiny_data, tmp_path, cache):
    all_of_it = dataclasses.replace(SHORT, validation="none")
    recipe = dataclasses.replace(
        SHORT, teacher=make_teacher(all_of_it, tiny_data, tmp_path / "teacher")
    )
    with pytest.raises(ValueError, match="was also trained on the images that are held out"):
        train(recipe, tiny_data)
    assert train(dataclasses.replace(recipe, validation="none"), tiny_data).history


@pytest.mark.slow
def test_a_run_is_resumed_with_its_teacher_only(tiny_data, taught_by, tmp_path, cache):
    shutil.copytree(taught_by, tmp_path / "teacher")
    recipe = dataclasses.replace(SHORT, teacher=str(tmp_path / "teacher"))
    whole = train(recipe, tiny_data, tmp_path / "whole")

    class Break(Exception):
        pass

    def stop(*_):
        raise Break

    stopper = keras.callbacks.LambdaCallback(on_epoch_end=stop)
    with pytest.raises(Break):
        train(recipe, tiny_data, tmp_path / "run", callbacks=[stopper])
    resumed = train(recipe, tiny_data, tmp_path / "run", resume=True)
    for one, other in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    open_experiment(tmp_path / "seeds", recipe, {"seeds": 2})
    open_experiment(tmp_path / "seeds", recipe, {"seeds": 2})
    (tmp_path / "teacher").rename(tmp_path / "gone")
    make_teacher(dataclasses.replace(SHORT, seed=5), tiny_data, tmp_path / "teacher")
    with pytest.raises(ValueError, match="has changed since the run was started"):
        train(recipe, tiny_data, tmp_path / "run", resume=True)
    with pytest.raises(ValueError, match="started with another teacher_sha256"):
        open_experiment(tmp_path / "seeds", recipe, {"seeds": 2})


def test_an_experiment_with_another_recipe_is_refused(tmp_path):
    recipe = Recipe("old")
    open_experiment(tmp_path / "seeds", recipe, {"seeds": 2})
    with pytest.raises(ValueError, match="started with another recipe"):
        open_experiment(tmp_path / "seeds", Recipe("old", epochs=2), {"seeds": 2})
    open_experiment(tmp_path / "decided", recipe, {"seeds": 2, "decisions": "d.csv"})
    with pytest.raises(ValueError, match="another decisions: got null; expected"):
        open_experiment(tmp_path / "decided", recipe, {"seeds": 2})
