"""A run's working directory: `config.json`, `environment.json`, `metrics.jsonl`, `images/`, `checkpoints/`."""

import importlib.metadata
import json
import operator
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.experimental import multihost_utils

from jaxgen.core.json_file import CHECKSUM, parse_object, sealed, unsealed
from jaxgen.runs.weights_file import is_published

PACKAGES = ("jaxgen", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")
MISSING = "nothing"


class RunDirectory(NamedTuple):
    """Where a run keeps its things."""

    path: Path
    checkpoints: Path
    images: Path
    started_before: bool  # the directory held this run already


def expand(path: str | bytes | os.PathLike) -> Path:
    """A path as its user means it: `~` and `~name` are home directories.

    Args:
        path: a name; `./~` is the directory in the current one that is called so.

    Returns:
        The path, which may be given to `expand` again.

    Raises:
        ValueError: the name is empty, or there is no such home directory.

    Example:
        >>> expand("runs/digits").as_posix(), expand("~/runs") == Path.home() / "runs"
        ('runs/digits', True)
    """
    name = os.fsdecode(path)
    if not name:
        raise ValueError("a path is empty: give the name of a file or directory, such as runs/digits")
    expanded = os.path.expanduser(name)
    if expanded.startswith("~"):
        raise ValueError(f"path {name!r} begins with a home directory that is not known: write it in full, or as "
                         f"{'./' + name!r} if it is a name in the current directory")
    result = Path(expanded)
    return result.absolute() if str(result).startswith("~") else result  # pathlib drops the "./" of "./~"


def check_utf8(path: Path) -> None:
    """Raises ValueError where a path holds what is not UTF-8, in which no checkpoint can be written."""
    try:
        str(path.absolute()).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"the name of directory {str(path)!r} is not UTF-8, which checkpoints need: rename it or give "
                         "another one") from error


def check_run(
    directory: str | Path, config: Mapping[str, Any], *, may_change: Iterable[str] = ("num_steps",),
    before: Mapping[str, Any] | None = None,
) -> bool:
    """Raises what `open_run` would raise, and writes nothing.

    Args:
        directory, config, may_change, before: see `open_run`.

    Returns:
        Whether the directory holds this run already.
    """
    path = expand(directory)
    check_utf8(path)
    if path.exists() and not path.is_dir():
        raise ValueError(f"working directory {path} is a file: give another directory")
    if is_published(path):
        raise ValueError(f"working directory {path} holds a published checkpoint, in which nothing is trained: give "
                         "another directory")
    config = _plain(config)
    file = path / "config.json"
    started_before = file.is_file()
    if started_before:
        check_config(file, config, may_change, before)
    elif path.is_dir() and any(not entry.name.startswith(".") for entry in path.iterdir()):
        raise ValueError(
            f"working directory {path} is not empty and holds no run (no config.json): give a new or empty directory"
        )
    _read_starts(path / "environment.json")
    return started_before


def open_run(
    directory: str | Path, config: Mapping[str, Any], *, may_change: Iterable[str] = ("num_steps",),
    before: Mapping[str, Any] | None = None,
) -> RunDirectory:
    """Starts a run in a new or empty directory, or goes on with the one that is there.

    Args:
        directory: the working directory; made if need be. `~` is the home directory.
        config: the run's configuration, plain JSON (whole numbers may be NumPy's). Written on the first start with a
            checksum, compared on the next ones. The file is not for editing: what may change is changed here.
        may_change: keys that may differ from before, with dots for nesting: "optimizer.learning_rate", or
            "optimizer" for all below it. The file then gets the new values.
        before: what keys that came later were for runs that lack them: a run begun before they were there goes on
            with these values.

    Returns:
        A `RunDirectory`.

    Raises:
        ValueError: the configuration is not the one the run was started with (each differing key is named with both
            values), a file of the run is damaged, the directory's name is not UTF-8, or it is not empty and holds no
            run.
        TypeError: JSON cannot hold the configuration.
    """
    started_before, path = check_run(directory, config, may_change=may_change, before=before), expand(directory)
    environments = path / "environment.json"
    starts = _read_starts(environments)
    run = RunDirectory(path, path / "checkpoints", path / "images", started_before)
    multihost_utils.sync_global_devices("all processes have found the directory as it was")
    if jax.process_index() == 0:
        path.mkdir(parents=True, exist_ok=True)
        # The configuration comes first: it makes the directory a run's, should the process die here.
        _write_json(path / "config.json", sealed(_plain(config)))
        run.images.mkdir(exist_ok=True)
        _write_json(environments, [*starts, environment()])
    return run


