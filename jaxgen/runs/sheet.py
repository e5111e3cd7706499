"""The image of a model card: samples, or held-out images above their reconstructions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen import data, show
from jaxgen.data import Image
from jaxgen.runs.run import Run, abilities

LARGEST = 30_000  # bytes
COLUMNS, ROWS, MOST_COLUMNS = 10, 4, 16


def draw_sheet(run: Run, file: Path, *, seed: int = 0, settings: Mapping[str, Any] | None = None) -> str | None:
    """Writes a sheet of at most `LARGEST` bytes, with fewer images where they are large.

    Args:
        run: of `load`.
        file: the image file.
        seed: of samples; they are the first ones of those that `Run.judge` measures with this seed and settings.
        settings: changes of the run's sampling.

    Returns:
        What it shows, in words; None and no file where the run makes no images.
    """
    able = abilities(run.model)
    if not {"sample", "reconstruct"} & set(able) or not isinstance(run.spec[run.spec.example], Image):
        return None
    if "sample" not in able:
        held_out = run.dataset()
        images = held_out.spread(COLUMNS * ROWS // 2)[held_out.example]
        columns = _save(file, np.stack([images, show.to_uint8(run.reconstruct(data.to_float(images)))]), COLUMNS)[1]
        return f"Images of the split `{held_out.split}`, and below each row of {columns} what the model makes of them"
    conditions, prompts, columns = run.model.conditions, None, COLUMNS
    if "text" in conditions.entries:
        names = run.dataset().spread(COLUMNS * ROWS)["caption"]
        prompts = [str(name).encode()[:conditions.length].decode(errors="ignore") for name in names]  # as in training
    elif 1 < conditions.num_classes <= MOST_COLUMNS:
        columns = conditions.num_classes
    images = run.sample(columns * ROWS, prompts=prompts, seed=seed, **settings or {})
    count, columns = _save(file, show.to_uint8(images)[None], columns)
    chosen = f"seed {seed}, not chosen by hand"
    if prompts:
        return f"Samples, {chosen}, of the held-out names {'; '.join(prompts[:count])}"
    if columns == conditions.num_classes:
        return f"Samples, {chosen}, a column for each class: {', '.join(run.class_names or map(str, range(columns)))}"
    return f"Samples, {chosen}"


def _save(file: Path, images: np.ndarray, columns: int) -> tuple[int, int]:
    """(images, columns) of the sheet; of [K, N, ...] a row of each k stands above that of the next."""
    count = images.shape[1]
    while True:
        columns = min(columns, count)
        rows = [images[k, i : i + columns] for i in range(0, count, columns) for k in range(len(images))]
        show.save_grid(file, np.concatenate(rows), columns=columns, scale=2)
        if file.stat().st_size <= LARGEST or count == 1:
            return count, columns
        count -= columns if count > columns else 1
