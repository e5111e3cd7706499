"""What every script's command line shares: the configuration flag and errors without a traceback."""

import sys
from collections.abc import Callable

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from jaxgen.train import DamagedCheckpointError, NonFiniteError

EXPECTED_ERRORS = (ValueError, TypeError, OSError, ImportError, DamagedCheckpointError, NonFiniteError)

_DEBUG = flags.DEFINE_bool("debug", False, "Show the whole traceback of an error.")


def define_config(default: str) -> flags.FlagHolder[ConfigDict]:
    """--config=FILE.py[:variant], and --config.name=value for each of its values.

    Args:
        default: the file used when none is given.
    """
    try:  # ml_collections applies --config.name=value here, from sys.argv
        return config_flags.DEFINE_config_file(
            "config", default,
            "The configuration: a Python file with get_config(variant), and after a colon its variant (:smoke runs in "
            "seconds). --config.optimizer.learning_rate=1e-3 changes one value.",
        )
    except (AttributeError, KeyError) as error:
        sys.exit(_unknown_value(error))



def define_workdir(what: str) -> flags.FlagHolder[str]:
    """--workdir=DIRECTORY, without which the script does not run."""
    return flags.DEFINE_string("workdir", None, what, required=True)


def run(main: Callable[[], None]) -> None:
    """Parses the command line and runs `main`; an expected error becomes one message and exit status 1."""

    def checked(arguments):
        logging.set_verbosity(logging.WARNING)  # the libraries' notes on each checkpoint are not the user's
        if len(arguments) > 1:
            raise app.UsageError(f"unexpected argument {arguments[1]!r}: options are written --name=value")
        try:
            main()
        except EXPECTED_ERRORS as error:
            if _DEBUG.value:
                raise
            sys.exit(f"error: {error}")

    app.run(checked, flags_parser=_parse)


def start_processes(multihost: bool) -> None:
    """Joins the processes of a TPU pod or a cluster into one; call it before any array is made."""
    if multihost:
        jax.distributed.initialize()


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
        sys.exit(f"error: {reason}\nrun {arguments[0]} --help for the options")
