"""Models computed by OpenVINO: what is chosen, and that it predicts as ONNX Runtime does."""

import json
import locale
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from fashion_cnn.export.onnx import add_card
from fashion_cnn.export.precision import measure_bfloat16
from fashion_cnn.inference import openvino, session
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.inference.model_files import PRESET_FOLDER, PRESETS, presets
from fashion_cnn.machine import processor_has_bfloat16

pytest.importorskip("openvino")
WITH_BFLOAT16 = pytest.mark.skipif(
    not processor_has_bfloat16(), reason="the processor has no bfloat16"
)


@pytest.mark.parametrize("name", PRESETS)
def test_float32_predicts_as_onnx_runtime(name):
    expected, actual = Classifier.load(name), Classifier.load(name, runtime="openvino")
    assert expected.runtime.startswith("ONNX Runtime ") and expected.runtime.endswith(", float32")
    assert actual.runtime.startswith("OpenVINO ") and actual.runtime.endswith(", float32")
    count = 9 if name == "clothes" else 300
    images = np.random.default_rng(1).integers(0, 256, (count, *expected.shape), np.uint8)
    results = zip(expected.outputs(images), actual.outputs(images), strict=True)
    for x, y in results:
        np.testing.assert_allclose(y, x, atol=1e-4)
    assert actual.outputs(images[:0])[0].shape == (0, 10)


def test_batches_are_computed_side_by_side_in_order(monkeypatch):
    encoding = locale.getencoding()
    monkeypatch.setattr(openvino, "cores", lambda: 3)
    images = np.random.default_rng(1).integers(0, 256, (1000, 28, 28, 1), np.uint8)
    expected = Classifier.load("textbook").probabilities(images)
    classifier = Classifier.load("textbook", 1, "openvino", "float32", bulk=True)
    np.testing.assert_allclose(classifier.probabilities(images), expected, atol=1e-4)
    assert locale.getencoding() == encoding


def test_a_compiled_copy_has_one_user_at_a_time():
    copies, used, most, lock = openvino._Copies(object, 2), set(), [0], threading.Lock()

    def use(_):
        with copies.borrow() as copy:
            with lock:
                assert id(copy) not in used
                used.add(id(copy))
                most.append(len(used))
            time.sleep(0.005)
            with lock:
                used.remove(id(copy))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(use, range(60)))
    assert max(most) == 2 and len(copies._idle) == 2


def test_a_thread_that_waits_for_a_copy_goes_on_when_another_cannot_be_compiled():
    started, results = threading.Event(), []

    def compile_copy():
        if results:
            return "copy"
        started.set()
        time.sleep(0.2)
        results.append("failed")
        raise MemoryError

    copies = openvino._Copies(compile_copy, 1)

    def borrow():
        with copies.borrow() as copy:
            return copy

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(borrow)
        assert started.wait(10)
        second = pool.submit(borrow)
        assert isinstance(first.exception(10), MemoryError) and second.result(10) == "copy"


def test_a_copy_that_cannot_be_compiled_is_tried_again():
    results = iter([RuntimeError("no memory"), "copy"])

    def compile_copy():
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    copies = openvino._Copies(compile_copy, 1)
    with pytest.raises(RuntimeError, match="no memory"), copies.borrow():
        pass
    with copies.borrow() as copy:
        assert copy == "copy"


def loss(accuracy_loss, images=100):
    return {"bfloat16": {"images": images, "accuracy_loss": accuracy_loss}}


PROVED, WORSE, TOO_FEW = loss(0.0015), loss(0.0016), loss(0.0, images=99)


@pytest.mark.parametrize(
    ("requested", "bulk", "card", "installed", "has_bfloat16", "expected"),
    [
        (("auto", "auto"), True, PROVED, True, True, "bfloat16"),
        (("auto", "auto"), True, PROVED, True, False, None),
        (("auto", "auto"), True, PROVED, False, True, None),
        (("auto", "auto"), True, WORSE, True, True, None),
        (("auto", "auto"), True, TOO_FEW, True, True, None),
        (("auto", "auto"), True, loss("0.0015", images="100"), True, True, "bfloat16"),
        (("auto", "auto"), True, {"bfloat16": {}}, True, True, None),
        (("auto", "auto"), True, {}, True, True, None),
        (("auto", "auto"), False, PROVED, True, True, None),
        (("auto", "float32"), True, PROVED, True, True, None),
        (("auto", "bfloat16"), False, WORSE, True, True, "bfloat16"),
        (("openvino", "auto"), True, PROVED, True, True, "bfloat16"),
        (("openvino", "auto"), True, WORSE, True, True, "float32"),
        (("openvino", "auto"), False, PROVED, True, True, "float32"),
        (("onnxruntime", "auto"), True, PROVED, True, True, None),
    ],
)
def test_the_runtime_and_precision(
    monkeypatch, requested, bulk, card, installed, has_bfloat16, expected
):
    monkeypatch.setattr(session, "find_spec", lambda name: SimpleNamespace() if installed else None)
    monkeypatch.setattr(session, "processor_has_bfloat16", lambda: has_bfloat16)
    assert session._choose(*requested, bulk, card) == expected


