"""Pictures and predictions in; images that show the network's input out, drawn by Pillow alone."""

import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from fashion_cnn.data.photo import PreparedImage
from fashion_cnn.files import write_atomically
from fashion_cnn.inference.prediction import Prediction

TILE, GAP, LINE_HEIGHT, CHART_WIDTH = 150, 14, 15, 250  # pixels
COLUMNS = 2
FONT = Path(__file__).with_name("DejaVuSans-subset.ttf")  # NOTICE says how it was made
# as in all plots of the project: report/style.py, which needs Matplotlib
INK, GRAY, PALE, BLUE, ORANGE = "#222222", "#666666", "#eeeeee", "#0072B2", "#E69F00"
LEGEND = (
    "orange: the predicted class is less probable when this is covered; blue: it is more probable"
)


def draw_contact_sheet(
    pictures: Sequence[tuple[str, PreparedImage, Prediction]], path: Path
) -> Path:
    """Draw each named picture, the network's input, and the probabilities; return the path."""
    width, height = 2 * TILE + CHART_WIDTH + 4 * GAP, TILE + 3 * LINE_HEIGHT + GAP
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (width * columns, height * rows), "white")
    for k, (name, image, prediction) in enumerate(pictures):
        left, top = k % columns * width + GAP, k // columns * height + GAP
        _draw_title(sheet, (left, top), width - 2 * GAP, name, prediction)
        top += 2 * LINE_HEIGHT
        _paste(sheet, (left, top), _to_image(image.photo))
        _paste(sheet, (left + TILE + GAP, top), _to_image(image.pixels))
        _draw_bar_chart(sheet, (left + 2 * (TILE + GAP), top), prediction)
    return write_atomically(path, sheet.save)


def draw_explanation(
    name: str, prepared: PreparedImage, prediction: Prediction, occlusion: np.ndarray, path: Path
) -> Path:
    """Draw every step from a picture to its prediction, and its float (height, width) occlusion."""
    steps = explanation_steps(prepared, occlusion)
    width = (TILE + GAP) * len(steps) + CHART_WIDTH + 2 * GAP
    sheet = Image.new("RGB", (width, TILE + 5 * LINE_HEIGHT + 2 * GAP), "white")
    _draw_title(sheet, (GAP, GAP), width - 2 * GAP, name, prediction)
    top = GAP + 2 * LINE_HEIGHT
    for k, (caption, image) in enumerate(steps):
        left = GAP + k * (TILE + GAP)
        _paste(sheet, (left, top), image)
        _write(sheet, (left, top + TILE + 5), caption, GRAY, 11)
    _draw_bar_chart(sheet, (GAP + len(steps) * (TILE + GAP), top), prediction)
    _write(sheet, (GAP, top + TILE + 2 * LINE_HEIGHT), LEGEND, GRAY, 11)
    return write_atomically(path, sheet.save)


def explanation_steps(prepared: PreparedImage, occlusion: np.ndarray) -> list[tuple[str, Any]]:
    """Captions and PIL images of the steps from a picture to its occlusion map."""
    steps = [("photo", _to_image(prepared.photo))]
    if prepared.garment_probability is not None and prepared.mask is not None:
        probability = np.rint(255 * prepared.garment_probability)
        dimmed = np.rint(prepared.photo * np.where(prepared.mask, 1.0, 0.15)[..., np.newaxis])
        steps.append(("garment probability", _to_image(probability)))
        steps.append(("segmented garment", _to_image(dimmed)))
    size = "x".join(map(str, prepared.pixels.shape[:2]))
    steps.append((f"network input, {size}", _to_image(prepared.pixels)))
    steps.append(("occlusion map", _heat_map(prepared.pixels, occlusion)))
    return steps


def _draw_title(
    sheet: Any, corner: tuple[int, int], width: int, name: str, prediction: Prediction
) -> None:
    """The prediction and the file's name in a line, the note in the next."""
    left, top = corner
    label = shorten(prediction.label, width // 2, 14)
    text = f"{label}  {prediction.probability:.0%}  {prediction.verdict}".rstrip()
    is_doubtful = prediction.verdict in ("unsure", "unknown")
    _write(sheet, corner, text, ORANGE if is_doubtful else BLUE, 14)
    indent = int(_font(14).getlength(text)) + GAP
    name = shorten(Path(name).name, width - indent, 11)
    _write(sheet, (left + indent, top + 2), name, GRAY, 11)
    _write(sheet, (left, top + LINE_HEIGHT), shorten(prediction.note, width, 11), GRAY, 11)


def _draw_bar_chart(sheet: Any, corner: tuple[int, int], prediction: Prediction) -> None:
    """The most probable classes, at most ten, each with a bar of its probability."""
    draw, (left, top) = ImageDraw.Draw(sheet), corner
    label_width, share_width = 106, 40
    start, full = left + label_width, CHART_WIDTH - label_width - share_width
    for k, (label, probability) in enumerate(list(prediction.probabilities.items())[:10]):
        y = top + k * LINE_HEIGHT
        _write(sheet, (left, y), shorten(label, start - left - 4, 11), INK, 11)
        draw.rectangle((start, y + 3, start + full, y + LINE_HEIGHT - 3), PALE)
        if length := round(full * probability):
            draw.rectangle((start, y + 3, start + length, y + LINE_HEIGHT - 3), BLUE)
        share = f"{probability:.0%}" if probability >= 0.1 else f"{probability:.1%}"
        _write(sheet, (start + full + 5, y), share, GRAY, 11)


def _heat_map(pixels: np.ndarray, occlusion: np.ndarray) -> Any:
    """Darkened pixels, orange where they support the predicted class and blue where they oppose."""
    gray = np.broadcast_to(pixels, (*pixels.shape[:2], 3)) * 0.45
    strength = (occlusion / max(np.abs(occlusion).max(), 1e-6))[..., np.newaxis]
    color = np.where(strength > 0, ImageColor.getrgb(ORANGE), ImageColor.getrgb(BLUE))
    return _to_image(np.rint(gray + np.abs(strength) * (color - gray)))


def _to_image(values: np.ndarray) -> Any:
    flat = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    return Image.fromarray(flat.astype(np.uint8)).convert("RGB")


def _paste(sheet: Any, corner: tuple[int, int], image: Any) -> None:
    """Paste an image into the middle of a tile, scaled to its size without smoothing."""
    scale = TILE / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    draw, (left, top) = ImageDraw.Draw(sheet), corner
    draw.rectangle((left, top, left + TILE - 1, top + TILE - 1), PALE)
    scaled = image.resize((width, height), Image.Resampling.NEAREST)
    sheet.paste(scaled, (left + (TILE - width) // 2, top + (TILE - height) // 2))


def shorten(text: str, width: int, size: int) -> str:
    """Text as the font can draw it, its end cut off where it is wider than `width` pixels.

    Accents are composed with their letters; characters that the font lacks are escaped.
    """
    font, text = _font(size), unicodedata.normalize("NFC", text)
    text = "".join(x if _has_glyph(x) else ascii(x)[1:-1] for x in text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"


@cache
def _has_glyph(character: str) -> bool:
    """Whether the font does not draw its box for what it lacks."""
    return bytes(_font(14).getmask(character)) != bytes(_font(14).getmask("\uffff"))


@cache
def _font(size: int) -> Any:
    return ImageFont.truetype(FONT, size, layout_engine=ImageFont.Layout.BASIC)


def _write(sheet: Any, corner: tuple[int, int], text: str, color: str, size: int) -> None:
    ImageDraw.Draw(sheet).text(corner, text, color, _font(size))
