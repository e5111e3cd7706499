"""Progress for people: a bar with loss, examples/s and time left on a terminal, plain lines otherwise."""

import sys
import time
from typing import Any

import jax


class Progress:
    """Shows how far a run is; of several processes, the first one does.

    Args:
        start: steps done before.
        total: steps in all.
        bar: None for a bar if standard error is a terminal and tqdm is installed.
    """

    def __init__(self, start: int, total: int, *, bar: bool | None = None):
        self._start, self._total = start, total
        self._began = time.monotonic()
        self._bar: Any = None
        self._shows = jax.process_index() == 0
        if not self._shows:
            return
        if bar or (bar is None and sys.stderr.isatty()):
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self._bar = tqdm(initial=start, total=total, unit="step", dynamic_ncols=True, smoothing=0.05)

    def advance(self, step: int) -> None:
        """`step` steps are done."""
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def report(self, step: int, loss: float, examples_per_second: float) -> None:
        """Shows the loss and the speed; without a bar, one line with the time left."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {loss:.4g}, {examples_per_second:.0f} examples/s")
            return
        elapsed = time.monotonic() - self._began
        left = elapsed / max(step - self._start, 1) * (self._total - step)
        self.note(
            f"step {step}/{self._total}  loss {loss:.4g}  {examples_per_second:.0f} examples/s  {_clock(left)} left"
        )

    def note(self, line: str) -> None:
        """Prints a line without breaking the bar."""
        if not self._shows:
            return
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
