"""Checkpoints: the state and the data iterator, written in one atomic piece; the only file that imports orbax.

`directory/<step>/` holds Orbax's files and a manifest (`jaxgen.runs.manifest`). Everything is written to a temporary
directory and renamed when complete, so that what carries a step's number is whole. A checkpoint that has been damaged
since is an error, never silently passed over: training that quietly goes back is worse than a message.
"""

import glob
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from jaxgen.core.checks import check_count
from jaxgen.runs import manifest
from jaxgen.runs.directory import check_utf8, expand, read_config

PyTree = Any
TEMPORARY = ".orbax-checkpoint-tmp"


class Restored(NamedTuple):
    """What `Checkpointer.restore` gives."""

    state: PyTree
    data: Any  # the data iterator's state, as JSON gives it
    step: int


class Loaded(NamedTuple):
    """What `read_run` returns."""

    config: dict
    model: Any
    params: PyTree
    model_state: PyTree
    ema_params: PyTree  # None if the run kept none
    step: int


class _OrbaxPath(type(epath.Path())):
    """A path whose own name is no pattern: Orbax finds its files with `glob`, where epath escapes nothing."""

    def glob(self, pattern: str) -> Iterator["_OrbaxPath"]:
        return map(type(self), glob.glob(f"{glob.escape(str(self))}/{pattern}"))


class Checkpointer:
    """Saves and restores the checkpoints of one run.

    Args:
        directory: made when the first checkpoint is written; a local or mounted file system.
        keep: how many of the newest checkpoints stay.
        asynchronous: write in a background thread; `save` returns when the state has been copied to the host.

    Raises:
        ValueError: `keep` is below 1, or `directory` is a file or its name is not UTF-8.
    """

    def __init__(self, directory: str | Path, *, keep: int = 3, asynchronous: bool = True):
        self.keep = check_count("keep", keep)
        self.directory = expand(directory).absolute()
        check_utf8(self.directory)
        if self.directory.exists() and not self.directory.is_dir():
            raise ValueError(f"checkpoint directory {self.directory} is a file: give another directory")
        self._asynchronous = asynchronous
        self._manifest: dict = {}
        self._saved: int | None = None
        self._to_prune = False  # a checkpointer that saves nothing deletes nothing
        self._orbax = ocp.AsyncCheckpointer(
            ocp.PyTreeCheckpointHandler(),
            async_options=ocp.options.AsyncOptions(post_finalization_callback=self._write_manifest),
        )
        if jax.process_index() == 0 and self.directory.exists():
            for pattern in (f"*{TEMPORARY}*", f"{manifest.DELETING}*"):
                for left_over in self.directory.glob(pattern):
                    shutil.rmtree(left_over, ignore_errors=True)

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, in ascending order; one still being written does not count.

        Raises:
            ValueError: a numbered directory was not written by this class.
        """
        return manifest.find_steps(self.directory)

    def latest_step(self) -> int | None:
        """The newest checkpoint's step, or None."""
        return max(self.steps(), default=None)

    def save(self, step: int, state: PyTree, data: Any = None) -> bool:
        """Writes a checkpoint.

        Args:
            step: number of updates done.
            state: a tree of arrays; it may be overwritten (donated) once this returns.
            data: the data iterator's state, anything that JSON can hold.

        Returns:
            False if this checkpointer saved that step last, else True.

        Raises:
            ValueError: there is a checkpoint of this step from before, or `step` is no whole number from 0.
            TypeError: JSON cannot hold `data`.
        """
        step = check_count("step", step, 0)
        if step == self._saved:
            return False
        self.wait()
        path = self.directory / str(step)
        if path.exists():
            raise ValueError(
                f"checkpoint {path} exists already: call drop_after(step) when a run goes on from an earlier step, "
                f"or use another directory"
            )
        self._manifest = manifest.describe(step, state, data)
        self._orbax.save(_OrbaxPath(path), args=ocp.args.PyTreeSave(state))
        self._saved = step
        self._to_prune = True
        if not self._asynchronous:
            self.wait()
        return True

    def wait(self) -> None:
        """Returns when the last checkpoint is complete on disk; raises what went wrong while writing it."""
        self._orbax.wait_until_finished()
        if self._to_prune and jax.process_index() == 0:
            for step in manifest.find_steps(self.directory, foreign_ok=True)[: -self.keep]:
                manifest.delete(self.directory / str(step))
        self._to_prune = False

    def drop_after(self, step: int) -> None:
        """Deletes the checkpoints of later steps: for a run that goes on from an earlier one."""
        self._orbax.wait_until_finished()
        if jax.process_index() == 0:
            for later in [s for s in self.steps() if s > step]:
                manifest.delete(self.directory / str(later))

    def restore(self, template: PyTree, step: int | None = None) -> Restored:
        """Reads a checkpoint back, placed as the template is.

        Args:
            template: the tree to fill: arrays or `jax.ShapeDtypeStruct`; where they have a sharding, so has the result.
            step: None for the newest.

        Returns:
            `Restored(state, data, step)`.

        Raises:
            FileNotFoundError: there is no such checkpoint.
            DamagedCheckpointError: files are missing or changed; says how to go on from an older step.
            ValueError: it was not written by this class, or its arrays are not the template's; names the first one.
        """
        self._orbax.wait_until_finished()
        restored = read(self.directory, template, step)
        self._saved = restored.step
        return restored

    def close(self) -> None:
        """Waits for the last checkpoint and ends the background thread."""
        self.wait()
        self._orbax.close()

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _write_manifest(self):
        temporary = self.directory.glob(f"{self._manifest['step']}{TEMPORARY}*")
        manifest.write(max(temporary, key=lambda path: path.stat().st_mtime), self._manifest)


