"""Pictures and answers in; sheets that show what the network saw out, drawn with Pillow alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fashion_cnn.data.photo import PreparedImage
from fashion_cnn.files import write_atomically
from fashion_cnn.inference.classifier import Prediction

TILE, GAP, LINE = 150, 14, 15  # pixels
BARS = 250
COLUMNS = 2
# as on all plots of the project: report/style.py, which needs Matplotlib
INK, GREY, PALE, BLUE, ORANGE = "#222222", "#666666", "#eeeeee", "#0072B2", "#E69F00"


def draw_contact_sheet(
    names: Sequence[str], seen: Sequence[PreparedImage], answers: Sequence[Prediction], path: Path
) -> Path:
    """Draw each picture, what the network saw of it, and its probabilities.

    Args:
        names: one a picture; its title.
        seen: what `Classifier.prepare` gave.
        answers: and `Classifier.predict_prepared`.
        path: of the picture to write; its ending says which kind.

    Returns:
        `path`.
    """
    wide, high = 2 * TILE + BARS + 4 * GAP, TILE + 3 * LINE + GAP
    columns = min(COLUMNS, len(names))
    sheet = Image.new("RGB", (wide * columns, high * -(-len(names) // columns)), "white")
    for k, (name, prepared, answer) in enumerate(zip(names, seen, answers, strict=True)):
        left, top = k % columns * wide + GAP, k // columns * high + GAP
        _title(sheet, (left, top), name, answer)
        top += 2 * LINE
        _put(sheet, (left, top), _image(prepared.photo))
        _put(sheet, (left + TILE + GAP, top), _image(prepared.pixels))
        _bars(sheet, (left + 2 * (TILE + GAP), top), answer)
    return write_atomically(path, sheet.save)


def explanation(
    name: str, prepared: PreparedImage, answer: Prediction, evidence: np.ndarray, path: Path
) -> Path:
    """Draw every step from a picture to its answer, and where the evidence for it is.

    Args:
        name: the title.
        prepared: what `Classifier.prepare` gave.
        answer: and `Classifier.predict_prepared`.
        evidence: and `Classifier.occlusion_map`.
        path: of the picture to write.

    Returns:
        `path`.
    """
    steps = explanation_steps(prepared, evidence)
    wide = (TILE + GAP) * len(steps) + BARS + 2 * GAP
    sheet = Image.new("RGB", (wide, TILE + 5 * LINE + 2 * GAP), "white")
    _title(sheet, (GAP, GAP), name, answer)
    for k, (caption, image) in enumerate(steps):
        left = GAP + k * (TILE + GAP)
        _put(sheet, (left, GAP + 2 * LINE), image)
        _write(sheet, (left, GAP + 2 * LINE + TILE + 5), caption, GREY, 11)
    _bars(sheet, (GAP + len(steps) * (TILE + GAP), GAP + 2 * LINE), answer)
    told = "orange: without this part the answer would be less probable; blue: more probable"
    _write(sheet, (GAP, GAP + TILE + 4 * LINE), told, GREY, 11)
    return write_atomically(path, sheet.save)


def explanation_steps(prepared: PreparedImage, evidence: np.ndarray) -> list[tuple[str, Any]]:
    """Captions and images of what happens to a picture, up to where the evidence is."""
    steps = [("the picture", _image(prepared.photo))]
    if prepared.garment_probability is not None and prepared.mask is not None:
        dimmed = prepared.photo * np.where(prepared.mask, 1.0, 0.15)[..., np.newaxis]
        steps.append(("how surely garment", _image(np.rint(255 * prepared.garment_probability))))
        steps.append(("the garment, cut out", _image(np.rint(dimmed))))
    size = "x".join(map(str, prepared.pixels.shape[:2]))
    steps.append((f"the network sees {size}", _image(prepared.pixels)))
    steps.append(("where the evidence is", _heat(prepared.pixels, evidence)))
    return steps


def _title(sheet: Any, at: tuple[int, int], name: str, answer: Prediction) -> None:
    said = f"{answer.label}  {answer.probability:.0%}  {answer.verdict}".rstrip()
    _write(sheet, at, said, ORANGE if answer.sure is False else BLUE, 14)
    taken = int(ImageDraw.Draw(sheet).textlength(said, _font(14))) + GAP
    told = Path(name).name if not answer.note else f"{Path(name).name}: {answer.note}"
    _write(sheet, (at[0] + taken, at[1] + 2), told, GREY, 11)


def _bars(sheet: Any, at: tuple[int, int], answer: Prediction) -> None:
    """The likeliest classes, at most ten, each with a bar of its probability."""
    draw, (left, top) = ImageDraw.Draw(sheet), at
    start, full = left + 90, BARS - 90 - 40
    for k, (label, share) in enumerate(list(answer.probabilities.items())[:10]):
        y = top + k * LINE
        _write(sheet, (left, y), label[:14], INK, 11)
        draw.rectangle((start, y + 3, start + full, y + LINE - 3), PALE)
        if long := round(full * share):
            draw.rectangle((start, y + 3, start + long, y + LINE - 3), BLUE)
        _write(sheet, (start + full + 5, y), f"{share:.0%}", GREY, 11)


def _heat(pixels: np.ndarray, evidence: np.ndarray) -> Any:
    """Pixels darkened, with orange where evidence for the answer is and blue where against it."""
    grey = np.broadcast_to(pixels, (*pixels.shape[:2], 3)) * 0.45
    strength = (evidence / max(np.abs(evidence).max(), 1e-6))[..., np.newaxis]
    colour = np.where(strength > 0, _rgb(ORANGE), _rgb(BLUE))
    return _image(np.rint(grey + np.abs(strength) * (colour - grey)))


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)], float)


def _image(values: np.ndarray) -> Any:
    flat = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    return Image.fromarray(flat.astype(np.uint8)).convert("RGB")


def _put(sheet: Any, at: tuple[int, int], image: Any) -> None:
    """Paste an image as large as a tile takes, in the middle of it, its pixels to be seen."""
    scale = TILE / max(image.size)
    size = tuple(max(1, round(n * scale)) for n in image.size)
    draw, (left, top) = ImageDraw.Draw(sheet), at
    draw.rectangle((left, top, left + TILE - 1, top + TILE - 1), PALE)
    place = left + (TILE - size[0]) // 2, top + (TILE - size[1]) // 2
    sheet.paste(image.resize(size, Image.Resampling.NEAREST), place)


def _write(sheet: Any, at: tuple[int, int], text: str, colour: str, size: int) -> None:
    ImageDraw.Draw(sheet).text(at, text, colour, _font(size))


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
