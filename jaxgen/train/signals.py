"""Ctrl-C and SIGTERM as a request to finish the step, save and leave."""

import os
import signal
import threading
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """While it is entered, the first SIGINT or SIGTERM sets `signal`; the second one ends the process as usual.

    The handlers that were there before come back on leaving. Outside the main thread, where Python allows no
    handlers, it does nothing.
    """

    def __init__(self):
        self.signal: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def agreed(self, step: int, every: int) -> str | None:
        """The signal, once every process of the run knows of it: all have to stop after the same step.

        Args:
            step: number of updates done, the same in all processes.
            every: with several processes, they ask each other at multiples of this step.

        Returns:
            "SIGINT" or "SIGTERM", or None to go on.
        """
        if jax.process_count() == 1 or step % every:
            return self.signal if jax.process_count() == 1 else None
        mine = 0 if self.signal is None else int(signal.Signals[self.signal])
        numbers = np.asarray(multihost_utils.process_allgather(np.int32(mine)))
        return signal.Signals(int(numbers.max())).name if numbers.max() else None

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.signal is None:
            self.signal = signal.Signals(number).name
            return
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
