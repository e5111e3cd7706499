"""The training loop: dispatch, watch, log, evaluate, save, and leave in good order."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxgen.core.mapped import is_divided
from jaxgen.train.contracts import Batches, Checkpoints, ScalarLogger
from jaxgen.train.finite import NonFiniteError, all_finite, batch_ids
from jaxgen.train.pace import Pace, times_due
from jaxgen.train.profile import Profile
from jaxgen.train.progress import Progress, duration
from jaxgen.train.signals import StopRequest
from jaxgen.train.state import TrainState

PyTree = Any


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
    profile: Profile | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> FitResult:
    """Trains from `state.step` to `num_steps`.

    The metrics of step t - 1 are read after step t has been dispatched, so that the device never waits for the host.
    SIGINT or SIGTERM ends the current step, saves and returns; a second one ends the process. Several processes call
    it alike, the first one shows and logs, and a signal to one of them stops all at the next multiple of `log_every`.
    "examples_per_second" in the log counts neither compilation nor evaluations nor checkpoints.

    Args:
        state: fresh, or from `resume`; overwritten if `step_fn` donates it.
        step_fn: of `compile_step` or `pmap_step`; its metrics include "loss".
        batches: `next` gives a batch. With a checkpointer, `get_state` goes into each checkpoint (`Batches`).
        num_steps: updates in all, those before a resume included.
        checkpointer: None for no checkpoints; else there is always one of the last step.
        logger: None for no log.
        log_every: steps between log records.
        checkpoint_every: steps between checkpoints; None for one at the end only.
        evaluate: `(state, step) -> metrics`, logged with the prefix "eval/"; called by all processes (see `gather`).
        evaluate_every: steps between evaluations; None for one at the end only.
        view: what checkpoints and `evaluate` see of the state: `unreplicate` for `pmap_step`.
        watch: metrics that must stay finite.
        bar: progress bar; None for one if on a terminal.
        profile: the steps to trace; None for none.
        clock: seconds from any beginning.

    Returns:
        `FitResult(state, step, stopped_by)`.

    Raises:
        NonFiniteError: a watched metric, or at a checkpoint a parameter, is not finite; that state is not saved.
        ValueError: the batches ended before `num_steps`, or an interval is below 1.
    """
    intervals = {"log_every": log_every, "checkpoint_every": checkpoint_every, "evaluate_every": evaluate_every}
    _check_intervals(**intervals)
    start = int(jax.device_get(view(state).step))
    loop = _Loop(
        start, num_steps, logger=logger, checkpointer=checkpointer, evaluate=evaluate, view=view, watch=watch,
        progress=Progress(start, num_steps, bar=bar), profile=profile, pace=Pace(clock=clock), **intervals,
    )
    try:
        return loop.run(state, step_fn, batches)
    finally:
        loop.close()


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
    """What `fit` carries from step to step besides the state; the arguments are its."""

    def __init__(
        self, step, num_steps, *, logger, checkpointer, evaluate, view, watch, progress, profile, pace, log_every,
        checkpoint_every, evaluate_every,
    ):
        self.step, self.num_steps = step, num_steps
        self.logger, self.checkpointer, self.evaluator, self.view = logger, checkpointer, evaluate, view
        self.watch, self.progress, self.profile, self.pace = watch, progress, profile, pace
        self.log_every, self.checkpoint_every, self.evaluate_every = log_every, checkpoint_every, evaluate_every
        self.pending: tuple[int, Any, dict] | None = None

    def run(self, state: TrainState, step_fn: Callable, batches: Any) -> FitResult:
        """All steps, or those until a signal."""
        stopped_by, start, begin = None, self.step, time.monotonic()
        with StopRequest() as stop:
            while self.step < self.num_steps and not stopped_by:
                state = self.advance(state, step_fn, batches)
                stopped_by = stop.agreed(self.step, self.log_every)
                if self.evaluator is not None and not stopped_by and self.due(self.evaluate_every):
                    self.evaluate(state)
                if self.checkpointer is not None and (stopped_by or self.due(self.checkpoint_every)):
                    self.save(state, batches)
            self.read_pending()
            if self.checkpointer is not None:
                self.checkpointer.wait()
        if stopped_by:
            kept = "saved; the same command resumes here" if self.checkpointer is not None else "nothing was saved"
            self.progress.note(f"{stopped_by} at step {self.step} of {self.num_steps}: {kept}")
        elif self.step > start:
            self.progress.note(f"finished: {self.step - start} steps in {duration(time.monotonic() - begin)}")
        return FitResult(state, self.step, stopped_by)

    def advance(self, state: TrainState, step_fn: Callable, batches: Any) -> TrainState:
        """Dispatches a step, then reads the metrics of the one before."""
        try:
            batch = next(batches)
        except StopIteration:
            raise ValueError(
                f"the batches ended after step {self.step}, before num_steps={self.num_steps}"
            ) from None
        if self.profile is not None and self.profile.begins(self.step + 1):
            self.read_pending()
            with self.pace.aside("profile"):
                self.profile.start(self.step + 1)
        state, metrics = step_fn(state, batch)
        self.step += 1
        self.read_pending()
        self.pending = self.step, batch, metrics
        self.progress.advance(self.step)
        if self.profile is not None and self.profile.ends(self.step):
            self.read_pending()
            with self.pace.aside("profile"):
                self.stop_profile()
        return state

    def due(self, every: int | None) -> bool:
        """Whether something is due after this step: at multiples of `every`, and at the last one."""
        return self.step == self.num_steps or (every is not None and self.step % every == 0)

    def read_pending(self) -> None:
        """Waits for the metrics of the last step but one, checks them and logs them."""
        if self.pending is None:
            return
        (step, batch, metrics), self.pending = self.pending, None
        metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
        self.pace.step(_batch_size(batch))
        for name in self.watch:
            if name in metrics and not math.isfinite(metrics[name]):
                raise NonFiniteError(f"{name} is {metrics[name]}", step, batch_ids(batch), self.last_good())
        if step % self.log_every == 0:
            speed = self.pace.examples_per_second()
            self.log(step, metrics if speed is None else {**metrics, "examples_per_second": speed})
            self.progress.report(step, metrics.get("loss", math.nan), speed, self.left(step))

    def left(self, step: int) -> float | None:
        """Seconds until the end after `step` steps, as far as is known; what is due at this step is still to come."""
        evaluations = times_due(step - 1, self.num_steps, self.evaluate_every) if self.evaluator is not None else 0
        checkpoints = times_due(step - 1, self.num_steps, self.checkpoint_every) if self.checkpointer is not None else 0
        return self.pace.left(self.num_steps - step, evaluation=evaluations, checkpoint=checkpoints)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if self.logger is not None:
            self.logger.scalars(step, metrics)

    def stop_profile(self) -> None:
        """Ends the trace that is being taken, if there is one, and says where it is."""
        if self.profile is not None and self.profile.active:
            self.progress.note(self.profile.stop(self.step))

    def evaluate(self, state: TrainState) -> None:
        self.read_pending()
        with self.pace.aside("evaluation"):
            metrics = {name: float(value) for name, value in self.evaluator(self.view(state), self.step).items()}
            self.log(self.step, {f"eval/{name}": value for name, value in metrics.items()})
            values = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            self.progress.note(f"step {self.step}/{self.num_steps}  held out: {values}")

    def save(self, state: TrainState, batches: Any) -> None:
        batch = self.pending[1] if self.pending else None
        self.read_pending()
        with self.pace.aside("checkpoint"):
            state = self.view(state)
            if not bool(all_finite((state.params, state.ema_params, state.adversary))):
                raise NonFiniteError("a parameter is not finite", self.step, batch_ids(batch), self.last_good())
            if self.logger is not None:
                self.logger.flush()
            data = batches.get_state() if hasattr(batches, "get_state") else None
            self.checkpointer.save(self.step, state, data)

    def last_good(self) -> int | None:
        if self.checkpointer is None:
            return None
        self.checkpointer.wait()
        return self.checkpointer.latest_step()

    def close(self) -> None:
        """Leaves files and terminal in order, however the training ended."""
        self.stop_profile()
        self.progress.close()
        if self.logger is not None:
            self.logger.flush()
        if self.checkpointer is not None:
            self.checkpointer.wait()


def _check_intervals(**intervals: int | None) -> None:
    for name, every in intervals.items():
        if every is not None and every < 1:
            raise ValueError(f"{name} must be at least 1, got {every}")


def _check_shared(directory: Path, latest: int | None) -> None:
    """Raises ValueError unless the newest step in the directory is the same for all processes."""
    newest = multihost_utils.process_allgather(np.int32(-1 if latest is None else latest))
    if np.any(newest != newest.flat[0]):
        seen = [None if step < 0 else int(step) for step in newest]
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
    examples = math.prod(np.shape(leaves[0])[: 2 if is_divided(leaves[0]) else 1])
    return examples * (1 if is_global else jax.process_count())
