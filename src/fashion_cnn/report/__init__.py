"""Numbers in, pictures out: the plots of a run folder."""

from fashion_cnn.report.plots import draw_run, draw_samples

__all__ = ["draw_run", "draw_samples"]
