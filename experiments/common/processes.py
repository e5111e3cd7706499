"""Joining the processes of one run: a TPU pod, a cluster, or processes started by hand."""

import json
import socket
import time
import zlib
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from jaxgen.core.checks import check_count

PROCESS_OPTIONS = {"coordinator": "coordinator_address", "process_count": "num_processes",
                   "process_index": "process_id"}  # of config.parallel, and what JAX calls them
WAIT = 300  # seconds for process 0 to start, the time that JAX gives the others


def start_processes(config: ConfigDict) -> None:
    """Joins the processes of one run, as `config.parallel` says; call it before any array is made.

    With `multihost` a TPU pod or a cluster (Slurm, Open MPI, Kubernetes) tells each process what is not given:
    `coordinator`, the HOST:PORT of process 0, `process_count` and `process_index`.

    Raises:
        ValueError: an option is missing or wrong, or the processes were started with different configurations.
    """
    parallel = config.parallel
    given = {name: parallel[name] for name in PROCESS_OPTIONS if parallel[name] is not None}
    if not (parallel.multihost or given):
        return
    _check_processes(given, config.data.batch_size)
    # A run answers SIGTERM itself (jaxgen.train.signals); JAX's own answer would keep it from ending a start.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(**{PROCESS_OPTIONS[name]: value for name, value in given.items()})
    except ValueError as error:
        raise ValueError(
            f"the processes cannot be joined: {error} Outside a TPU pod or a cluster (Slurm, Open MPI, Kubernetes) "
            "give config.parallel.coordinator (HOST:PORT of process 0), config.parallel.process_count and "
            "config.parallel.process_index (from 0)"
        ) from error
    _check_same(config)


def _check_processes(given: dict[str, Any], batch_size: int) -> None:
    """Raises ValueError for options of several processes that cannot be right."""
    count = check_count("config.parallel.process_count", given.get("process_count", 1))
    index = check_count("config.parallel.process_index", given.get("process_index", 0), 0)
    if "process_count" in given and index >= count:
        raise ValueError(f"config.parallel.process_index={index} must be below config.parallel.process_count={count}: "
                         "processes are counted from 0")
    if batch_size % count:
        raise ValueError(f"config.data.batch_size={batch_size} does not divide over config.parallel.process_count="
                         f"{count} processes: use a multiple of their number")
    if "coordinator" in given:
        host, _, port = given["coordinator"].rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise ValueError(f"config.parallel.coordinator={given['coordinator']!r} must be HOST:PORT, where process 0 "
                             "runs and a port that is free there, such as 10.0.0.1:12345")
        if len(given) == len(PROCESS_OPTIONS):
            _check_coordinator(host, int(port), first=index == 0)


def _check_coordinator(host: str, port: int, *, first: bool) -> None:
    """Raises ValueError where process 0 finds its port in use, or another process finds nobody there for WAIT seconds.

    JAX itself would abort the interpreter.
    """
    if first:
        try:
            socket.create_server(("", port)).close()
        except OSError as error:
            raise ValueError(f"process 0 cannot listen at config.parallel.coordinator={host}:{port}: {error}. Give a "
                             "port that is free, and config.parallel.process_index=0 to one process only") from error
        return
    end = time.monotonic() + WAIT
    while True:
        try:
            return socket.create_connection((host.strip("[]"), port), timeout=10).close()
        except OSError as error:
            if time.monotonic() > end:
                raise ValueError(f"nobody answers at config.parallel.coordinator={host}:{port} ({error}): start "
                                 "process 0 there, with config.parallel.process_index=0") from error
        time.sleep(0.2)


def _check_same(config: ConfigDict) -> None:
    """Raises ValueError unless all processes have the same configuration but for their numbers."""
    values = config.to_dict()
    for name in PROCESS_OPTIONS:
        del values["parallel"][name]
    own = np.uint32(zlib.crc32(json.dumps(values, sort_keys=True, default=str).encode()))
    if np.any(multihost_utils.process_allgather(own) != own):
        raise ValueError("the processes of this run were started with different configurations: start all with the "
                         "same options but for config.parallel.process_index")