def test_what_cannot_be_had_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="runtime: got 'tensorrt'; expected auto, onnxruntime"):
        Classifier.load("textbook", runtime="tensorrt")
    with pytest.raises(ValueError, match="precision: got 'int8'; expected auto, float32"):
        Classifier.load("textbook", precision="int8")
    with pytest.raises(ValueError, match="ONNX Runtime computes in float32"):
        Classifier.load("textbook", runtime="onnxruntime", precision="bfloat16")
    monkeypatch.setattr(session, "processor_has_bfloat16", lambda: False)
    with pytest.raises(ValueError, match="neither AVX512-BF16 nor AMX"):
        Classifier.load("textbook", precision="bfloat16")
    monkeypatch.setattr(session, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="openvino"):
        Classifier.load("textbook", runtime="openvino")


@pytest.mark.parametrize("error", [ImportError("no library"), AttributeError(), RuntimeError("")])
def test_where_openvino_fails_onnx_runtime_computes(monkeypatch, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(openvino, "start_openvino", fail)
    monkeypatch.setattr(session, "_choose", lambda *_: "bfloat16")
    assert "ONNX Runtime" in Classifier.load("textbook", bulk=True).runtime
    with pytest.raises(ValueError, match="cannot run in OpenVINO"):
        Classifier.load("textbook", runtime="openvino")


@pytest.mark.parametrize("proof", [[1], "no", {"accuracy_loss": "x", "images": 1}, {"images": 1}])
def test_a_card_with_an_impossible_proof_is_refused(tmp_path, proof):
    path = tmp_path / "model.onnx"
    path.write_bytes((PRESET_FOLDER / "textbook.onnx").read_bytes())
    add_card(path, presets()["textbook"] | {"bfloat16": proof})
    with pytest.raises(ValueError, match="not a"):
        Classifier.load(path, bulk=True)


def test_a_network_that_openvino_computes_wrongly_is_not_run_in_it(monkeypatch):
    def start(*arguments):
        return lambda batches: [[np.full((len(x), 10), 0.1, np.float32)] for x in batches]

    monkeypatch.setattr(openvino, "start_openvino", start)
    with pytest.raises(ValueError, match=r"cannot run in OpenVINO in float32 .*differ by"):
        Classifier.load("textbook", runtime="openvino")
    monkeypatch.setattr(session, "_choose", lambda *_: "bfloat16")  # as where it is proved
    classifier = Classifier.load("textbook", bulk=True)
    assert (
        "ONNX Runtime" in classifier.runtime
        and "(OpenVINO: its outputs differ by" in classifier.runtime
    )
    assert classifier.predict(np.zeros((28, 28), np.uint8)).probability != pytest.approx(0.1)


@WITH_BFLOAT16
@pytest.mark.slow
@pytest.mark.parametrize("name", ["photo", "textbook", "standard", "thorough"])
def test_bfloat16_leaves_accuracy_and_sure_predictions_as_they_are(name, real_data):
    exact, fast = Classifier.load(name), Classifier.load(name, precision="bfloat16", bulk=True)
    card = presets()[name]["bfloat16"]
    accuracies, shares = [], []
    for classifier in (exact, fast):
        rows = classifier.probabilities(real_data.test_images[..., np.newaxis])
        correct = rows.argmax(1) == real_data.test_labels
        sure = rows.max(1) >= classifier.card["threshold"]
        accuracies += [correct.mean(), correct[sure].mean()]
        shares.append(sure.mean())
    assert abs(accuracies[2] - accuracies[0]) <= session.MAX_ACCURACY_LOSS
    assert abs(accuracies[3] - accuracies[1]) <= session.MAX_ACCURACY_LOSS
    assert abs(shares[1] - shares[0]) < 0.01
    assert card["images"] == 10_000 and card["accuracy_loss"] <= session.MAX_ACCURACY_LOSS


@WITH_BFLOAT16
def test_the_loss_in_bfloat16_is_measured_at_export(exported_run, random_data, monkeypatch):
    classifier = Classifier.load(exported_run.folder)
    images, labels = random_data.test_images[..., np.newaxis], random_data.test_labels
    measured = classifier.card["bfloat16"]
    assert measured["images"] == 60 and measured["runtime"].endswith(", bfloat16")
    fast = Classifier.load(exported_run.folder, precision="bfloat16").probabilities(images)
    exact = classifier.probabilities(images)
    assert measured["accuracy"] == (fast.argmax(1) == labels).mean()
    assert measured["accuracy_float32"] == (exact.argmax(1) == labels).mean()
    assert 0 < measured["largest_difference"] < 0.1
    text = (exported_run.folder / "model.onnx.md").read_text(encoding="utf-8")
    assert f"Computed in bfloat16 ({measured['runtime']}), its accuracy on 60 test images" in text
    monkeypatch.setattr("fashion_cnn.export.precision.find_spec", lambda name: None)
    assert measure_bfloat16(exported_run.onnx_path, images, labels) == {}
    assert json.dumps(measured)
