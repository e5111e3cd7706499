"""What makes a directory a checkpoint of jaxgen, and whether it is still what was written.

`<step>/jaxgen.json` holds the step, the data iterator's state, the path, shape and dtype of each array, the size and
CRC-32 of each file, and a checksum of all that. It is the last thing written before the directory gets its name.
"""

import json
import operator
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgen.core.json_file import parse_object, sealed, unsealed

PyTree = Any
MANIFEST = "jaxgen.json"
FORMAT = "jaxgen-checkpoint"
VERSION = 2
DELETING = ".deleting-"
REWRITTEN = {"_CHECKPOINT_METADATA", "commit_success.txt", MANIFEST}  # Orbax touches these after the list is made


class DamagedCheckpointError(ValueError):
    """A checkpoint's files are not what was written."""


def describe(step: int, state: PyTree, data: Any) -> dict:
    """The manifest but for its files, known before they are written.

    Args:
        step: number of updates done.
        state: a tree of arrays.
        data: the data iterator's state; whole numbers may be NumPy's.

    Returns:
        What JSON holds.

    Raises:
        TypeError: JSON cannot hold `data`.
    """
    try:
        data = json.loads(json.dumps(data, default=operator.index))
    except TypeError as error:
        raise TypeError(f"data={data!r} cannot be saved: {error}. An iterator's state must be plain JSON") from error
    return {"format": FORMAT, "version": VERSION, "step": step, "data": data, "arrays": arrays(state)}


def write(directory: Path, manifest: dict) -> None:
    """Adds size and CRC-32 of the files in `directory` and writes the manifest there."""
    files = {
        str(path.relative_to(directory)): [path.stat().st_size, _crc(path)]
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in REWRITTEN
    }
    (directory / MANIFEST).write_text(json.dumps(sealed({**manifest, "files": files})), encoding="utf-8")


def find_steps(directory: Path, *, foreign_ok: bool = False) -> list[int]:
    """The steps of the checkpoints in a directory, in ascending order.

    Raises:
        ValueError: a numbered directory has no manifest, unless `foreign_ok`, which leaves it out.
    """
    if not directory.is_dir():
        return []
    names = (path.name for path in directory.iterdir() if path.is_dir())
    numbered = sorted(int(name) for name in names if re.fullmatch("0|[1-9][0-9]*", name))
    steps = [step for step in numbered if (directory / str(step) / MANIFEST).is_file()]
    for step in numbered:
        if step not in steps and not foreign_ok:
            raise ValueError(
                f"{directory / str(step)} has no {MANIFEST}, so it is no checkpoint of jaxgen: "
                f"move it away, or give another directory"
            )
    return steps


def delete(path: Path) -> None:
    """Deletes a checkpoint, renaming it first: half deleted, it no longer carries a step's number."""
    doomed = path.with_name(f"{DELETING}{path.name}")
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def verify(directory: str | Path, step: int | None = None) -> tuple[Path, dict]:
    """Compares a checkpoint's files with what was written.

    Args:
        directory: the one that holds the numbered directories.
        step: None for the newest.

    Returns:
        Its path and its manifest.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        DamagedCheckpointError: a file is missing or has changed, the manifest too, or the directory has another
            step's name.
        ValueError: it was written by another program or version.
    """
    directory = Path(directory).absolute()
    steps = find_steps(directory)
    if not steps or (step is not None and step not in steps):
        has = f"it has steps {', '.join(map(str, steps))}" if steps else "it has none"
        raise FileNotFoundError(f"no checkpoint {'' if step is None else f'of step {step} '}in {directory}: {has}")
    path = directory / str(max(steps) if step is None else step)
    manifest, problem = _manifest(path)
    if not problem and manifest["step"] != int(path.name):
        problem = f"it is the checkpoint of step {manifest['step']} by its {MANIFEST}"
    if not problem:
        problem = next(filter(None, (_problem(path, *entry) for entry in manifest["files"].items())), None)
    if problem:
        older = max((s for s in steps if s < int(path.name)), default=None)
        fix = "starts again at step 0: there is no older one" if older is None else f"continues from step {older}"
        raise DamagedCheckpointError(
            f"checkpoint {path} is damaged: {problem}. Delete that directory and the same command {fix}."
        )
    return path, manifest


def arrays(tree: PyTree) -> dict[str, list]:
    """{"params/encoder/kernel": [shape, dtype], ...}; fields of tuples and keys of dicts look the same."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): [list(np.shape(leaf)), str(dtype_of(leaf))]
        for path, leaf in leaves
    }


def check_arrays(path: Path, stored: dict, wanted: dict, *, partial: bool) -> None:
    """Raises ValueError at the first array that a checkpoint and a template do not share.

    Args:
        path: the checkpoint, for the message.
        stored: `arrays` of what was saved.
        wanted: `arrays` of the template.
        partial: the template may leave arrays out.
    """

    def say(array):
        return "nothing" if array is None else f"{array[1]}{array[0]}"

    for name in wanted if partial else {**wanted, **stored}:
        if stored.get(name) != wanted.get(name):
            raise ValueError(
                f"checkpoint {path} does not fit: at {name} it has {say(stored.get(name))}, but "
                f"{say(wanted.get(name))} is wanted. Use the configuration it was made with, or another directory."
            )


def dtype_of(leaf: Any) -> np.dtype:
    """The dtype of an array, of a shape-and-dtype struct, or of a number."""
    return leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype


def _manifest(path: Path) -> tuple[dict, str | None]:
    """What the manifest says, and what is wrong with it."""
    try:
        found = parse_object((path / MANIFEST).read_bytes(), MANIFEST)
    except ValueError as error:
        return {}, f"{MANIFEST} cannot be read ({error})"
    if (found.get("format"), found.get("version")) != (FORMAT, VERSION):
        raise ValueError(f"{path} is not a {FORMAT} of version {VERSION}: another program or version wrote it, or its "
                         f"{MANIFEST} is damaged. Move it away, or give another directory")
    try:
        return unsealed(found), None
    except ValueError as error:
        return {}, f"{MANIFEST} has changed: {error}"


def _problem(path: Path, name: str, size_and_crc: list[int]) -> str | None:
    file, (size, crc) = path / name, size_and_crc
    if not file.is_file():
        return f"{name} is missing"
    if file.stat().st_size != size:
        return f"{name} has {file.stat().st_size} bytes instead of {size}"
    return None if _crc(file) == crc else f"the contents of {name} have changed (CRC-32)"


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            crc = zlib.crc32(block, crc)
    return crc
