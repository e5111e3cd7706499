"""Weights & Biases as one more place for a run's records and images."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.show.images import make_grid

ID_FILE = "wandb-id.txt"


def check_wandb() -> None:
    """Raises ImportError, which says what to install, unless Weights & Biases is there."""
    try:
        import wandb  # noqa: F401
    except ImportError as error:
        raise ImportError("wandb is not installed: pip install wandb, or leave the project's name out") from error


class WeightsAndBiases:
    """A run at Weights & Biases. Its id is kept in the run's directory, so that a resumed run goes on with it.

    Weights & Biases takes no step twice: of the steps that a resumed run repeats, the values from before stay.

    Args:
        directory: the run's.
        project: under which the run is listed.
        config: shown with the run.

    Raises:
        ImportError: Weights & Biases is not installed.
    """

    def __init__(self, directory: Path, project: str, config: Mapping[str, Any] | None = None):
        check_wandb()
        import wandb

        file = directory / ID_FILE
        if not file.is_file():
            file.write_text(secrets.token_hex(4) + "\n", encoding="utf-8")
        identity = file.read_text(encoding="utf-8").strip()
        self._image = wandb.Image
        self._run = wandb.init(project=project, id=identity, resume="allow", dir=str(directory),
                               name=directory.resolve().name, config=dict(config or {}))

    def scalars(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def images(self, step: int, name: str, images: np.ndarray, *, columns: int | None, scale: int) -> None:
        self._run.log({name: self._image(make_grid(images, columns=columns))}, step=step)

    def flush(self) -> None:
        pass  # a thread of its own sends what was logged

    def close(self) -> None:
        self._run.finish()