def read_config(file: Path) -> dict[str, Any]:
    """A run's configuration, from the `config.json` that `open_run` wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged or was edited, or has no checksum; says what to do.
    """
    try:
        content = parse_object(file.read_bytes(), "it")
        if CHECKSUM in content:
            return unsealed(content)
    except ValueError as error:
        raise ValueError(f"{file} is damaged or was edited: {error}. Restore it from a copy, or give another working "
                         "directory. What may change in a run is changed where it is started, not here") from error
    raise ValueError(f"{file} has no checksum, so this version of jaxgen did not write it: give the directory of a run "
                     "that it wrote, or another working directory")


def check_config(
    file: Path, config: Mapping[str, Any], may_change: Iterable[str] = (), before: Mapping[str, Any] | None = None
) -> None:
    """Compares a configuration with the one in a file.

    Args:
        file: `config.json`.
        config: the new one.
        may_change, before: see `open_run`.

    Raises:
        OSError, ValueError: see `read_config`; or they differ in keys that may not change.
    """
    new, allowed = dict(flat(config)), tuple(may_change)
    old = {key: value for key, value in flat(before or {}) if key in new} | dict(flat(read_config(file)))
    differing = [
        key
        for key in {**old, **new}
        if old.get(key, MISSING) != new.get(key, MISSING)
        and not any(key == name or key.startswith(f"{name}.") for name in allowed)
    ]
    if differing:
        lines = "".join(
            f"\n  {key}: {_show(old.get(key, MISSING))} before, {_show(new.get(key, MISSING))} now" for key in differing
        )
        raise ValueError(
            f"the run in {file.parent} was started with another configuration:{lines}\n"
            f"Give the same values to resume it, or another working directory to start a new run."
        )


def environment() -> dict[str, Any]:
    """Versions, devices, command line and git commit, so that numbers can be traced to what made them."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": shlex.join(sys.orig_argv),  # as it was typed; sys.argv lacks "-m experiments.NAME"
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        "processes": jax.process_count(),
        "git_commit": _git_commit(),
    }


def flat(config: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """The values of a configuration with their dotted names: ("optimizer.learning_rate", 1e-3), ..."""
    if isinstance(config, Mapping) and (config or not prefix):
        for key, value in config.items():
            yield from flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, config


def _git_commit() -> str | None:
    def git(*arguments):
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # installed inside some other project's checkout: no
        return git("rev-parse", "HEAD") + (" with changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as JSON gives it back; raises TypeError or ValueError where config.json cannot hold it."""
    try:
        plain = json.loads(json.dumps(config, default=operator.index))
        sealed(plain)
    except TypeError as error:
        raise TypeError(f"the configuration cannot be written to config.json: {error}") from error
    return plain


def _show(value: Any) -> str:
    return value if value is MISSING else json.dumps(value)


def _read_starts(file: Path) -> list:
    """What `environment.json` has of earlier starts."""
    try:
        starts = json.loads(file.read_bytes()) if file.is_file() else []
    except (ValueError, RecursionError):
        starts = None
    if not isinstance(starts, list):
        raise ValueError(f"{file} is damaged: it is no JSON list of the run's starts. Restore it from a copy, or "
                         "delete it and the run goes on without those notes")
    return starts


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
