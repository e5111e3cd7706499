"""What a run draws and writes down: image grids, logs of metrics."""

from jaxgen.core.extras import extra

with extra("train"):
    import PIL  # noqa: F401

from jaxgen.show.images import grid, make_grid, save_grid, to_uint8
from jaxgen.show.logging import Logger
from jaxgen.show.records import read_records
from jaxgen.show.weights_and_biases import check_wandb

__all__ = ["Logger", "check_wandb", "grid", "make_grid", "read_records", "save_grid", "to_uint8"]
