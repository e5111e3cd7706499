"""Measuring in fresh processes: one worker per case, so that neither memory nor threads of one touch another.

A benchmark module has `prepare(case) -> {name: function}`: functions without arguments that run one operation to its
end, compiled but not yet run. `Worker(module, case)` starts a process for them; the parent asks for a peak or a time,
and can alternate between workers, so that a machine's moods meet all of them alike.
"""

import contextlib
import gc
import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")


class WorkerError(Exception):
    """A worker ended or reported an error; the message says which."""


class Worker:
    """A process that holds one prepared case.

    Args:
        module: importable name of the benchmark module.
        case: JSON-serialisable, handed to the module's `prepare`.
        memory_limit: bytes of private memory that the process may have; more raises in it.
        time_limit: seconds that the process may spend computing.
        cores: how many of the cores that this process may use are the worker's, the first ones; all by default, and
            where the system does not hold a process to some.
        environment: variables that the worker has beside those of this process.

    Raises:
        WorkerError: from any call, when the case fails.
    """

    def __init__(self, module: str, case: dict, *, memory_limit: int | None = None, time_limit: int = 600,
                 cores: int | None = None, environment: Mapping[str, str] | None = None):
        command = [sys.executable, "-m", __name__, module, json.dumps(case), str(memory_limit or -1), str(time_limit),
                   str(cores or -1)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **(environment or {})}
        )
        self.operations: list[str] = self._answer()

    def peak_bytes(self, operation: str) -> int:
        """The memory that the operation's first run adds at its peak, in bytes."""
        return self._ask("peak", operation)

    def seconds(self, operation: str) -> float:
        """The wall time of one run, in seconds."""
        return self._ask("time", operation)

    def usage(self, operation: str) -> dict[str, float]:
        """Of one run: "seconds" of wall time, "system" seconds of CPU time in the kernel, and page "faults"."""
        return self._ask("usage", operation)

    def value(self, operation: str) -> Any:
        """What one run returns, a value of JSON."""
        return self._ask("value", operation)

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _ask(self, *question: str):
        with contextlib.suppress(BrokenPipeError):  # of a process that ended: the answer says how
            print(json.dumps(question), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self):
        line = self._process.stdout.readline()
        if line:
            answer = json.loads(line)
            if "error" not in answer:
                return answer["value"]
            self.close()
            raise WorkerError(answer["error"])
        code = self._process.wait()
        raise WorkerError(f"the process ended with code {code}: {self._process.stderr.read()[-200:].strip()}")


def available_memory() -> int | None:
    """Bytes that the system could still hand out, or None where it does not say."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    lines = (line.split() for line in meminfo.read_text(encoding="utf-8").splitlines())
    return next(int(line[1]) * 1024 for line in lines if line[0] == "MemAvailable:")


def _status_bytes(field: str) -> int:
    lines = (line.split() for line in _STATUS.read_text(encoding="utf-8").splitlines())
    return next(int(line[1]) * 1024 for line in lines if line[0] == field)


def _device_stats() -> dict:
    """Memory statistics of JAX's accelerator; empty on a CPU and without JAX."""
    jax = sys.modules.get("jax")
    if jax is None or jax.default_backend() == "cpu":
        return {}
    return jax.devices()[0].memory_stats() or {}


def _peak(operation) -> int:
    gc.collect()
    before = _device_stats()
    if before:
        operation()
        return _device_stats()["peak_bytes_in_use"] - before["bytes_in_use"]
    if _STATUS.exists():
        Path("/proc/self/clear_refs").write_bytes(b"5")  # forgets the peak so far, which compilation may have made
        start = _status_bytes("VmRSS:")
        operation()
        return max(0, _status_bytes("VmHWM:") - start)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    operation()
    unit = 1 if sys.platform == "darwin" else 1024
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) * unit


def _usage(operation) -> dict[str, float]:
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    operation()
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    return {"seconds": seconds, "system": after.ru_stime - before.ru_stime,
            "faults": after.ru_minflt - before.ru_minflt}


def _seconds(operation) -> float:
    return _usage(operation)["seconds"]


def _value(operation) -> Any:
    return operation()


QUESTIONS = {"peak": _peak, "time": _seconds, "usage": _usage, "value": _value}


def _serve(module: str, case: str, memory_limit: str, time_limit: str, cores: str) -> None:
    if int(cores) > 0 and hasattr(os, "sched_setaffinity"):  # before any library starts its threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(cores)])
    resource.setrlimit(resource.RLIMIT_CPU, (int(time_limit), int(time_limit) + 5))
    if int(memory_limit) > 0:
        resource.setrlimit(resource.RLIMIT_DATA, (int(memory_limit), int(memory_limit)))
    try:
        operations = importlib.import_module(module).prepare(json.loads(case))
        print(json.dumps({"value": list(operations)}), flush=True)
        for line in sys.stdin:
            question, name = json.loads(line)
            value = QUESTIONS[question](operations[name])
            print(json.dumps({"value": value}), flush=True)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {str(error)[:200]}"}), flush=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
