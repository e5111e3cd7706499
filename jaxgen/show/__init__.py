"""What a run draws and writes down: image grids, logs of metrics, and pages of them in one HTML file."""

from jaxgen.core.extras import extra

with extra("train"):
    import PIL  # noqa: F401

from jaxgen.show.codebook import code_plane, code_sheet, principal_plane
from jaxgen.show.comparison import comparison_page
from jaxgen.show.curves import chart, charts_of, lines_of
from jaxgen.show.images import grid, make_grid, save_grid, scaled_to_show, to_uint8
from jaxgen.show.logging import Logger
from jaxgen.show.page import text
from jaxgen.show.records import read_records
from jaxgen.show.report import (
    Part,
    Report,
    codes_part,
    curves_part,
    denoising_part,
    filling_part,
    metrics_part,
    model_part,
    neighbours_part,
    reconstructions_part,
    report_page,
    samples_part,
)
from jaxgen.show.weights_and_biases import check_wandb

__all__ = [
    "Logger", "Part", "Report", "chart", "charts_of", "check_wandb", "code_plane", "code_sheet", "codes_part",
    "comparison_page", "curves_part", "denoising_part", "filling_part", "grid", "lines_of", "make_grid", "metrics_part",
    "model_part", "neighbours_part", "principal_plane", "read_records", "reconstructions_part", "report_page",
    "samples_part", "save_grid", "scaled_to_show", "text", "to_uint8",
]
