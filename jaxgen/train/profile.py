"""A few steps of a training traced by `jax.profiler`."""

import re
from pathlib import Path

import jax


class Profile:
    """Traces the steps `first` to `last`. A run that goes on within the window traces the rest of it.

    `fit` calls it; of several processes, the first one traces.

    Args:
        directory: where the trace goes; made when it begins.
        first: number of the first traced step, from 1.
        last: number of the last one.

    Raises:
        ValueError: they are no window.
    """

    def __init__(self, directory: str | Path, first: int, last: int):
        if not 1 <= first <= last:
            raise ValueError(f"a profile's steps must be 1 <= first <= last, got first={first}, last={last}")
        self.directory, self.first, self.last = Path(directory), first, last
        self._began: int | None = None  # the first step in the trace that is being taken

    @property
    def active(self) -> bool:
        """Whether a trace is being taken."""
        return self._began is not None

    def begins(self, step: int) -> bool:
        """Whether `step`, the next one, is the first to trace."""
        return not self.active and self.first <= step <= self.last and jax.process_index() == 0

    def ends(self, step: int) -> bool:
        """Whether `step`, the newest one, is the last to trace."""
        return self.active and step >= self.last

    def start(self, step: int) -> None:
        """Begins the trace before `step`; what was dispatched before must be done, or is in the trace."""
        self.directory.mkdir(parents=True, exist_ok=True)
        jax.profiler.start_trace(str(self.directory))
        self._began = step

    def stop(self, step: int) -> str:
        """Ends the trace after `step`, which must be done.

        Returns:
            Where the trace is, for people.
        """
        began, self._began = self._began, None
        jax.profiler.stop_trace()
        return (f"profile of steps {began} to {step}: {self.directory} (open it with TensorBoard's profile plugin, or "
                "the .trace.json.gz inside at https://ui.perfetto.dev)")


def profile_window(text: str, num_steps: int) -> tuple[int, int]:
    """The first and the last step of a window that is written FIRST:LAST.

    Args:
        text: such as "10:15", both included.
        num_steps: steps of the training in all.

    Raises:
        ValueError: it has another form, or lies behind the training's end.

    Example:
        >>> profile_window("10:15", num_steps=100)
        (10, 15)
    """
    match = re.fullmatch(r"(\d+):(\d+)", text, re.ASCII)
    first, last = map(int, match.groups()) if match else (0, 0)
    if not 1 <= first <= last:
        raise ValueError(f"profile={text!r} must be FIRST:LAST, two steps counted from 1 of which the first is not "
                         "behind the last: 10:15 traces the steps 10 to 15")
    if first > num_steps:
        raise ValueError(f"profile={text!r} begins behind the last step, num_steps={num_steps}: give steps up to there")
    return first, last
