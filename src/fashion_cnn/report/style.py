"""The house style of all pictures, and how they are written."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from fashion_cnn.files import write_atomically

# Okabe and Ito's colours, told apart by colour-blind readers too; https://jfly.uni-koeln.de/color/
BLUE, ORANGE, RED, GREY = "#0072B2", "#E69F00", "#D55E00", "#666666"
DARK_RED = "#A84300"  # for small letters on white
DPI = 150
# for class names in scripts that Matplotlib's own font lacks, where the machine has one of these
_OTHER_SCRIPTS = {
    "Noto Sans CJK JP",
    "Noto Sans",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Arial Unicode MS",
}
STYLE: Any = {
    "figure.dpi": DPI,
    "figure.facecolor": "white",  # so that it can be read in a dark page too
    "font.size": 11,
    "font.family": ["DejaVu Sans", *sorted(_OTHER_SCRIPTS & set(fontManager.get_font_names()))],
    "text.parse_math": False,  # a class may be called $5
    "svg.hashsalt": "fashion-cnn",  # the same picture gives the same file
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.08,
    "axes.titlesize": 14,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.8,
    "lines.linewidth": 2.2,
    "legend.frameon": False,
}


def new_figure(width: float, height: float) -> Any:
    """A figure of its own, in inches: no pyplot, so no window, no display and no global state."""
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Any, path: Path) -> Path:
    """Write a figure as its ending says, whole or not at all."""
    kind = path.suffix.removeprefix(".")
    about = {"Date": None} if kind == "svg" else None
    with matplotlib.rc_context(STYLE):
        return write_atomically(
            path, lambda temporary: figure.savefig(temporary, format=kind, dpi=DPI, metadata=about)
        )


def as_rgb(image: np.ndarray) -> np.ndarray:
    """An image to be looked at: uint8 (height, width, 3).

    Grey ones become negatives, so that garments are dark on white as on paper.
    """
    image = image.squeeze()
    return image if image.ndim == 3 else np.repeat(255 - image[..., np.newaxis], 3, axis=2)
