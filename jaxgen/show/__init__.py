"""What a run draws and writes down: image grids, logs of metrics."""

from jaxgen.core.extras import extra

with extra("train"):
    import PIL  # noqa: F401

from jaxgen.show.images import make_grid, save_grid, to_uint8
from jaxgen.show.logging import Logger, read_records

__all__ = ["Logger", "make_grid", "read_records", "save_grid", "to_uint8"]
