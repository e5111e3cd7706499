"""Progress for people: a bar with loss, examples/s and time left on a terminal, plain lines otherwise."""

import sys
from typing import Any

import jax

# tqdm's own estimate takes compilation and evaluations for steps: the time left is `report`'s.
BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"


class Progress:
    """Shows how far a run is; of several processes, the first one does.

    Args:
        start: steps done before.
        total: steps in all.
        bar: None for a bar if standard error is a terminal and tqdm is installed.
    """

    def __init__(self, start: int, total: int, *, bar: bool | None = None):
        self._total = total
        self._bar: Any = None
        self._shows = jax.process_index() == 0
        if not self._shows:
            return
        if bar or (bar is None and sys.stderr.isatty()):
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self._bar = tqdm(initial=start, total=total, dynamic_ncols=True, bar_format=BAR)

    def advance(self, step: int) -> None:
        """`step` steps are done."""
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def report(self, step: int, loss: float, examples_per_second: float | None, left: float | None) -> None:
        """Shows the loss, the speed and the time left, in the bar or on a line.

        Args:
            step: steps done.
            loss: its loss.
            examples_per_second: None to leave it out.
            left: seconds; None to leave them out.
        """
        parts = [f"loss {loss:.4g}"]
        if examples_per_second is not None:
            parts.append(f"{examples_per_second:.3g} examples/s" if examples_per_second < 10 else
                         f"{examples_per_second:.0f} examples/s")
        if left is not None:
            parts.append(f"{duration(left)} left")
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join(parts))
        else:
            self.note(f"step {step}/{self._total}  {'  '.join(parts)}")

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


def duration(seconds: float) -> str:
    """Minutes and seconds, and hours if there are any.

    Example:
        >>> duration(75), duration(3675)
        ('1:15', '1:01:15')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
