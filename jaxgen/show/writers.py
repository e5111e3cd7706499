"""Where the records and images of a run go: files of its directory and TensorBoard."""

import csv
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np

from jaxgen.show.images import make_grid, save_grid


class Writer(Protocol):
    """One place to which a `Logger` writes."""

    def scalars(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """One record: updates done, seconds since 1970, scalars by name, finite or not."""

    def images(self, step: int, name: str, images: np.ndarray, *, columns: int | None, scale: int) -> None:
        """Images [B, H, W, C] as a sheet; `columns` and `scale` as in `save_grid`."""

    def flush(self) -> None:
        """Everything written so far is on disk, or on its way."""

    def close(self) -> None:
        """Flushes and closes."""


class _Records:
    """What the files of records share: they hold no images."""

    _file: TextIO

    def images(self, step: int, name: str, images: np.ndarray, *, columns: int | None, scale: int) -> None:
        pass

    def flush(self) -> None:
        _sync(self._file)

    def close(self) -> None:
        _sync(self._file)
        self._file.close()


class JsonLines(_Records):
    """A file with a JSON object on each line; what is not finite is null.

    Args:
        path: the file; records are appended.
    """

    def __init__(self, path: Path):
        self._file = path.open("a", encoding="utf-8")

    def scalars(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        record = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._file.write(json.dumps({"step": step, "time": seconds, **record}) + "\n")
        self._file.flush()


class Csv(_Records):
    """A table with a row per record. A column comes with the first record that has it; the file is then rewritten.

    A value that a record does not have is empty, and what is not finite is nan.

    Args:
        path: the file; it is overwritten.
        records: the rows to begin with, as `read_records` gives them.
    """

    def __init__(self, path: Path, records: Iterable[Mapping[str, Any]] = ()):
        self._path = path
        self._columns = ["step", "time"]
        self._rewrite([{name: math.nan if value is None else value for name, value in record.items()}
                       for record in records])

    def scalars(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        row = {"step": step, "time": seconds,
               **{name: value if math.isfinite(value) else math.nan for name, value in values.items()}}
        if row.keys() <= set(self._columns):
            self._table.writerow(row)
            self._file.flush()
            return
        self._file.close()
        with self._path.open(newline="", encoding="utf-8") as file:
            before = list(csv.DictReader(file))
        self._rewrite([*before, row])

    def _rewrite(self, rows: list[Mapping[str, Any]]) -> None:
        """All rows under a header that has their columns; the file stays open behind them."""
        self._columns = list(dict.fromkeys([*self._columns, *(name for row in rows for name in row)]))
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, self._columns)
            table.writeheader()
            table.writerows(rows)
        temporary.replace(self._path)
        self._file = self._path.open("a", newline="", encoding="utf-8")
        self._table = csv.DictWriter(self._file, self._columns)


class Sheets:
    """Image files: `<name>-<step>.png`.

    Args:
        directory: of the files; made with the first one.
    """

    def __init__(self, directory: Path):
        self._directory = directory

    def path(self, step: int, name: str) -> Path:
        """The file of a sheet."""
        return self._directory / f"{name}-{step:08d}.png"

    def scalars(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        pass

    def images(self, step: int, name: str, images: np.ndarray, *, columns: int | None, scale: int) -> None:
        save_grid(self.path(step, name), images, columns=columns, scale=scale)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


class TensorBoard:
    """Event files, by tensorboardX.

    Args:
        directory: of the files.
        step: the step from which the run goes on; TensorBoard forgets what came later.

    Raises:
        ImportError: tensorboardX is not installed.
    """

    def __init__(self, directory: Path, step: int):
        from tensorboardX import SummaryWriter

        # The file's name holds the second; the suffix keeps a quick restart from overwriting it.
        suffix = f".{step:08d}.{os.getpid()}"
        self._events = SummaryWriter(str(directory), purge_step=step + 1, filename_suffix=suffix)

    def scalars(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def images(self, step: int, name: str, images: np.ndarray, *, columns: int | None, scale: int) -> None:
        self._events.add_image(name, make_grid(images, columns=columns), step, dataformats="HWC")

    def flush(self) -> None:
        self._events.flush()

    def close(self) -> None:
        self._events.close()


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
