"""How fast a training is, and how long the rest will take: steps, evaluations and checkpoints each for itself."""

import contextlib
import time
from collections.abc import Callable, Iterator


class Pace:
    """Times a training's steps apart from all else.

    The first step of a start compiles, so time runs from its end. With s seconds per step after that, n steps to come
    and n_k evaluations or checkpoints to come that took t_k seconds at least, s n + Σ n_k t_k seconds are left: the
    shortest, since the first one compiles.

    Args:
        clock: seconds from any beginning.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._since: float | None = None  # the end of the last step, moved on by what was no step
        self._steps, self._seconds = 0, 0.0
        self._recent_examples, self._recent_seconds = 0, 0.0
        self._shortest: dict[str, float] = {}

    def step(self, examples: int) -> None:
        """A step is done, the device's part included.

        Args:
            examples: in its batch.
        """
        now = self._clock()
        if self._since is not None:
            seconds = now - self._since
            self._steps, self._seconds = self._steps + 1, self._seconds + seconds
            self._recent_examples += examples
            self._recent_seconds += seconds
        self._since = now

    @contextlib.contextmanager
    def aside(self, kind: str) -> Iterator[None]:
        """What happens inside is no step.

        Args:
            kind: what it is, a key of `left`'s argument.
        """
        began = self._clock()
        yield
        seconds = self._clock() - began
        self._shortest[kind] = min(seconds, self._shortest.get(kind, seconds))
        if self._since is not None:
            self._since += seconds

    def examples_per_second(self) -> float | None:
        """The speed since the last call; None if no step was timed since."""
        if not self._recent_seconds:
            return None
        speed = self._recent_examples / self._recent_seconds
        self._recent_examples, self._recent_seconds = 0, 0.0
        return speed

    def left(self, steps: int, **aside: int) -> float | None:
        """Seconds that are left; None before a step was timed.

        Args:
            steps: those to come.
            aside: {kind: how many of it are to come}; one that did not happen yet counts as nothing.
        """
        if not self._steps:
            return None
        others = sum(count * self._shortest.get(kind, 0.0) for kind, count in aside.items())
        return steps * self._seconds / self._steps + others


def times_due(step: int, total: int, every: int | None) -> int:
    """How often something is due after `step`: at multiples of `every`, and at the last step.

    Args:
        step: steps done.
        total: steps in all.
        every: None for the last step only.

    Example:
        >>> times_due(10, 35, 10), times_due(10, 30, 10), times_due(10, 30, None), times_due(30, 30, 10)
        (3, 2, 1, 0)
    """
    if step >= total:
        return 0
    if every is None:
        return 1
    return total // every - step // every + bool(total % every)
