"""One process at a time trains in a run's directory.

The lock is the operating system's (`flock`) on the file `.lock`: it ends with the process that holds it, however that
ends, so that nothing has to be cleared away after a crash. Readers need no lock.
"""

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxgen.runs.directory import check_utf8, expand

try:
    import fcntl
except ImportError:  # no such system
    fcntl = None

LOCK = ".lock"
UNSUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
PATIENCE = 1.0  # seconds: `holder` keeps the lock for a moment to see whether it can
FREE, TAKEN, UNLOCKED = range(3)


class LockedRunError(ValueError):
    """Another process trains in this directory; `holder` says which."""

    def __init__(self, directory: Path, holder: "Holder"):
        self.holder = holder
        super().__init__(f"the run in {directory} is being trained by process {holder.process} on {holder.host}: wait "
                         "until that one ends or stop it, or give another working directory")


class Holder(NamedTuple):
    """The process that holds a run's lock, "?" where it has not written who it is."""

    host: str
    process: int | str


@contextlib.contextmanager
def lock_run(directory: str | Path) -> Iterator[None]:
    """Keeps a run's directory for this process while the block runs; of several processes of one run, the first has it.

    All processes of a run call it alike. On a file system without locks it says so and goes on.

    Args:
        directory: the working directory; made if need be.

    Raises:
        LockedRunError: another process has it.
    """
    path = expand(directory)
    check_utf8(path)
    file, outcome = None, FREE
    if jax.process_index() == 0:
        path.mkdir(parents=True, exist_ok=True)
        file = (path / LOCK).open("a+", encoding="utf-8")
    try:
        if file is not None:
            outcome = _take(file)
        outcome = int(multihost_utils.broadcast_one_to_all(np.int32(outcome)))
        if outcome == TAKEN:
            raise LockedRunError(path, _read_holder(path / LOCK))
        if outcome == UNLOCKED and file is not None:
            print(f"the file system of {path} has no locks: start no second training in this directory", flush=True)
        yield
    finally:
        if file is not None:
            file.close()  # which ends the lock


def holder(directory: str | Path) -> Holder | None:
    """The process that trains in a run's directory, or None.

    Args:
        directory: the run's.

    Returns:
        None also where the file system has no locks.
    """
    path = expand(directory) / LOCK
    if fcntl is None or not path.is_file():
        return None
    with path.open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_holder(path)
        except OSError:
            return None
    return None


def _take(file: IO[str]) -> int:
    """Locks the file, and writes into it who has it."""
    if fcntl is None:
        return UNLOCKED
    end = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return TAKEN
            time.sleep(0.05)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            return UNLOCKED
        else:
            break
    file.truncate(0)
    file.write(json.dumps(Holder(socket.gethostname(), os.getpid())._asdict()) + "\n")
    file.flush()
    return FREE


def _read_holder(file: Path) -> Holder:
    try:
        return Holder(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Holder("?", "?")
