"""Reading a run back: its weights, its data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxgen import data
from jaxgen.quantize import Variables
from jaxgen.train import checkpoint


def load_run(workdir: str | Path, step: int | None = None) -> tuple[checkpoint.Loaded, Variables]:
    """The run's last (or given) checkpoint, with the averaged weights where the run kept them."""
    loaded = checkpoint.load(workdir, step=step)
    params = loaded.params if loaded.ema_params is None else loaded.ema_params
    return loaded, Variables(params, loaded.model_state)


def load_split(config: Mapping[str, Any], split: str | None = None) -> data.Dataset:
    """The run's held-out pictures, or another split of its data."""
    options = {name: value for name, value in config["data"]["options"].items() if value is not None}
    return data.load(config["data"]["name"], split or config["data"]["test_split"],
                     image_size=config["data"]["image_size"] or None, **options)
