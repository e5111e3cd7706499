"""The checkpoints that come with the repository, by name: `experiments/checkpoints` beside the package."""

import os
from pathlib import Path

from jaxgen.core.errors import unknown_name
from jaxgen.runs.directory import expand
from jaxgen.runs.weights_file import is_published

PLACE = "JAXGEN_CHECKPOINTS"  # the environment's variable that names another folder


def shipped_folder() -> Path:
    """Where shipped checkpoints lie: `$JAXGEN_CHECKPOINTS`, else those of the clone that the package is in."""
    if place := os.environ.get(PLACE):
        return expand(place)
    return Path(__file__).parents[2] / "experiments" / "checkpoints"


def shipped() -> dict[str, Path]:
    """{name: directory} of the shipped checkpoints."""
    folder = shipped_folder()
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return {path.name: path for path in found if is_published(path)}


def locate(name: str | Path) -> Path:
    """The directory of a run or of a published checkpoint that a user means.

    Args:
        name: a directory; or a bare name where there is none, or an empty one, which is that of a shipped checkpoint.

    Returns:
        The directory; what has a separator in it need not exist.

    Raises:
        FileNotFoundError: a bare name that is neither; says which checkpoints are shipped.

    Example:
        >>> locate("runs/digits").as_posix()
        'runs/digits'
    """
    path, typed = expand(name), os.fsdecode(name)
    if (path.is_dir() and any(path.iterdir())) or typed != Path(typed).name or typed.startswith("~"):
        return path
    there = shipped()
    if typed in there:
        return there[typed]
    if there:
        raise FileNotFoundError(f"{typed} is no directory here, and {unknown_name('shipped checkpoint', typed, there)}")
    raise FileNotFoundError(f"{typed} is no directory here, and no checkpoints are shipped in {shipped_folder()}: give "
                            f"the directory of a run, or set {PLACE} to the folder of a clone's")