def read(directory: str | Path, template: PyTree, step: int | None = None, *, partial: bool = False) -> Restored:
    """`Checkpointer.restore` without a checkpointer: writes and deletes nothing.

    Args:
        directory: the one that holds the numbered directories.
        template: see `Checkpointer.restore`.
        step: None for the newest.
        partial: the template may lack arrays that the checkpoint has; they are not read.

    Returns:
        `Restored(state, data, step)`.

    Raises:
        FileNotFoundError, DamagedCheckpointError, ValueError: see `Checkpointer.restore`.
    """
    return _read(*manifest.verify(expand(directory), step), template, partial)


def read_run(directory: str | Path, *, step: int | None = None, build: Callable[..., Any] | None = None) -> Loaded:
    """Configuration, model and weights of a run, without its optimizer, its data or its devices.

    Args:
        directory: the run's directory, with `config.json` and `checkpoints/`.
        step: None for the newest checkpoint.
        build: `(**config["model"]) -> model`, with `init(key, example_shape) -> Variables(params, state)`;
            None for `jaxgen.models.build`, which only knows the models of this library.

    Returns:
        `Loaded`. The arrays are on the default device.

    Raises:
        FileNotFoundError: it is no run's directory, or has no checkpoint.
        ValueError: the configuration is damaged, has no "model" or no "example_shape", or does not fit the checkpoint.
        DamagedCheckpointError: files are missing or changed.
    """
    directory = expand(directory)
    config, model, (params, model_state) = read_model(directory, build)
    path, found = manifest.verify(directory / "checkpoints", step)
    template = {"params": params, "model_state": model_state, "ema_params": params}
    if not any(name.startswith("ema_params/") for name in found["arrays"]):
        del template["ema_params"]
    if not jax.tree.leaves(model_state):
        del template["model_state"]
    state = _read(path, found, template, partial=True).state
    return Loaded(
        config, model, state["params"], state.get("model_state", model_state), state.get("ema_params"), found["step"]
    )


def read_model(directory: Path, build: Callable[..., Any] | None = None) -> tuple[dict, Any, Any]:
    """(configuration, model, shapes of its variables) of a run; see `read_run`."""
    file = directory / "config.json"
    if not file.is_file():
        reason = "it has no config.json" if directory.is_dir() else "it does not exist"
        raise FileNotFoundError(f"{directory} is not a run's directory: {reason}")
    config = read_config(file)
    for name in ("model", "example_shape"):
        if name not in config:
            raise ValueError(f"{file} has no {name!r}, which reading it back needs to build the model: it has "
                             f"{sorted(config)}")
    if build is None:
        from jaxgen.models import build
    model = build(**config["model"])
    return config, model, jax.eval_shape(lambda: model.init(jax.random.key(0), tuple(config["example_shape"])))


def _read(path: Path, found: dict, template: PyTree, partial: bool) -> Restored:
    manifest.check_arrays(path, found["arrays"], manifest.arrays(template), partial=partial)
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def target(leaf):
        sharding = getattr(leaf, "sharding", None) or device
        return jax.ShapeDtypeStruct(np.shape(leaf), manifest.dtype_of(leaf), sharding=sharding)

    targets = jax.tree.map(target, template)
    restore_args = ocp.checkpoint_utils.construct_restore_args(targets)
    # The arrays were compared above. Orbax would also refuse parts without any that a state has gained since it was
    # written, such as an adversary that is None.
    arguments = ocp.args.PyTreeRestore(targets, restore_args=restore_args, partial_restore=True)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as orbax:
        state = orbax.restore(_OrbaxPath(path), args=arguments)
    return Restored(state, found["data"], found["step"])
