"""Exports of small runs in every format, and their cards."""

import dataclasses
import json

import numpy as np
import pytest
from command import write_data_npz
from small_runs import OPTIONS, train_small_run

from fashion_cnn import export
from fashion_cnn.data.fashion_mnist import CLASS_NAMES
from fashion_cnn.evaluation import predict
from fashion_cnn.evaluation.calibration import apply_temperature
from fashion_cnn.export import FORMATS, export_in_process, export_run
from fashion_cnn.export.card import card_markdown, make_card
from fashion_cnn.files import file_sha256
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.models import build_model
from fashion_cnn.models.wrappers import flip_averaged, with_temperature
from fashion_cnn.run import Run

SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in OPTIONS if name != "textbook"]


def use_writer(monkeypatch, format_name, write):
    """Make a format write nothing, with the predictions that `write` returns."""
    changed = dataclasses.replace(FORMATS[format_name], write=write)
    monkeypatch.setitem(FORMATS, format_name, changed)


@pytest.mark.parametrize("name", ["textbook", *SLOW])
def test_onnx_predicts_as_keras_at_its_temperature(random_data, tmp_path, name):
    run = train_small_run(random_data, name, tmp_path / "run")
    path = export_in_process(run, random_data, "onnx", tmp_path / "model.onnx")
    expected = apply_temperature(predict(run.folder, random_data.test_images), 1.7)
    classifier = Classifier.load(path)
    actual = classifier.probabilities(random_data.test_images[..., np.newaxis])
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    card = json.loads((tmp_path / "model.onnx.json").read_text())
    assert card["sha256"] == file_sha256(path)
    assert card["parity"]["largest_difference"] <= 1e-4 and card["parity"]["same_predictions"]
    assert classifier.card == {key: card[key] for key in card if key != "sha256"}
    assert card["temperature_folded"] and card["class_names"] == list(random_data.class_names)


@pytest.mark.slow
@pytest.mark.parametrize("format_name", ["onnx-int8", "onnx-w8"])
def test_8_bits_are_as_accurate_at_a_third_of_the_size(tiny_data, tmp_path, format_name):
    run = train_small_run(tiny_data, "textbook", tmp_path / "run", epochs=10)
    export_in_process(run, tiny_data, "onnx", run.onnx_path)
    path = export_in_process(run, tiny_data, format_name, tmp_path / "small.onnx")
    assert path.stat().st_size < run.onnx_path.stat().st_size / 2.5
    classifier = Classifier.load(path)
    actual = classifier.probabilities(tiny_data.test_images[..., np.newaxis])
    parity = classifier.card["parity"]
    assert parity["accuracy"] == (actual.argmax(1) == tiny_data.test_labels).mean()
    assert abs(parity["accuracy"] - parity["accuracy_of_keras"]) <= 1 / 60 + 1e-9
    assert parity["images"] == 60
    expected = Classifier.load(run.folder).probabilities(tiny_data.test_images[..., np.newaxis])
    difference = parity["largest_difference"]
    assert difference == pytest.approx(np.abs(actual - expected).max(), abs=1e-4)
    text = (tmp_path / "small.onnx.md").read_text(encoding="utf-8")
    assert f"On 60 test images, its probabilities differ by up to {difference:.2g} from" in text


@pytest.mark.parametrize("format_name", ["onnx-int8", "onnx-w8"])
def test_a_less_accurate_export_of_8_bits_is_not_written(
    random_data, exported_run, tmp_path, monkeypatch, format_name
):
    wrong = (random_data.test_labels + 1) % 4
    use_writer(monkeypatch, format_name, lambda *_: lambda x: np.eye(4)[wrong[: len(x)]])
    with pytest.raises(ValueError, match=r"its accuracy is 0\.00%.*use the format onnx"):
        export_in_process(exported_run, random_data, format_name, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("images", "accepted"), [(30, 1), (499, 1), (1000, 2), (2000, 4)])
