"""The training loop: dispatch, watch, log, evaluate, save, and leave in good order."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from jaxgen.train.progress import Progress
from jaxgen.train.signals import StopRequest
from jaxgen.train.state import TrainState

PyTree = Any


class Batches(Protocol):
    """Batches on the device, from an iterator that can say where it stands."""

    def __next__(self) -> Mapping[str, Any]: ...

    def get_state(self) -> Any:
        """Plain JSON from which `set_state` goes on with the batch after the last one that `next` gave."""

    def set_state(self, state: Any) -> None: ...


class Checkpoints(Protocol):
    """What `fit` and `resume` need of checkpoints; `jaxgen.runs.Checkpointer` is one."""

    directory: Path

    def latest_step(self) -> int | None: ...

    def save(self, step: int, state: Any, data: Any = None) -> bool: ...

    def restore(self, template: Any, step: int | None = None) -> Any: ...

    def drop_after(self, step: int) -> None: ...

    def wait(self) -> None: ...


class ScalarLogger(Protocol):
    """What `fit` needs of a logger; `jaxgen.show.logging.Logger` is one."""

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def flush(self) -> None: ...


class NonFiniteError(FloatingPointError):
    """The loss, the gradients or the parameters are no longer finite; `step`, `ids` and `last_good` say where."""

    def __init__(self, what: str, step: int, ids: list | None, last_good: int | None):
        self.step, self.ids, self.last_good = step, ids, last_good
        batch = f"the batch's ids are {ids}" if ids is not None else "the batch has no ids"
        good = "none" if last_good is None else f"step {last_good}"
        super().__init__(
            f"{what} at step {step}; {batch}; last good checkpoint: {good}. Nothing was saved since. "
            f"Go on from that checkpoint with a lower learning rate, or start anew with clipped gradients."
        )


class FitResult(NamedTuple):
    """Where `fit` stopped."""

    state: TrainState
    step: int
    stopped_by: str | None  # "SIGINT" or "SIGTERM"; None if all steps are done


def fit(
    state: TrainState,
    step_fn: Callable[[TrainState, PyTree], tuple[TrainState, dict]],
    batches: Batches | Iterator,
    *,
    num_steps: int,
    checkpointer: Checkpoints | None = None,
    logger: ScalarLogger | None = None,
    log_every: int = 50,
    checkpoint_every: int | None = 1000,
    evaluate: Callable[[TrainState, int], Mapping[str, float]] | None = None,
    evaluate_every: int | None = None,
    view: Callable[[TrainState], TrainState] = lambda state: state,
    watch: tuple[str, ...] = ("loss", "grad_norm"),
    bar: bool | None = None,
) -> FitResult:
    """Trains from `state.step` to `num_steps`.

    The metrics of step t - 1 are read after step t has been dispatched, so that the device never waits for the host.
    SIGINT or SIGTERM ends the current step, saves and returns; a second one ends the process. Several processes call
    it alike, the first one shows and logs, and a signal to one of them stops all at the next multiple of `log_every`.

    Args:
        state: fresh, or from `resume`; overwritten if `step_fn` donates it.
        step_fn: of `compile_step` or `pmap_step`; its metrics include "loss".
        batches: `next` gives a batch. With a checkpointer, `get_state` goes into each checkpoint (`Batches`).
        num_steps: updates in all, those before a resume included.
        checkpointer: None for no checkpoints; else there is always one of the last step.
        logger: None for no log.
        log_every: steps between log records.
        checkpoint_every: steps between checkpoints; None for one at the end alone.
        evaluate: `(state, step) -> metrics`, logged with the prefix "eval/"; called by all processes (see `gather`).
        evaluate_every: steps between evaluations; None for one at the end alone.
        view: what checkpoints and `evaluate` see of the state: `unreplicate` for `pmap_step`.
        watch: metrics that must stay finite.
        bar: progress bar; None for one if on a terminal.

    Returns:
        `FitResult(state, step, stopped_by)`.

    Raises:
        NonFiniteError: a watched metric, or at a checkpoint a parameter, is not finite; that state is not saved.
        ValueError: the batches ended before `num_steps`, or an interval is below 1.
    """
    intervals = {"log_every": log_every, "checkpoint_every": checkpoint_every, "evaluate_every": evaluate_every}
    for name, every in intervals.items():
        if every is not None and every < 1:
            raise ValueError(f"{name} must be at least 1, got {every}")
    loop = _Loop(logger, checkpointer, watch, log_every)
    step = int(jax.device_get(view(state).step))
    progress = loop.progress = Progress(step, num_steps, bar=bar)
    stopped_by = None
    try:
        with StopRequest() as stop:
            while step < num_steps and not stopped_by:
                try:
                    batch = next(batches)
                except StopIteration:
                    raise ValueError(f"the batches ended after step {step}, before num_steps={num_steps}") from None
                state, metrics = step_fn(state, batch)
                step += 1
                loop.read_pending()
                loop.pending = step, batch, metrics
                progress.advance(step)
                stopped_by = stop.agreed(step, log_every)
                last = step == num_steps
                if evaluate is not None and not stopped_by and _due(step, evaluate_every, last):
                    loop.read_pending()
                    with loop.clock_stopped():
                        loop.log(step, {f"eval/{k}": float(v) for k, v in evaluate(view(state), step).items()})
                if checkpointer is not None and _due(step, checkpoint_every, last or bool(stopped_by)):
                    loop.save(step, view(state), batches)
            loop.read_pending()
            if checkpointer is not None:
                checkpointer.wait()
        if stopped_by:
            kept = "saved; the same command resumes here" if checkpointer is not None else "nothing was saved"
            progress.note(f"{stopped_by} at step {step} of {num_steps}: {kept}")
        return FitResult(state, step, stopped_by)
    finally:
        progress.close()
        if logger is not None:
            logger.flush()
        if checkpointer is not None:
            checkpointer.wait()


def resume(
    state: TrainState, batches: Batches | None, checkpointer: Checkpoints, *, step: int | None = None
) -> tuple[TrainState, int]:
    """The state and the batches where the last checkpoint left them, or as they are if there is none.

    Args:
        state: a fresh one, which says structure, shapes and devices.
        batches: set to the batch after the last one trained on; None to leave that to the caller.
        checkpointer: of the run.
        step: None for the newest; else later checkpoints are deleted, since the run overwrites them.

    Returns:
        The state and its step.

    Raises:
        FileNotFoundError, DamagedCheckpointError, ValueError: see `jaxgen.runs.Checkpointer.restore`.
        ValueError: several processes do not see the same checkpoints.
    """
    latest = checkpointer.latest_step()
    _check_shared(checkpointer.directory, latest)
    if step is None and latest is None:
        return state, int(jax.device_get(state.step))
    restored = checkpointer.restore(state, step)
    if step is not None:
        checkpointer.drop_after(step)
    if batches is not None:
        batches.set_state(restored.data)
    return restored.state, restored.step


class _Loop:
    """What `fit` carries from step to step besides the state."""

    def __init__(self, logger, checkpointer, watch, log_every):
        self.logger, self.checkpointer, self.watch, self.log_every = logger, checkpointer, watch, log_every
        self.pending: tuple[int, Any, dict] | None = None
        self.progress: Progress
        self._since: float | None = None  # None until the first step is compiled and done
        self._examples = 0

    def read_pending(self) -> None:
        """Waits for the metrics of the last step but one, checks them and logs them."""
        if self.pending is None:
            return
        (step, batch, metrics), self.pending = self.pending, None
        metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if self._since is None:
            self._since = time.monotonic()
        else:
            self._examples += _batch_size(batch)
        for name in self.watch:
            if name in metrics and not math.isfinite(metrics[name]):
                raise NonFiniteError(f"{name} is {metrics[name]}", step, _ids(batch), self.last_good())
        if step % self.log_every == 0:
            now = time.monotonic()
            speed = self._examples / max(now - self._since, 1e-9)  # 0 for the step that includes compilation
            self._since, self._examples = now, 0
            self.log(step, {**metrics, "examples_per_second": speed})
            self.progress.report(step, metrics.get("loss", math.nan), speed)

    @contextlib.contextmanager
    def clock_stopped(self) -> Iterator[None]:
        """What happens inside does not count as training time."""
        began = time.monotonic()
        yield
        self._since = (self._since or began) + time.monotonic() - began

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if self.logger is not None:
            self.logger.scalars(step, metrics)

    def save(self, step: int, state: TrainState, batches: Any) -> None:
        batch = self.pending[1] if self.pending else None
        self.read_pending()
        if not bool(_all_finite((state.params, state.ema_params, state.adversary))):
            raise NonFiniteError("a parameter is not finite", step, _ids(batch), self.last_good())
        with self.clock_stopped():
            if self.logger is not None:
                self.logger.flush()
            self.checkpointer.save(step, state, batches.get_state() if hasattr(batches, "get_state") else None)

    def last_good(self) -> int | None:
        if self.checkpointer is None:
            return None
        self.checkpointer.wait()
        return self.checkpointer.latest_step()


@jax.jit
def _all_finite(tree: PyTree) -> jax.Array:
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in leaves])) if leaves else jnp.array(True)


def _due(step: int, every: int | None, last: bool) -> bool:
    return bool(last) or (every is not None and step % every == 0)


def _check_shared(directory: Path, latest: int | None) -> None:
    """Raises ValueError unless the newest step in the directory is the same for all processes."""
    found = multihost_utils.process_allgather(np.int32(-1 if latest is None else latest))
    if np.any(found != found.flat[0]):
        seen = [None if step < 0 else int(step) for step in found]
        raise ValueError(
            f"the newest checkpoint in {directory} is not the same for all processes, which find the steps {seen}: "
            f"use a directory on a file system that all of them share"
        )


def _batch_size(batch: Any) -> int:
    """Examples of the global batch."""
    leaves = jax.tree.leaves(batch)
    if not leaves or not np.ndim(leaves[0]):
        return 0
    is_global = isinstance(leaves[0], jax.Array) and not leaves[0].is_fully_addressable
    return np.shape(leaves[0])[0] * (1 if is_global else jax.process_count())


def _ids(batch: Any) -> list | None:
    if not isinstance(batch, Mapping) or "id" not in batch:
        return None
    return multihost_utils.process_allgather(batch["id"], tiled=True).ravel().tolist()
