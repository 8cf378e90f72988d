"""Exports and the classifier that reads them, on small runs."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest

from fashion_cnn import train
from fashion_cnn.data import Data
from fashion_cnn.data.fashion_mnist import CLASS_NAMES
from fashion_cnn.evaluation import measure_run, predict
from fashion_cnn.evaluation.calibration import apply_temperature
from fashion_cnn.export import export_in_process, export_run
from fashion_cnn.export.card import make_card
from fashion_cnn.files import file_sha256
from fashion_cnn.inference.classifier import Classifier, reject_external_data
from fashion_cnn.models import build_model
from fashion_cnn.models.wrappers import flip_averaged, with_temperature
from fashion_cnn.recipes import RECIPES
from fashion_cnn.run import Run

KINDS = {
    "textbook": {"options": {"dropout": 0.2}},
    "standard": {"options": {"width": 8, "hidden": 8, "convolutions": 2}},
    "marathon": {"options": {"width": 8, "stem": 2, "hidden": 8}},
}


def make_run(data, name, run, epochs=1, **options):
    changes = {"epochs": epochs, "batch_size": 30}
    changes["options"] = {**KINDS[name]["options"], **options}
    train(dataclasses.replace(RECIPES[name], **changes), data, run)
    measure_run(Run(run), data)
    Run(run).write_metrics({**Run(run).metrics(), "temperature": 1.7})
    return run


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (240, 28, 28), dtype=np.uint8), np.arange(240) % 4
    names = ("a", "b", "<c>", "Ü")
    return Data(images[:180], labels[:180], images[180:], labels[180:], names)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    run = make_run(data, "textbook", tmp_path_factory.mktemp("runs") / "run")
    export_in_process(Run(run), data, "onnx", run / "model.onnx")
    return run


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in KINDS if name != "textbook"]


@pytest.mark.parametrize("name", ["textbook", *SLOW])
def test_onnx_answers_as_keras_at_its_temperature(data, tmp_path, name):
    run = make_run(data, name, tmp_path / "run")
    path = export_in_process(Run(run), data, "onnx", tmp_path / "model.onnx")
    expected = apply_temperature(predict(run, data.test_images), 1.7)
    classifier = Classifier.load(path)
    found = classifier.probabilities(data.test_images[..., np.newaxis])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    card = json.loads((tmp_path / "model.onnx.json").read_text())
    assert card["sha256"] == file_sha256(path)
    assert card["parity"]["largest_difference"] <= 1e-4 and card["parity"]["same_answers"]
    assert classifier.card == {key: card[key] for key in card if key != "sha256"}
    assert card["temperature_folded"] and card["class_names"] == list(data.class_names)


@pytest.mark.slow
def test_int8_is_as_accurate_and_a_third_of_the_size(tiny_data, tmp_path):
    run = make_run(tiny_data, "textbook", tmp_path / "run", epochs=10)
    export_in_process(Run(run), tiny_data, "onnx", run / "model.onnx")
    path = export_in_process(Run(run), tiny_data, "onnx-int8", tmp_path / "small.onnx")
    assert path.stat().st_size < (run / "model.onnx").stat().st_size / 2.5
    classifier = Classifier.load(path)
    found = classifier.probabilities(tiny_data.test_images[..., np.newaxis])
    parity = classifier.card["parity"]
    assert parity["accuracy"] == (found.argmax(1) == tiny_data.test_labels).mean()
    assert abs(parity["accuracy"] - parity["accuracy_of_keras"]) <= 0.003
    assert parity["images"] == 60


def test_an_int8_export_that_is_less_accurate_is_not_written(data, run, tmp_path, monkeypatch):
    from fashion_cnn import export

    wrong = (data.test_labels + 1) % 4
    monkeypatch.setitem(
        export._WRITERS, "onnx-int8", lambda *_: lambda x: np.eye(4)[wrong[: len(x)]]
    )
    with pytest.raises(ValueError, match=r"its accuracy is 0\.00%"):
        export_in_process(Run(run), data, "onnx-int8", tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_what_would_be_too_large_to_be_read_is_not_written(data, run, tmp_path, monkeypatch):
    monkeypatch.setattr("fashion_cnn.export.MAX_BYTES", 1000)
    with pytest.raises(ValueError, match=r"bytes; at most 1,000 are read"):
        export_in_process(Run(run), data, "onnx", tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_litert_is_proved_in_its_own_runtime(data, run, tmp_path):
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    from ai_edge_litert.interpreter import Interpreter

    path = export_in_process(Run(run), data, "litert", tmp_path / "model.tflite")
    card = json.loads((tmp_path / "model.tflite.json").read_text())
    assert card["parity"]["largest_difference"] <= 1e-4 and card["sha256"] == file_sha256(path)
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(
        interpreter.get_input_details()[0]["index"], data.test_images[:1, ..., None]
    )
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    expected = Classifier.load(run).probabilities(data.test_images[:1, ..., None])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_savedmodel_is_proved_too(data, run, tmp_path):
    path = export_in_process(Run(run), data, "savedmodel", tmp_path / "saved")
    assert (path / "saved_model.pb").is_file()
    card = json.loads((tmp_path / "saved.json").read_text())
    assert card["parity"]["largest_difference"] <= 1e-4


def test_an_export_that_is_not_equal_is_not_written(data, run, tmp_path, monkeypatch):
    from fashion_cnn import export

    monkeypatch.setitem(export._WRITERS, "onnx", lambda *_: lambda x: np.zeros((len(x), 4)))
    with pytest.raises(ValueError, match="differ by up to"):
        export_in_process(Run(run), data, "onnx", tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_overwritten(run, tmp_path):
    (tmp_path / "thesis.onnx").write_text("dear")
    with pytest.raises(ValueError, match="there already"):
        export_run(Run(run), "onnx", tmp_path / "thesis.onnx")
    with pytest.raises(FileNotFoundError, match=r"has no metrics\.json"):
        export_run(Run(tmp_path), "onnx")


@pytest.mark.parametrize("make", [lambda model: model, flip_averaged])
def test_a_temperature_in_the_network_is_one_on_its_answers(data, make):
    model = make(build_model("textbook", (28, 28, 1), 4))
    before = predict(model, data.test_images)
    for temperature in (0.5, 1.0, 3.0):
        found = predict(with_temperature(model, temperature), data.test_images)
        np.testing.assert_allclose(found, apply_temperature(before, temperature), atol=1e-5)
    np.testing.assert_array_equal(predict(model, data.test_images), before)


def test_one_and_many(data, run):
    classifier = Classifier.load(run)
    one, many = classifier.predict(data.test_images[0]), classifier.predict(list(data.test_images))
    assert one.label == many[0].label and len(many) == 60
    assert list(one.probabilities.values()) == sorted(one.probabilities.values(), reverse=True)
    assert sum(one.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert one.probability == one.probabilities[one.label]
    four = classifier.predict(data.test_images[:4, ..., np.newaxis])
    assert [answer.label for answer in four] == [answer.label for answer in many[:4]]
    assert classifier.predict([]) == []


def test_the_verdict_is_by_the_cards_threshold(data, run):
    classifier = Classifier.load(run)
    probability = classifier.predict(data.test_images[0]).probability
    for threshold, verdict in ((probability, "sure"), (probability + 1e-6, "unsure"), (None, "")):
        classifier.card["threshold"] = threshold
        assert classifier.predict(data.test_images[0]).verdict == verdict
    classifier.card["threshold"] = 0.0
    seen = dataclasses.replace(classifier.prepare(data.test_images[0]), note="no garment found")
    assert classifier.predict_prepared([seen])[0].verdict == "unsure"
    assert classifier.predict_prepared([seen])[0].note == "no garment found"


def test_photos_are_prepared_if_the_card_says_so(data, run):
    classifier = Classifier.load(run)
    assert classifier.card["preparation"] is None  # nobody says that these are clothes
    clothes = dataclasses.replace(data, class_names=CLASS_NAMES)
    photos = dataclasses.replace(data, train_files=("a.jpg",))
    assert make_card(Run(run), clothes, "onnx")["preparation"] == "photo"
    assert make_card(Run(run), photos, "onnx")["preparation"] == "fit"
    classifier.card["preparation"] = "photo"
    cloth = np.full((300, 200, 3), 230, np.uint8)
    cloth[60:240, 70:130] = (20, 20, 90)
    seen = classifier.prepare(cloth)
    assert seen.mask is not None and seen.mask.sum() > 0
    np.testing.assert_array_equal(
        classifier.prepare(data.test_images[0]).pixels[..., 0], data.test_images[0]
    )
    assert classifier.predict([cloth, data.test_images[0]])[1] == classifier.predict(
        data.test_images[0]
    )
    coloured = np.repeat(data.test_images[0][..., np.newaxis], 3, 2)
    assert classifier.predict(coloured) == classifier.predict(data.test_images[0])
    classifier.card["preparation"] = None
    with pytest.raises(ValueError, match=r"300, 200.*expected raw pixels, uint8 \(28, 28, 1\)"):
        classifier.prepare(cloth)


def test_the_evidence_is_where_the_answer_comes_from(data, run):
    """A classifier that looks at one corner alone."""
    classifier = Classifier.load(run)

    def corner(images):
        share = images[:, 3:6, 20:23].mean((1, 2, 3)) / 255
        return np.stack([share, 1 - share, 0 * share, 0 * share], 1)

    classifier.probabilities = corner
    found = classifier.occlusion_map(classifier.prepare(np.full((28, 28), 255, np.uint8)))
    assert found.shape == (28, 28)
    assert np.unravel_index(found.argmax(), found.shape) in [
        (y, x) for y in (3, 4, 5) for x in (20, 21, 22)
    ]
    assert found[15:].max() == 0 and found[4, 21] > 0.3


def test_damaged_models_are_no_models(run, tmp_path):
    content = (run / "model.onnx").read_bytes()
    bad = [content[: len(content) * k // 16] for k in range(16)] + [b"\x89PNG" + content]
    for damaged in bad:
        (tmp_path / "model.onnx").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model\.onnx: (not a valid model|no card)"):
            Classifier.load(tmp_path / "model.onnx")
    with pytest.raises(FileNotFoundError, match="no model; expected a run folder"):
        Classifier.load(tmp_path / "nowhere.onnx")


def test_a_model_of_others_has_no_card(run, tmp_path):
    model = onnx.load(run / "model.onnx")
    del model.metadata_props[:]
    with pytest.raises(ValueError, match="no card of fashion-cnn"):
        Classifier(model.SerializeToString())


@pytest.mark.parametrize(
    "card", [{}, {"class_names": 3}, {"threshold": "high"}, {"threshold": 2}, {"input": {}}, []]
)
def test_a_card_that_makes_no_sense_is_refused(run, card):
    model = onnx.load(run / "model.onnx")
    about = json.loads(model.metadata_props[0].value)
    changed = {**about, **card} if card else card
    onnx.helper.set_model_props(model, {"fashion_cnn": json.dumps(changed)})
    with pytest.raises(ValueError, match=r"model: (not a valid model|no card)"):
        Classifier(model.SerializeToString())


@pytest.mark.parametrize("where", ["initializer", "attribute", "subgraph", "training", "function"])
def test_external_data_is_refused_wherever_it_is(run, tmp_path, where):
    (tmp_path / "secret").write_bytes(bytes(4 * 4))
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=1)
    tensor.external_data.add(key="location", value=str(tmp_path / "secret"))
    model = onnx.load(run / "model.onnx")
    if where == "initializer":
        model.graph.initializer.append(tensor)
    elif where == "attribute":
        node = onnx.helper.make_node("Constant", [], ["w"])
        node.attribute.append(onnx.helper.make_attribute("value", tensor))
        model.graph.node.append(node)
    elif where == "training":
        model.training_info.add().algorithm.initializer.append(tensor)
    elif where == "function":
        attribute = onnx.helper.make_attribute("value", tensor)
        model.functions.add(name="f", domain="d").attribute_proto.append(attribute)
    else:
        inner = onnx.helper.make_graph([], "inner", [], [], [tensor])
        node = onnx.helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
        model.graph.node.append(node)
    reject_external_data((run / "model.onnx").read_bytes(), "good")
    with pytest.raises(ValueError, match="weights in other files"):
        Classifier(model.SerializeToString())


def test_export_in_its_own_process(run, tmp_path):
    """Also when the backend here is another; data from arrays cannot be found there."""
    with pytest.raises(ValueError, match="not exported"):
        export_run(Run(run), "onnx", tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_predicting_loads_no_deep_learning_framework(data, run, tmp_path):
    shutil.copy(run / "model.onnx", tmp_path)
    code = (
        "import sys, numpy as np; from fashion_cnn import Classifier\n"
        "print(Classifier.load('model.onnx').predict(np.zeros((28, 28), np.uint8)).label)\n"
        "heavy = ('keras', 'tensorflow', 'jax', 'matplotlib', 'sklearn', 'scipy', 'onnx')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True)
    label, heavy = done.stdout.splitlines()
    assert label in data.class_names
    assert heavy == "[]"