def test_the_accuracy_may_differ_by_two_thousandths_or_one_image(images, accepted):
    def predict_zero(pixels):
        return np.eye(2)[0 * pixels[:, 0, 0, 0]]

    def predict_pixel(pixels):
        return np.eye(2)[pixels[:, 0, 0, 0]]

    def compare(keras_model, exported, wrong):
        pixels = np.zeros((images, 28, 28, 1), np.uint8)
        pixels[:wrong] = 1
        return FORMATS["onnx-w8"].compare(keras_model, exported, pixels, np.zeros(images, int))

    for functions in ((predict_zero, predict_pixel), (predict_pixel, predict_zero)):
        parity = compare(*functions, accepted)
        assert {parity["accuracy"], parity["accuracy_of_keras"]} == {1, 1 - accepted / images}
        assert parity["largest_difference"] == 1
        with pytest.raises(ValueError, match=r"of at most 0\.2% or one image"):
            compare(*functions, accepted + 1)


def test_a_file_too_large_to_be_read_is_not_written(
    random_data, exported_run, tmp_path, monkeypatch
):
    monkeypatch.setattr("fashion_cnn.export.onnx.MAX_MODEL_BYTES", 1000)
    with pytest.raises(ValueError, match=r"bytes; at most 1,000 are read"):
        export_in_process(exported_run, random_data, "onnx", tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_litert_is_compared_in_its_own_runtime(random_data, exported_run, tmp_path):
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    from ai_edge_litert.interpreter import Interpreter

    path = export_in_process(exported_run, random_data, "litert", tmp_path / "model.tflite")
    card = json.loads((tmp_path / "model.tflite.json").read_text())
    assert card["parity"]["largest_difference"] <= 1e-4 and card["sha256"] == file_sha256(path)
    images = random_data.test_images[:1, ..., None]
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images)
    interpreter.invoke()
    actual = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    expected = Classifier.load(exported_run.folder).probabilities(images)
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_savedmodel_is_compared_too(random_data, exported_run, tmp_path):
    path = export_in_process(exported_run, random_data, "savedmodel", tmp_path / "saved")
    assert (path / "saved_model.pb").is_file()
    card = json.loads((tmp_path / "saved.json").read_text())
    assert card["parity"]["largest_difference"] <= 1e-4


def test_an_export_with_other_probabilities_is_not_written(
    random_data, exported_run, tmp_path, monkeypatch
):
    use_writer(monkeypatch, "onnx", lambda *_: lambda x: np.zeros((len(x), 4)))
    with pytest.raises(ValueError, match="differ by up to"):
        export_in_process(exported_run, random_data, "onnx", tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_not_overwritten(exported_run, tmp_path):
    (tmp_path / "thesis.onnx").write_text("dear")
    with pytest.raises(ValueError, match="exists already"):
        export_run(exported_run, "onnx", tmp_path / "thesis.onnx")
    with pytest.raises(FileNotFoundError, match=r"has no metrics\.json"):
        export_run(Run(tmp_path), "onnx")


def test_only_the_format_onnx_replaces_the_model_of_a_run(exported_run):
    with pytest.raises(ValueError, match=r"model\.onnx: exists already"):
        export_run(exported_run, "onnx-int8", exported_run.onnx_path)


def test_images_that_an_export_is_fitted_to_are_of_all_classes(
    random_data, exported_run, tmp_path, monkeypatch
):
    order = np.argsort(random_data.train_labels, kind="stable")  # as folders are read
    images = random_data.train_images[order]
    images[..., 0, 0] = random_data.train_labels[order]
    data = dataclasses.replace(
        random_data, train_images=images, train_labels=random_data.train_labels[order]
    )
    fitted_to = []

    def write(network, path, calibration_images):
        fitted_to.append(calibration_images)
        raise OSError("enough")

    monkeypatch.setattr(export, "CALIBRATION_IMAGES", 30)
    use_writer(monkeypatch, "onnx-w8", write)
    with pytest.raises(OSError, match="enough"):
        export_in_process(exported_run, data, "onnx-w8", tmp_path / "model.onnx")
    classes = np.unique(fitted_to[0][:, 0, 0, 0])
    assert len(fitted_to[0]) == 30 and len(classes) > 1


def test_a_failure_in_the_other_process_is_reported(random_data, exported_run, tmp_path):
    """It loads the data that it is given, which is not that of the run."""
    write_data_npz(tmp_path / "data.npz", random_data)
    with pytest.raises(ValueError, match=r"not exported .*data\.npz is not what .* trained on"):
        export_run(exported_run, "onnx", tmp_path / "model.onnx", str(tmp_path / "data.npz"))
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]


