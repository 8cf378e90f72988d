"""The classifier that reads exported models, on a small run."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from PIL import Image

from fashion_cnn.inference.classifier import Classifier


def test_one_picture_and_many(random_data, exported_run):
    classifier = Classifier.load(exported_run.folder)
    one, many = (
        classifier.predict(random_data.test_images[0]),
        classifier.predict(list(random_data.test_images)),
    )
    assert one.label == many[0].label and len(many) == 60
    assert list(one.probabilities.values()) == sorted(one.probabilities.values(), reverse=True)
    assert sum(one.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert one.probability == one.probabilities[one.label]
    assert one.similarity is None and one.unknown is None
    assert np.isnan(classifier.outputs(random_data.test_images[..., np.newaxis])[1]).all()
    four = classifier.predict(random_data.test_images[:4, ..., np.newaxis])
    assert [x.label for x in four] == [x.label for x in many[:4]]
    assert classifier.predict([]) == []


def test_an_array_of_gray_images_of_the_models_size_is_a_list(random_data, exported_run):
    classifier = Classifier.load(exported_run.folder)
    images = random_data.test_images[:28]
    for n in (1, 3, 4, 28):  # three and four could be color channels, 28 a height
        assert classifier.predict(images[:n]) == classifier.predict(list(images[:n]))
    assert classifier.predict(images[:0]) == []
    classifier.card["preparation"] = "photo"
    photo = np.full((3, 60, 4), 230, np.uint8)  # a picture, since its last axis are channels
    assert classifier.predict(photo).label in random_data.class_names
    for shape in ((784,), (), (3, 60, 50), (28, 28, 2), (1, 3, 60, 50)):
        with pytest.raises(ValueError, match=r"expected uint8 \(height, width\) or"):
            classifier.predict(np.zeros(shape, np.uint8))


def test_the_verdict_depends_on_the_cards_threshold(random_data, exported_run):
    classifier = Classifier.load(exported_run.folder)
    probability = classifier.predict(random_data.test_images[0]).probability
    for threshold, verdict in ((probability, "sure"), (probability + 1e-6, "unsure"), (None, "")):
        classifier.card["threshold"] = threshold
        assert classifier.predict(random_data.test_images[0]).verdict == verdict
    classifier.card["threshold"] = 0.0
    prepared = dataclasses.replace(
        classifier.prepare(random_data.test_images[0]), note="no garment found"
    )
    assert classifier.predict_prepared([prepared])[0].verdict == "unsure"
    assert classifier.predict_prepared([prepared])[0].note == "no garment found"


def test_photos_are_prepared_if_the_card_says_so(random_data, exported_run):
    classifier = Classifier.load(exported_run.folder)
    assert classifier.card["preparation"] is None  # these are not the classes of Fashion-MNIST
    classifier.card["preparation"] = "photo"
    garment = np.full((300, 200, 3), 230, np.uint8)
    garment[60:240, 70:130] = (20, 20, 90)
    prepared = classifier.prepare(garment)
    assert prepared.mask is not None and prepared.mask.sum() > 0
    np.testing.assert_array_equal(
        classifier.prepare(random_data.test_images[0]).pixels[..., 0], random_data.test_images[0]
    )
    assert classifier.predict([garment, random_data.test_images[0]])[1] == classifier.predict(
        random_data.test_images[0]
    )
    dark = random_data.test_images[0] // 3  # as the border of Fashion-MNIST's images
    colored = np.repeat(dark[..., np.newaxis], 3, 2)
    assert classifier.predict(colored) == classifier.predict(dark)
    classifier.card["preparation"] = None
    with pytest.raises(ValueError, match=r"300, 200.*expected raw pixels, uint8 \(28, 28, 1\)"):
        classifier.prepare(garment)


def test_the_preset_of_clothes_notes_pictures_like_fashion_mnists(random_data, exported_run):
    classifier = Classifier.load(exported_run.folder)
    classifier.card |= {"preparation": "fit", "threshold": 0.0}
    gray = Image.fromarray(random_data.test_images[0])
    color = Image.fromarray(np.stack(random_data.test_images[:3], axis=-1))
    assert classifier.predict(gray).note == ""  # a run on small gray pictures
    classifier.card["preset"] = "clothes"
    for picture in (gray, gray.convert("RGB")):
        prediction = classifier.predict(picture)
        assert "the preset standard is made for" in prediction.note
        assert prediction.verdict == "unsure"
    for picture in (color, gray.resize((56, 56)), gray.resize((28, 56))):
        assert classifier.predict(picture).note == ""


def test_a_gray_array_of_a_color_models_size_is_a_picture():
    classifier = Classifier.load("clothes")
    gray = np.zeros((260, 260), np.uint8)
    gray[:100] = 200
    expected = classifier.prepare(np.stack([gray] * 3, axis=-1)).pixels
    np.testing.assert_array_equal(classifier.prepare(gray).pixels, expected)


def test_the_occlusion_map_is_highest_where_the_prediction_comes_from(random_data, exported_run):
    """With a classifier whose prediction depends on one corner alone."""
    classifier = Classifier.load(exported_run.folder)

    def predict_from_corner(images):
        share = images[:, 3:6, 20:23].mean((1, 2, 3)) / 255
        return np.stack([share, 1 - share, 0 * share, 0 * share], 1)

    classifier.probabilities = predict_from_corner
    occlusion = classifier.occlusion_map(classifier.prepare(np.full((28, 28), 255, np.uint8)))
    assert occlusion.shape == (28, 28)
    assert np.unravel_index(occlusion.argmax(), occlusion.shape) in [
        (y, x) for y in (3, 4, 5) for x in (20, 21, 22)
    ]
    assert occlusion[15:].max() == 0 and occlusion[4, 21] > 0.3


def test_damaged_files_are_refused(exported_run, tmp_path):
    content = exported_run.onnx_path.read_bytes()
    bad = [content[: len(content) * k // 16] for k in range(16)] + [b"\x89PNG" + content]
    for damaged in bad:
        (tmp_path / "model.onnx").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model\.onnx: not a (valid model|model exported)"):
            Classifier.load(tmp_path / "model.onnx")
    with pytest.raises(FileNotFoundError, match="no model; expected a run folder"):
        Classifier.load(tmp_path / "nowhere.onnx")


def test_a_model_without_a_card_is_refused(exported_run, tmp_path):
    model = onnx.load(exported_run.onnx_path)
    del model.metadata_props[:]
    with pytest.raises(ValueError, match="not a model exported by fashion-cnn"):
        Classifier(model.SerializeToString())


@pytest.mark.parametrize(
    "card",
    [
        {},
        {"class_names": 3},
        {"threshold": "high"},
        {"threshold": 2},
        {"unknown_below": 0.5},  # without an output for it
        {"prediction_sets": {"0.9": 2}},
        {"prediction_sets": {"2": 0.5}},
        {"prediction_sets": [0.9]},
        {"input": {}},
        [],
    ],
)
def test_an_invalid_card_is_refused(exported_run, card):
    model = onnx.load(exported_run.onnx_path)
    original = json.loads(model.metadata_props[0].value)
    changed = {**original, **card} if card else card
    onnx.helper.set_model_props(model, {"fashion_cnn": json.dumps(changed)})
    with pytest.raises(ValueError, match=r"model: not a (valid model|model exported)"):
        Classifier(model.SerializeToString())


def test_predicting_loads_no_deep_learning_framework(random_data, exported_run, tmp_path):
    shutil.copy(exported_run.onnx_path, tmp_path)
    code = (
        "import sys, numpy as np; from fashion_cnn import Classifier\n"
        "print(Classifier.load('model.onnx').predict(np.zeros((28, 28), np.uint8)).label)\n"
        "heavy = ('keras', 'tensorflow', 'jax', 'matplotlib', 'sklearn', 'scipy', 'onnx')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True)
    label, heavy = done.stdout.splitlines()
    assert label in random_data.class_names
    assert heavy == "[]"
