"""What a run writes down: `metrics.jsonl`, `metrics.csv`, images, TensorBoard events, Weights & Biases."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from jaxgen.show.records import drop_records_after
from jaxgen.show.weights_and_biases import WeightsAndBiases
from jaxgen.show.writers import Csv, JsonLines, Sheets, TensorBoard, Writer


class Logger:
    """Appends to the log of a run. In a run over several processes only the first one writes.

    `metrics.csv` has the records of `metrics.jsonl`, one a row.

    Args:
        directory: the run's directory.
        step: the step from which the run goes on; records of later steps are dropped, since they will come again.
        tensorboard: also write TensorBoard events; without tensorboardX, one line says that there are none.
        wandb: also write to this project of Weights & Biases; None for no.
        config: shown by Weights & Biases.

    Raises:
        ImportError: `wandb` is given, but it is not installed.
    """

    def __init__(
        self, directory: str | Path, *, step: int = 0, tensorboard: bool = True, wandb: str | None = None,
        config: Mapping[str, Any] | None = None,
    ):
        self.directory = Path(directory)
        self._writers: list[Writer] = []
        self._sheets = Sheets(self.directory / "images")
        if jax.process_index() != 0:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        if wandb:  # first: it may be missing
            self._writers.append(WeightsAndBiases(self.directory, wandb, config))
        records = drop_records_after(self.directory / "metrics.jsonl", step)
        self._writers += [JsonLines(self.directory / "metrics.jsonl"), Csv(self.directory / "metrics.csv", records),
                          self._sheets]
        if tensorboard:
            try:
                self._writers.append(TensorBoard(self.directory, step))
            except ImportError:
                print("no TensorBoard events: tensorboardX is not installed (metrics.jsonl has the same numbers)")

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None:
        """One record: {"step": ..., "time": seconds since 1970, name: value, ...}.

        Args:
            step: number of updates done.
            metrics: scalars by name; what is not finite becomes null in JSON and nan in the CSV.
        """
        values = {name: float(value) for name, value in metrics.items()}
        seconds = round(time.time(), 3)
        for writer in self._writers:
            writer.scalars(int(step), seconds, values)

    def images(self, step: int, name: str, images: Any, *, columns: int | None = None, scale: int = 1) -> Path | None:
        """A sheet of images as `images/<name>-<step>.png`, and wherever else the log goes.

        Args:
            step: number of updates done.
            name: for example "reconstructions".
            images: [B, H, W, C], floats in [-1, 1] or uint8.
            columns: images in a row.
            scale: enlargement of the file's images.

        Returns:
            The file, or None in a process that does not write.
        """
        for writer in self._writers:
            writer.images(int(step), name, images, columns=columns, scale=scale)
        return self._sheets.path(int(step), name) if self._writers else None

    def flush(self) -> None:
        """Everything logged so far is on disk."""
        for writer in self._writers:
            writer.flush()

    def close(self) -> None:
        """Flushes and closes the files; a second call does nothing."""
        while self._writers:
            self._writers.pop().close()

    def __enter__(self) -> "Logger":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
