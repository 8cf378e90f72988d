"""Make the models that come with the package: python benchmarks/presets.py --photos DIR [NAME]...

Each is `fashion-cnn train NAME`, seed 0, in runs/presets/NAME, and goes on there after a break; its
ONNX file and card go into the package. `photo` learns from Fashion-MNIST alone; its temperature and
its threshold are fitted on the photos in DIR/train/<class>, named as in benchmarks/photos.py.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from photos import CLASSES, answers_to, read_photos

from fashion_cnn import load_data
from fashion_cnn.evaluation.calibration import (
    apply_temperature,
    calibration_error,
    fit_temperature,
    fit_threshold,
)
from fashion_cnn.export import export_in_process
from fashion_cnn.inference.classifier import PRESET_FOLDER, PRESETS
from fashion_cnn.run import Run

PURPOSE = {
    "photo": "photos of garments; the default",
    "textbook": "the network that everybody knows",
    "standard": "pictures like Fashion-MNIST's, fast",
    "thorough": "pictures like Fashion-MNIST's, best",
}
SURE = 0.8  # of the answers to photos that are called sure, so many shall be right


def main() -> None:
    """Train what is not trained yet, and export it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=PRESETS, help="presets; all without")
    parser.add_argument("--photos", type=Path, help="a folder with train/<class>/<photo>")
    arguments = parser.parse_args()
    data = load_data()
    PRESET_FOLDER.mkdir(exist_ok=True)
    for name in arguments.names:
        if name == "photo" and not arguments.photos:
            sys.exit("photo: needs --photos DIR")
        run = Path("runs/presets") / name
        resume = ["--resume"] if run.exists() else []
        words = ["train", name, "--run", str(run), "--no-report", *resume]
        call = [sys.executable, "-c", "from fashion_cnn.cli import main; main()", *words]
        subprocess.run(call, check=True)
        about: dict[str, Any] = {"preset": name, "purpose": PURPOSE[name]}
        if name == "photo":
            about |= fit_on_photos(run, arguments.photos / "train")
        about["test"] = tested(run, about.get("temperature"))
        path = PRESET_FOLDER / f"{name}.onnx"
        export_in_process(Run(run), data, "onnx", path, about)
        print(f"{path}: {path.stat().st_size:,} bytes, {json.dumps(about['test'])}")


def fit_on_photos(run: Path, folder: Path) -> dict[str, Any]:
    """A temperature from photos of known classes; a threshold from all, others counted wrong."""
    _, folders, prepared = read_photos(folder)
    from fashion_cnn.evaluation import predict

    answers = predict(run, np.stack([x.pixels for x in prepared]))
    known = np.array([name in CLASSES for name in folders])
    labels = answers_to(answers, folders)
    temperature = fit_temperature(answers[known], labels[known])
    threshold = fit_threshold(apply_temperature(answers, temperature), labels, SURE)
    return {
        "temperature": temperature,
        "threshold": threshold,
        "fitted_on": {"photos": len(folders), "of_known_classes": int(known.sum()), "sure": SURE},
    }


def tested(run: Path, temperature: float | None) -> dict[str, Any]:
    """The test figures of a run's card, at another temperature if one is given."""
    metrics = Run(run).metrics()
    saved = Run(run).predictions()
    answers = apply_temperature(saved["test_probabilities"], temperature or metrics["temperature"])
    return {
        "accuracy": metrics["test_accuracy"],
        "accuracy_interval": metrics["test_accuracy_interval"],
        "calibrated_ece": calibration_error(answers, saved["test_labels"]),
        "examples": metrics["test_examples"],
    }


if __name__ == "__main__":
    main()
