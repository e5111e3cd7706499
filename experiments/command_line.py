"""What every script's command line shares: the configuration flag and errors without a traceback."""

import io
import json
import runpy
import socket
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging
from jax.experimental import multihost_utils
from ml_collections import ConfigDict, config_flags

from jaxgen.core.checks import check_count
from jaxgen.core.errors import unknown_name
from jaxgen.runs import DamagedCheckpointError
from jaxgen.train import NonFiniteError

PROCESS_OPTIONS = {"coordinator": "coordinator_address", "process_count": "num_processes",
                   "process_index": "process_id"}  # of config.parallel, and what JAX calls them
WAIT = 300  # seconds for process 0 to start, the time that JAX gives the others
EXPECTED_ERRORS = (ValueError, TypeError, OSError, ImportError, DamagedCheckpointError, NonFiniteError)

flags.disclaim_key_flags()  # --help shows what is defined here as the script's own options

_DEBUG = flags.DEFINE_bool("debug", False, "Show the whole traceback of an error.")


def define_config(default: str, name: str = "config", *, needs: str | None = None) -> flags.FlagHolder[ConfigDict]:
    """--config=FILE.py[:variant], and --config.name=value for each of its values.

    Args:
        default: the file used when none is given.
        name: of the option, where a script has two configurations.
        needs: a value that configurations of other scripts lack.
    """
    for word in sys.argv[1:]:
        if word.startswith(f"--{name}="):
            _check_file(name, word.split("=", 1)[1].split(":")[0], default, needs)
    # ml_collections wants the file before the changes of its values; a user need not know.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: not word.startswith(f"--{name}="))
    try:  # ml_collections applies --config.name=value here, from sys.argv
        return config_flags.DEFINE_config_file(
            name, default,
            "A configuration: a Python file with get_config(variant), and after a colon its variant (:smoke runs in "
            f"seconds). --{name}.optimizer.learning_rate=1e-3 changes one value.",
        )
    except (AttributeError, KeyError) as error:
        sys.exit(_unknown_value(error))


def define_workdir(what: str) -> flags.FlagHolder[str]:
    """--workdir=DIRECTORY, without which the script does not run."""
    return flags.DEFINE_string("workdir", None, what, required=True)


def define_step() -> flags.FlagHolder[int]:
    """--step=NUMBER of a checkpoint."""
    return flags.DEFINE_integer("step", None, "The checkpoint's step; the newest if not given.", lower_bound=0)


def define_sampling() -> list[flags.FlagHolder]:
    """Options of every script that samples: what is asked for, and changes of the run's `config.sampling`."""
    return [
        define_step(),
        flags.DEFINE_list("classes", None, "Classes of the samples by name or number, in turn: --classes=0,1,2."),
        flags.DEFINE_multi_string("prompt", None, "Caption of the samples; may be given several times, in turn."),
        flags.DEFINE_integer("seed", 0, "Seed of the noise."),
        flags.DEFINE_string("solver", None, "Solver; the run's if not given. Diffusion: heun, dpmpp_2m, unipc, ...; "
                            "masked priors: ancestral, confidence, maskgit."),
        flags.DEFINE_integer("steps", None, "Steps of the solver; the run's if not given.", lower_bound=1),
        flags.DEFINE_string("grid", None, "Noise levels: karras, exponential, uniform, trailing, leading, linspace."),
        flags.DEFINE_float("guidance", None, "Scale of classifier-free guidance; 1 is the model alone."),
        flags.DEFINE_float("guidance_low", None, "Guide above this noise level alone."),
        flags.DEFINE_float("guidance_high", None, "Guide up to this noise level alone."),
        flags.DEFINE_float("temperature", None, "Of drawn tokens."),
        flags.DEFINE_float("choice_temperature", None, "Of which tokens solvers maskgit and confidence keep; 0: the "
                           "surest."),
        flags.DEFINE_integer("top_k", None, "Autoregressive priors draw from so many of the likeliest tokens; 0: all.",
                             lower_bound=0),
        flags.DEFINE_float("top_p", None, "Autoregressive priors draw from the likeliest tokens of this probability."),
        flags.DEFINE_float("remask", None, "Share of the largest possible remasking of tokens, in [0, 1]."),
    ]


def values(*holders: flags.FlagHolder) -> dict[str, Any]:
    """{name: value} of options, to be handed to a function as its keyword arguments."""
    return {holder.name: holder.value for holder in holders}


def run(main: Callable[..., None], *, actions: Sequence[str] = ()) -> None:
    """Parses the command line and runs `main`; an expected error becomes one message and exit status 1.

    Args:
        main: called without arguments, or with the action where there are `actions`.
        actions: what may stand as the first word of the command line, and must where there are any.
    """

    def checked(arguments):
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a name or a caption may hold what the locale cannot print
                stream.reconfigure(errors="backslashreplace")
        logging.set_verbosity(logging.WARNING)  # the libraries' notes on each checkpoint are not the user's
        words = arguments[1:]
        if actions and not words:
            raise app.UsageError(f"the first word must be one of {', '.join(actions)}")
        if len(words) > bool(actions):
            raise app.UsageError(f"unexpected argument {words[-1]!r}: options are written --name=value")
        try:
            main(*words)
        except EXPECTED_ERRORS as error:
            if _DEBUG.value:
                raise
            sys.exit(f"error: {error}")

    app.run(checked, flags_parser=_parse)


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


def _check_file(name: str, file: str, default: str, needs: str | None) -> None:
    """Ends with a message where a file is none, or the configuration of another script."""
    path = Path(file)
    if not path.is_file():
        others = sorted(str(p) for p in path.parent.glob("*.py")) or [default]
        sys.exit(f"error: {unknown_name(f'file of --{name}', file, others)}")
    get_config = runpy.run_path(file).get("get_config") if needs else None
    if get_config and needs not in get_config():
        sys.exit(f"error: --{name}={file} has no {needs!r}, so it is not made for this script: {default} is")


def _unknown_value(error: Exception) -> str:
    """ml_collections' word on a --config.name that does not exist, with the nearest one, on one line."""
    name, *hint = str(error.args[0].args[0] if isinstance(error.args[0], KeyError) else error.args[0]).split("\n")
    return f"error: unknown configuration value {name}. {' '.join(hint)}".rstrip()


def _parse(arguments: list[str]) -> list[str]:
    try:
        return flags.FLAGS(arguments)
    except (AttributeError, KeyError) as error:
        sys.exit(_unknown_value(error))
    except flags.Error as error:
        # An error within a configuration file comes with its whole traceback, of which the last line says it.
        reason = str(error).strip().splitlines()[-1].strip()
        sys.exit(f"error: {reason}\nrun python -m experiments.{Path(arguments[0]).stem} --help for the options")
