"""Predictions as text and as drawings, from a classifier that needs no model."""

import csv
import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image

from fashion_cnn.cli.predictions import print_header, print_result
from fashion_cnn.data.photo import PreparedImage, prepare_photo
from fashion_cnn.inference.drawing import TILE, draw_contact_sheet, draw_explanation, shorten
from fashion_cnn.inference.prediction import Prediction
from fashion_cnn.inference.predictions import PictureResult, predict_paths

SURE = Prediction("Coat", 0.75, {"Coat": 0.75, "Dress": 0.25}, True)
UNKNOWN = Prediction("Coat", 0.9, {"Coat": 0.9, "Dress": 0.1}, False, "", 0.3125, True)
NOTED = Prediction("Dress", 0.6, {"Dress": 0.6, "Coat": 0.4}, False, "no garment found")


class FakeClassifier:
    """Predicts two files."""

    def prepare(self, path):
        if path == "broken.png":
            raise ValueError("broken.png: not a picture")
        pixels = np.full((28, 28, 1), 200 if path == "a.png" else 90, np.uint8)
        return PreparedImage(np.repeat(pixels, 3, 2), pixels)

    def predict_prepared(self, prepared):
        return [SURE if x.pixels[0, 0, 0] == 200 else NOTED for x in prepared]


def test_an_unknown_picture_is_called_so_everywhere(capsys, tmp_path, prepared):
    result = PictureResult("x.png", prepared, UNKNOWN)
    print_result(result, [("Coat", 0.9)], "table")
    print_result(result, [("Coat", 0.9)], "csv")
    table, row = capsys.readouterr().out.splitlines()
    assert table.split() == ["x.png", "Coat", "90.00%", "unknown"]
    assert row == "x.png,1,Coat,0.9,unknown,,"
    print_result(result, [("Coat", 0.9)], "jsonl")
    row = json.loads(capsys.readouterr().out)
    assert (row["verdict"], row["similarity"]) == ("unknown", 0.3125)
    sheets = [
        read_rgb(draw_contact_sheet([("x.png", prepared, prediction)], tmp_path / "x.png"))
        for prediction in (UNKNOWN, dataclasses.replace(UNKNOWN, sure=None, unknown=None))
    ]
    blue = [(sheet[:28] == (0, 0x72, 0xB2)).all(-1).sum() for sheet in sheets]  # the title's color
    assert blue[0] == 0 < blue[1]


def read_rgb(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def printed(capsys, output_format, top=2):
    print_header(output_format)
    for result in predict_paths(FakeClassifier(), ["a.png", "broken.png", "b,1.png"]):
        classes = result.prediction.probabilities if result.prediction else {}
        print_result(result, list(classes.items())[:top], output_format)
    return capsys.readouterr().out


def test_jsonl_has_one_object_a_line(capsys):
    first, second, third = map(json.loads, printed(capsys, "jsonl", 1).splitlines())
    assert first == {
        "path": "a.png",
        "label": "Coat",
        "probability": 0.75,
        "verdict": "sure",
        "top": [{"label": "Coat", "probability": 0.75}],
    }
    assert second == {"path": "broken.png", "error": "not a picture"}
    assert (third["verdict"], third["note"]) == ("unsure", "no garment found")


def test_csv_has_a_row_for_each_class_and_each_error(capsys):
    rows = list(csv.DictReader(io.StringIO(printed(capsys, "csv"))))
    assert [(r["path"], r["rank"], r["label"], r["verdict"]) for r in rows] == [
        ("a.png", "1", "Coat", "sure"),
        ("a.png", "2", "Dress", ""),
        ("broken.png", "", "", ""),
        ("b,1.png", "1", "Dress", "unsure"),
        ("b,1.png", "2", "Coat", ""),
    ]
    assert rows[2]["error"] == "not a picture" and rows[3]["note"] == "no garment found"


def test_the_table_has_a_line_for_each_picture(capsys):
    lines = printed(capsys, "table", 1).splitlines()
    assert lines[0].split() == ["a.png", "Coat", "75.00%", "sure"]
    assert lines[1].split() == ["broken.png", "not", "a", "picture"]
    assert lines[2].endswith("unsure: no garment found")


@pytest.fixture
def prepared():
    photo = np.full((120, 90, 4), 255, np.uint8)
    photo[20:100, 30:60, :3] = (150, 20, 20)
    return prepare_photo(photo)


def test_the_contact_sheet_has_every_picture_and_its_network_input(tmp_path, prepared):
    pictures = [("x/a.jpg", prepared, prediction) for prediction in (SURE, NOTED, SURE)]
    path = draw_contact_sheet(pictures, tmp_path / "s.png")
    sheet = read_rgb(path).astype(int)
    red = (abs(sheet - prepared.photo[60, 45].astype(int)).max(-1) < 3).sum()
    assert red > 3 * 0.15 * TILE**2  # the garment, three times
    assert sheet.shape[1] > sheet.shape[0] > TILE


def test_the_explanation_shows_each_step(tmp_path, prepared):
    occlusion = np.zeros((28, 28))
    occlusion[:14], occlusion[14:] = 0.5, -0.1
    path = draw_explanation("a.jpg", prepared, SURE, occlusion, tmp_path / "why.png")
    already_prepared = FakeClassifier().prepare("a.png")
    short = draw_explanation("a.jpg", already_prepared, NOTED, occlusion, tmp_path / "less.png")
    widths = [read_rgb(x).shape[1] for x in (path, short)]
    assert widths[0] - widths[1] > 2 * TILE  # two steps fewer: there is no segmentation


def test_the_font_of_drawings_has_european_letters_and_the_others_are_escaped():
    letters = "Größe, naïve, Łódź, říční, őű, Ștefan, ığ, þæ, Ωμέγα, Щука, Їжак, €"
    assert shorten(letters, 10_000, 11) == letters
    assert shorten("u\u0308ber", 10_000, 11) == "über"  # as macOS stores names
    assert shorten("名\udce9\n.png", 10_000, 11) == r"\u540d\udce9\n.png"


def test_a_long_name_and_note_stay_within_their_column(tmp_path, prepared):
    noted = Prediction("Dress" * 9, 0.6, {"Dress" * 9: 0.6}, False, "no garment found " * 20)
    pictures = [("w" * 200 + ".jpg", prepared, noted), ("a.jpg", prepared, SURE)]
    sheet = read_rgb(draw_contact_sheet(pictures, tmp_path / "s.png"))
    middle = sheet.shape[1] // 2
    assert (sheet[:, middle - 10 : middle + 10] == 255).all()
    assert (sheet[:, middle - 40 : middle - 10] < 255).any()
