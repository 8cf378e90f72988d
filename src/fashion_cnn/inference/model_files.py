"""The name of a model in; the bytes of its `.onnx` file out. Models that ship are presets."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

PRESETS = ("clothes", "photo", "textbook", "standard", "thorough")
PRESET_FOLDER = Path(__file__).parents[1] / "presets"
MAX_MODEL_BYTES = 1 << 30


def presets() -> dict[str, dict[str, Any]]:
    """The models that ship with the package: name -> card.

    `benchmarks/clothes.py` and `benchmarks/presets.py` make them.
    """
    return {name: _preset_card(name) for name in PRESETS}


def model_name(model: Path | str) -> str:
    """The name of a preset, a run or a model file, for people."""
    return Path(model).resolve().name.removesuffix(".onnx")


def read_model(model: Path | str) -> tuple[bytes, str]:
    """Read a preset, the model of a run folder, or an `.onnx` file.

    Args:
        model: the preset's name, or the path of a run folder or a file.

    Returns:
        The bytes of the `.onnx` file, and its path.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: it is too large, or a preset that is damaged.
    """
    path = Path(os.path.expanduser(model))
    if model in PRESETS:
        path = PRESET_FOLDER / f"{model}.onnx"
    if path.is_dir():
        from fashion_cnn.run import Run  # only now: a preset or a file needs nothing of it

        path = Run(path).onnx_path
    if not path.is_file():
        raise FileNotFoundError(
            f"{model}: no model; expected a run folder with model.onnx, an .onnx file, or one "
            f"of the presets {', '.join(PRESETS)}"
        )
    if path.stat().st_size > MAX_MODEL_BYTES:
        raise ValueError(f"{path}: not a valid model (more than {MAX_MODEL_BYTES:,} bytes)")
    content = path.read_bytes()
    expected = _preset_card(str(model))["sha256"] if model in PRESETS else None
    if expected and hashlib.sha256(content).hexdigest() != expected:
        raise ValueError(f"{path}: damaged (its SHA-256 is not its card's); install again")
    return content, str(path)


def _preset_card(name: str) -> dict[str, Any]:
    return json.loads((PRESET_FOLDER / f"{name}.onnx.json").read_text(encoding="utf-8"))
