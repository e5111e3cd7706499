"""What a run writes down: `metrics.jsonl`, TensorBoard events, and pictures under `images/`."""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from jaxgen.show.images import make_grid, save_grid


class Logger:
    """Appends to the log of a run. In a run over several processes only the first one writes.

    Args:
        directory: the run's directory.
        step: the step from which the run goes on; records of later steps are dropped, since they will come again.
        tensorboard: also write TensorBoard events; without tensorboardX, one line says that there are none.
    """

    def __init__(self, directory: str | Path, *, step: int = 0, tensorboard: bool = True):
        self.directory = Path(directory)
        self._writes = jax.process_index() == 0
        self._file: Any = None
        self._events: Any = None
        if not self._writes:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        file = self.directory / "metrics.jsonl"
        drop_records_after(file, step)
        self._file = file.open("a", encoding="utf-8")
        if tensorboard:
            try:
                from tensorboardX import SummaryWriter
            except ImportError:
                print("no TensorBoard events: tensorboardX is not installed (metrics.jsonl has the same numbers)")
            else:
                # The file's name holds the second; the suffix keeps a quick restart from overwriting it.
                self._events = SummaryWriter(
                    str(self.directory), purge_step=step + 1, filename_suffix=f".{step:08d}.{os.getpid()}"
                )

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None:
        """One record: {"step": ..., "time": seconds since 1970, name: value, ...}.

        Args:
            step: number of updates done.
            metrics: scalars by name; what is not finite becomes null, which is JSON.
        """
        if not self._writes:
            return
        values = {name: float(value) for name, value in metrics.items()}
        record = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._file.write(json.dumps({"step": int(step), "time": round(time.time(), 3), **record}) + "\n")
        self._file.flush()
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, int(step))

    def images(self, step: int, name: str, images: Any, *, columns: int | None = None, scale: int = 1) -> Path | None:
        """A sheet of images as `images/<name>-<step>.png`, and as a TensorBoard image.

        Args:
            step: number of updates done.
            name: for example "reconstructions".
            images: [B, H, W, C], floats in [-1, 1] or uint8.
            columns: images in a row.
            scale: enlargement of the file's picture.

        Returns:
            The file, or None in a process that does not write.
        """
        if not self._writes:
            return None
        path = self.directory / "images" / f"{name}-{int(step):08d}.png"
        save_grid(path, images, columns=columns, scale=scale)
        if self._events is not None:
            self._events.add_image(name, make_grid(images, columns=columns), int(step), dataformats="HWC")
        return path

    def flush(self) -> None:
        """Everything logged so far is on disk."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
        if self._events is not None:
            self._events.flush()

    def close(self) -> None:
        """Flushes and closes the files."""
        if self._file is not None and not self._file.closed:
            self.flush()
            self._file.close()
        if self._events is not None:
            self._events.close()

    def __enter__(self) -> "Logger":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def read_records(path: str | Path) -> list[dict]:
    """The records of a `metrics.jsonl`; a last line cut short by a crash is left out.

    Args:
        path: the file; a missing one has no records.

    Returns:
        The records in order.

    Raises:
        ValueError: a line other than the last is not a record.
    """
    path = Path(path)
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
    records = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            record["step"] + 0
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number} is no record of metrics: delete the line or the file") from error
        records.append(record)
    return records


def drop_records_after(path: str | Path, step: int) -> None:
    """Rewrites a `metrics.jsonl` without the records of later steps.

    Args:
        path: the file; nothing happens if it is missing.
        step: the last one to keep.
    """
    path = Path(path)
    if not path.is_file():
        return
    kept = [record for record in read_records(path) if record["step"] <= step]
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
    temporary.replace(path)
