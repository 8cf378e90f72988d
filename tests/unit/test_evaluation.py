import numpy as np
import pytest
from PIL import Image

from fashion_cnn.evaluation import newest_run, read_image
from fashion_cnn.evaluation.metrics import classification_metrics

PROBABILITIES = np.array([[0.7, 0.3], [0.4, 0.6], [0.2, 0.8], [0.9, 0.1]], np.float32)
LABELS = np.array([0, 0, 1, 0])


def test_metrics_by_hand():
    found = classification_metrics(PROBABILITIES, LABELS, ("cat", "dog"))
    assert found["accuracy"] == 0.75
    assert found["loss"] == pytest.approx(-np.log([0.7, 0.4, 0.8, 0.9]).mean(), rel=1e-6)
    assert found["examples"] == 4
    assert found["confusion_matrix"] == [[2, 1], [0, 1]]
    assert found["per_class"]["cat"] == {
        "precision": 1.0,
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(0.8),
        "support": 3,
    }
    assert found["per_class"]["dog"]["precision"] == 0.5


def test_a_class_that_never_comes_has_zeros():
    found = classification_metrics(PROBABILITIES[:1], LABELS[:1])
    assert found["per_class"]["1"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}


@pytest.mark.parametrize("labels", [LABELS[:3], LABELS[:0]])
def test_shapes_that_do_not_fit_are_refused(labels):
    with pytest.raises(ValueError, match="expected"):
        classification_metrics(PROBABILITIES[: len(labels) and 4], labels)


def test_an_image_file_is_read_grey(tmp_path):
    Image.new("RGB", (28, 28), (255, 0, 0)).save(tmp_path / "red.png")
    image = read_image(tmp_path / "red.png", (28, 28))
    assert (image.shape, image.dtype, image[0, 0, 0]) == ((28, 28, 1), np.uint8, 76)


def test_transparent_is_black_and_16_bits_are_scaled(tmp_path):
    Image.new("RGBA", (28, 28), (255, 255, 255, 0)).save(tmp_path / "clear.png")
    Image.fromarray(np.full((28, 28), 0x8000, np.uint16)).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "clear.png", (28, 28)).max() == 0
    assert read_image(tmp_path / "deep.png", (28, 28), 3)[3, 5].tolist() == [128] * 3


def test_files_that_are_no_such_picture_are_refused(tmp_path):
    Image.new("L", (30, 20)).save(tmp_path / "wide.png")
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(ValueError, match=r"wide\.png: 30x20 pixels; expected 28x28"):
        read_image(tmp_path / "wide.png", (28, 28))
    with pytest.raises(ValueError, match=r"text\.png: not a picture"):
        read_image(tmp_path / "text.png", (28, 28))
    noise = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "half.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "half.png").read_bytes()[:300])
    with pytest.raises(ValueError, match=r"half\.png: "):
        read_image(tmp_path / "half.png", (28, 28))
    with pytest.raises(FileNotFoundError, match=r"none\.png: no such file"):
        read_image(tmp_path / "none.png", (28, 28))


def test_no_run_yet(tmp_path):
    with pytest.raises(FileNotFoundError, match="fashion-cnn train"):
        newest_run(tmp_path)
