"""The common style of all figures, and how they are written to files."""

from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.patheffects import withStroke
from matplotlib.style import library
from matplotlib.ticker import MaxNLocator

from fashion_cnn.files import write_atomically

# Okabe and Ito's palette, safe for color-blind readers; https://jfly.uni-koeln.de/color/
BLUE, ORANGE, RED, GRAY = "#0072B2", "#E69F00", "#D55E00", "#666666"
DARK_RED = "#A84300"  # RED with enough contrast for small text on white
HALO = [withStroke(linewidth=3, foreground="white")]  # for text on top of a drawing
DPI = 150
# for class names in scripts that Matplotlib's own font lacks; only installed fonts are used
_EXTRA_FONTS = {
    *("Noto Sans CJK JP", "Noto Sans", "Hiragino Sans", "Microsoft YaHei", "Arial Unicode MS")
}
STYLE: Any = {
    "figure.dpi": DPI,
    "figure.facecolor": "white",  # readable on a dark page, too
    "font.size": 11,
    "font.family": ["DejaVu Sans", *sorted(_EXTRA_FONTS & set(fontManager.get_font_names()))],
    "text.parse_math": False,  # a class may be called $5
    "svg.hashsalt": "fashion-cnn",  # equal figures give equal files
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.08,
    "axes.prop_cycle": library["petroff10"]["axes.prop_cycle"],  # "C0" and so on
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
    """A figure of this size in inches, without pyplot: no window, display or global state."""
    return Figure(figsize=(width, height), layout="constrained")


def epoch_axis(ax: Any) -> None:
    """Label the x axis as epochs, with ticks at whole numbers only."""
    ax.set_xlabel("Epochs")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def add_note(figure: Figure, note: str) -> None:
    """Write a note below the axes, in small gray letters."""
    figure.supxlabel(note, fontsize=8.5, color=GRAY, x=0.99, ha="right")


def save(figure: Figure, path: Path) -> Path:
    """Write a figure atomically, in the format of the path's suffix, and return the path."""
    metadata = {"Date": None} if path.suffix == ".svg" else None
    with matplotlib.rc_context(STYLE):
        return write_atomically(path, partial(figure.savefig, dpi=DPI, metadata=metadata))


def as_rgb(image: np.ndarray) -> np.ndarray:
    """An image uint8 (height, width, 3); gray ones become negatives: dark garments on white."""
    image = image.squeeze()
    return image if image.ndim == 3 else np.repeat(255 - image[..., np.newaxis], 3, axis=2)