def test_a_page_cannot_be_exported_from_a_run(random_data, exported_run, tmp_path):
    with pytest.raises(ValueError, match="web: cannot be exported from a run"):
        export_in_process(exported_run, random_data, "web", tmp_path / "web")


@pytest.mark.parametrize("make", [lambda model: model, flip_averaged])
def test_a_temperature_in_the_network_equals_one_on_its_predictions(random_data, make):
    model = make(build_model("textbook", (28, 28, 1), 4))
    before = predict(model, random_data.test_images)
    for temperature in (0.5, 1.0, 3.0):
        actual = predict(with_temperature(model, temperature), random_data.test_images)
        np.testing.assert_allclose(actual, apply_temperature(before, temperature), atol=1e-5)
    np.testing.assert_array_equal(predict(model, random_data.test_images), before)


def test_the_card_says_how_pictures_are_prepared(random_data, exported_run):
    clothes = dataclasses.replace(random_data, class_names=CLASS_NAMES)
    photos = dataclasses.replace(random_data, train_files=("a.jpg",))
    for data, preparation in ((random_data, None), (clothes, "photo"), (photos, "fit")):
        assert make_card(exported_run, data, "onnx")["preparation"] == preparation


def test_the_card_for_people(random_data, exported_run):
    card = make_card(exported_run, random_data, "onnx")
    text = card_markdown({**card, "temperature": 1.7, "threshold": 0.9, "notes": ["few images"]})
    assert text.startswith("# textbook: 4 classes\n\nMade 20")
    assert "from arrays with `" in text
    counts = f"trained on {card['split']['train']} images; {card['split']['validation']} were held"
    assert f"It was {counts} out for validation. Its expected" in text
    assert "a probability of at least 0.90 (its threshold) are correct on" in text
    assert "assigns one of these to any picture, so discard predictions below the" in text
    table = text[text.index("| class") : text.index("\n\n## Intended use")].splitlines()
    assert [row.split(" | ")[0] for row in table[2:]] == ["| a", "| b", "| <c>", "| Ü"]
    assert "(uint8, 28x28x1), from pictures of exactly this size. Output:" in text
    assert "\n\nAbout the data: few images.\n\n## How it was made\n\n```json\n{\n" in text
    assert text.endswith("}\n```\n")
    assert card["threshold"] is None and card["threshold_note"].startswith("15 validation images")
    rows = card["test"]["per_class"]
    rows["Ü"] = dict.fromkeys(("precision", "recall", "f1"), None) | {"support": 0}
    text = card_markdown({**card, "temperature": None, "preparation": "fit"})
    assert (
        "for validation. No temperature (calibration) was fitted. It has no confidence th" in text
    )
    assert "called sure: 15 validation images; at least 299 are needed to show that 99 %" in text
    assert "with 95 % confidence.\n\n|" in text and "| Ü | - | - | 0 |\n" in text
    assert "to any picture. It was not made" in text
    assert "(uint8, 28x28x1), to whose height" in text and "About the data" not in text
    text = card_markdown({**card, "preparation": "photo"})
    assert "), which `fashion-cnn predict`" in text
