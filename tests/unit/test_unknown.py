"""Similarity to training images: its clusters, its threshold, and the output of exported files."""

import dataclasses
import json

import numpy as np
import onnx
import pytest
from scipy.stats import binomtest
from small_runs import train_small_run

from fashion_cnn.evaluation import unknown
from fashion_cnn.evaluation.unknown import (
    cluster_means,
    fit_unknown_below,
    nearest_images,
    similarities,
    with_outliers,
)
from fashion_cnn.export import export_in_process
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.keras_setup import keras
from fashion_cnn.models import build_model
from fashion_cnn.models.features import features_model, with_features
from fashion_cnn.models.wrappers import average_models, flip_averaged


def random_features(count, units=8, seed=0):
    return np.random.default_rng(seed).normal(size=(count, units)).astype(np.float32)


def normalized(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_clusters_are_of_five_images_and_always_the_same():
    features, labels = random_features(69), np.repeat([0, 1, 2, 3], [4, 5, 20, 40])
    means, classes = cluster_means(features, labels)
    assert means.dtype == np.float16 and classes.dtype == np.int64
    counts = np.bincount(classes)
    assert counts[:2].tolist() == [0, 1] and 1 <= counts[2] <= 4 and 2 <= counts[3] <= 8
    np.testing.assert_allclose(np.linalg.norm(means.astype(float), axis=1), 1, atol=2e-3)
    np.testing.assert_allclose(
        means[0], normalized(normalized(features[4:9]).mean(0)[np.newaxis])[0], atol=1e-3
    )
    for _ in range(2):
        again = cluster_means(features, labels)
        assert (again[0] == means).all() and (again[1] == classes).all()


def test_no_mean_is_that_of_a_few_images():
    features = np.tile(np.eye(4, dtype=np.float32)[0], (12, 1)) + random_features(12, 4) / 100
    features[10:] = [0, 1, 0, 0]  # two images unlike the others have no cluster of their own
    means, _ = cluster_means(features, np.zeros(12, int))
    assert len(means) == 1
    np.testing.assert_allclose(means[0, :2], normalized(np.array([[10, 2]]))[0], atol=0.01)
    same, _ = cluster_means(np.ones((30, 4), np.float32), np.zeros(30, int))
    assert same.shape == (1, 4)  # fewer different vectors than clusters, without a warning


def test_all_means_together_fit_into_their_bytes(monkeypatch):
    features, labels = random_features(300, 16), np.arange(300) % 3
    monkeypatch.setattr(unknown, "MAX_MEANS_BYTES", 16 * 2 * 10)
    means, classes = cluster_means(features, labels)
    assert means.nbytes <= 320 and np.bincount(classes).tolist() == [3, 3, 3]
    monkeypatch.setattr(unknown, "MAX_MEANS_BYTES", 16 * 2 * 2)
    means, classes = cluster_means(features, labels)
    assert means.shape == (0, 16) and len(classes) == 0


def test_a_diverged_network_has_no_clusters():
    features = random_features(20)
    features[3, 4] = np.nan
    assert cluster_means(features, np.zeros(20, int))[0].shape == (0, 8)


def test_similarity_is_to_the_nearest_mean_of_the_predicted_class():
    means = np.array([[1, 0], [0, 1], [-1, 0]], np.float16)
    features = np.array([[3, 4], [3, 4], [3, 4], [0, 0]], np.float32)
    actual = similarities(features, np.array([0, 1, 2, 0]), means, np.array([0, 0, 1]))
    np.testing.assert_allclose(actual, [0.8, -0.6, -1, 0], atol=1e-6)


def test_similarity_is_less_by_that_to_the_nearest_outliers():
    means, classes = np.array([[1, 0]], np.float16), np.array([0])
    outliers = np.repeat(np.array([[0, 2], [-3, 0]], np.float32), 5, axis=0)
    means, classes = with_outliers(means, classes, outliers)
    assert means.dtype == np.float16 and classes.tolist() == [0, -1, -1]
    features = np.array([[3, 4], [4, 3], [1, -1], [3, 4]], np.float32)
    actual = similarities(features, np.array([0, 0, 0, 1]), means, classes)
    expected = [0.6 - 0.8, 0.8 - 0.6, 0.5**0.5, -1 - 0.8]  # not more by a negative cosine
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    outliers[0, 0] = np.inf
    assert len(with_outliers(means[:1], classes[:1], outliers)[0]) == 1


def test_the_nearest_training_images_are_of_the_predicted_class():
    train = np.array([[1, 0], [0, 1], [3, 4], [4, 3], [-2, 0], [0, 5]], np.float32)
    labels = np.array([0, 1, 0, 0, 0, 1])
    index, cosines = nearest_images(train[:2] * 7, np.array([0, 1]), train, labels)
    assert index.tolist() == [[0, 3, 2], [1, 5, -1]]  # class 1 has only two
    np.testing.assert_allclose(cosines[0], [1, 0.8, 0.6], atol=1e-6)
    np.testing.assert_allclose(cosines[1, :2], 1, atol=1e-6)


def test_the_report_gets_the_images_nearest_to_the_least_similar(folder_data, run):
    results = run.predictions()
    shown, nearest = results["least_similar"], results["nearest_train"]
    assert (results["test_similarity"][shown] == np.sort(results["test_similarity"])[:5]).all()
    assert nearest.shape == results["nearest_cosine"].shape == (5, 3)
    predicted = results["test_probabilities"][shown].argmax(1)
    owners = folder_data.train_labels[nearest]
    assert ((owners == predicted[:, np.newaxis]) | (nearest == -1)).all()
    assert not np.isin(nearest, folder_data.validation_index).any()
    assert (np.diff(results["nearest_cosine"], axis=1)[nearest[:, 1:] >= 0] <= 0).all()


def test_at_most_two_percent_of_known_pictures_are_shown_to_be_unknown():
    similarity = np.random.default_rng(0).permutation(np.linspace(0.1, 0.9, 1000))
    assert fit_unknown_below(similarity[:148]) is None  # 0.98**148 > 0.05
    assert fit_unknown_below(similarity[:149]) == similarity[:149].min()
    threshold = fit_unknown_below(similarity)
    below = int((similarity < threshold).sum())
    for errors, is_shown in ((below, True), (below + 1, False)):
        p_value = binomtest(errors, 1000, 0.02, alternative="less").pvalue
        assert (p_value <= 0.05) == is_shown
    similarity[:50] = -1  # their classes have no clusters
    assert fit_unknown_below(similarity) is None
    note = unknown.why_no_unknown(148, True)
    assert note.startswith(
        "148 validation images; at least 149 are needed to show that at most 2 %"
    )
    assert unknown.why_no_unknown(200, True).startswith("the 200 validation images do not show")


@pytest.fixture(scope="module")
def folder_data(tiny_data):
    """As from class folders, with a class of copies of three pictures."""
    images = tiny_data.train_images.copy()
    last = np.flatnonzero(tiny_data.train_labels == 3)
    images[last] = images[last[np.arange(len(last)) % 3]]
    files = tuple(f"{i}.png" for i in range(len(images)))
    return dataclasses.replace(tiny_data, train_images=images, train_files=files)


@pytest.fixture(scope="module")
def run(folder_data, tmp_path_factory):
    return train_small_run(folder_data, "standard", tmp_path_factory.mktemp("unknown") / "run", 3)


@pytest.mark.parametrize(
    "format_name", ["onnx", "onnx-w8", pytest.param("onnx-int8", marks=pytest.mark.slow)]
)
def test_an_exported_file_measures_the_similarity_of_the_run(
    folder_data, run, tmp_path, format_name
):
    if format_name == "onnx-int8":  # an average over flips is too inaccurate in it
        run = train_small_run(folder_data, "textbook", tmp_path / "run", 10)
    results, metrics = run.predictions(), run.metrics()
    # three pictures make no cluster; -1 are outliers
    assert set(results["cluster_classes"]) == {0, 1, 2, -1}
    assert metrics["clusters"] == (results["cluster_classes"] >= 0).sum() >= 3
    assert metrics["unknown_below"] is None
    assert metrics["unknown_note"].startswith("15 validation images; at least 149 are needed")
    path = export_in_process(run, folder_data, format_name, tmp_path / "model.onnx")
    classifier = Classifier.load(path)
    rows, actual = classifier.outputs(folder_data.test_images[..., np.newaxis])
    np.testing.assert_array_equal(
        rows, classifier.probabilities(folder_data.test_images[..., np.newaxis])
    )
    expected = results["test_similarity"]
    same = rows.argmax(1) == results["test_probabilities"].argmax(1)
    assert same.mean() > 0.9
    atol = {"onnx": 1e-5, "onnx-w8": 0.05, "onnx-int8": 0.1}[format_name]
    np.testing.assert_allclose(actual[same], expected[same], atol=atol)
    assert (actual[rows.argmax(1) == 3] <= -1).all()
    prediction = classifier.predict(folder_data.test_images[0])
    assert prediction.similarity == pytest.approx(actual[0], abs=1e-6)
    assert prediction.unknown is None and prediction.verdict == ""
    classifier.card |= {"unknown_below": prediction.similarity + 1e-3, "threshold": 0.0}
    unknown_one = classifier.predict(folder_data.test_images[0])
    assert (unknown_one.verdict, unknown_one.sure) == ("unknown", False)
    classifier.card["unknown_below"] = prediction.similarity - 1e-3
    assert classifier.predict(folder_data.test_images[0]).verdict == "sure"


def test_files_whose_card_does_not_fit_their_outputs_are_refused(folder_data, run, tmp_path):
    changes = {"unknown_below": 0.5}
    path = export_in_process(run, folder_data, "onnx", tmp_path / "model.onnx", changes)
    text = (tmp_path / "model.onnx.md").read_text(encoding="utf-8")
    assert "is below 0.500 (the cosine to the nearest mean" in text
    model = onnx.load(path)
    card = json.loads(model.metadata_props[0].value)
    for limit in (2, "high", float("nan"), [0.5]):
        onnx.helper.set_model_props(
            model, {"fashion_cnn": json.dumps({**card, "unknown_below": limit})}
        )
        with pytest.raises(ValueError, match="model: not a valid model"):
            Classifier(model.SerializeToString())
    onnx.helper.set_model_props(model, {"fashion_cnn": json.dumps(card)})
    model.graph.output.append(model.graph.output[0])
    model.graph.output[2].name = "similarity/cosines"
    with pytest.raises(ValueError, match="3 outputs; expected probabilities and similarity"):
        Classifier(model.SerializeToString())
    del model.graph.output[1:]
    with pytest.raises(ValueError, match=r"unknown_below 0\.5; expected -1\.\.1, and an output"):
        Classifier(model.SerializeToString())


def test_which_networks_have_features():
    textbook = build_model("textbook", (28, 28, 1), 4)
    assert features_model(textbook).output_shape == (None, 128)
    options = {"weights": "none", "min_size": 32, "dropout": 0.2}
    transfer = build_model("transfer", (32, 32, 3), 4, options)
    for model in (transfer, flip_averaged(transfer)):
        features = features_model(model)
        assert features.output_shape == (None, 1024) and features.output.dtype == "float32"
    other = build_model("textbook", (28, 28, 1), 4)
    assert features_model(average_models([textbook, other])) is None
    with pytest.raises(ValueError, match="ensemble: has no features; expected a dense layer"):
        with_features(average_models([textbook, other]))


def test_features_of_a_network_of_ones_own():
    layers = keras.layers
    pixels = keras.Input((28, 28, 1), dtype="uint8")
    backbone_input = keras.Input((28, 28, 1))
    backbone = keras.Model(backbone_input, layers.Conv2D(5, 3)(backbone_input))
    vector = layers.GlobalAveragePooling2D()(backbone(layers.Rescaling(1 / 255)(pixels)))
    head = layers.Dense(4, activation="softmax")
    assert features_model(keras.Model(pixels, head(vector))).output_shape == (None, 5)
    softmax = layers.Softmax()(layers.Dense(4)(vector))
    assert features_model(keras.Model(pixels, softmax)) is None
    classifier = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(4)])
    scaled = classifier(layers.Rescaling(1 / 255)(pixels))  # its features are not those of pixels
    assert features_model(keras.Model(pixels, layers.Softmax()(scaled))) is None
