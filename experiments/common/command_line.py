"""What every script's command line shares: configurations by name, options, and errors without a traceback."""

import io
import runpy
import shlex
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from experiments.common.processes import start_processes
from experiments.common.startup import keep_programs
from jaxgen.core.errors import unknown_name
from jaxgen.models import build as build_model
from jaxgen.runs import DamagedCheckpointError, abilities
from jaxgen.runs.directory import expand, read_config
from jaxgen.train import NonFiniteError

CONFIGS = Path(__file__).parents[1] / "configs"
EXPECTED_ERRORS = (ValueError, TypeError, OSError, ImportError, DamagedCheckpointError, NonFiniteError)
# What other libraries call a value of a configuration.
ELSEWHERE = {"lr": ["learning_rate"], "bs": ["batch_size"], "steps": ["num_steps", "steps"], "cfg": ["guidance"],
             "cfg_scale": ["guidance"], "guidance_scale": ["guidance"], "wd": ["weight_decay"],
             "codebook_size": ["num_codes"], "num_embeddings": ["num_codes"], "n_e": ["num_codes"],
             "beta": ["commitment"], "ema": ["ema_decay"], "grad_clip": ["clip_norm"]}

flags.disclaim_key_flags()  # --help shows what is defined here as the script's own options

_DEBUG = flags.DEFINE_bool("debug", False, "Show the whole traceback of an error.")


def define_config(
    default: str, name: str = "config", *, models: Sequence[str] = (), needs: str | None = None
) -> flags.FlagHolder[ConfigDict]:
    """--config=NAME[:variant], or a file of one's own; and --config.key=value for each of its values.

    Args:
        default: the name of the configuration that is used when none is passed.
        name: of the option, where a script has two configurations.
        models: names of the models that the script trains; any if empty.
        needs: a value that configurations of other scripts lack.
    """
    try:
        passed, others = _split(name, sys.argv[1:])
        asked = passed[-1] if passed else default
        file, config = find_config(name, asked, default, models=models, needs=needs)
        for word in others:
            check_value_name(name, word, config)
    except ValueError as error:
        sys.exit(f"error: {error}")
    variant = asked.partition(":")[2]
    # ml_collections wants the file before the changes of its values; a user need not know.
    sys.argv[1:] = ([f"--{name}={file}:{variant}"] if passed else []) + others
    return config_flags.DEFINE_config_file(
        name, str(file),
        "A configuration: a name of experiments/configs or a Python file with get_config(variant), and after a colon "
        f"its variant (:smoke runs in seconds). --{name}.optimizer.learning_rate=1e-3 changes one value.",
    )


def _split(name: str, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """(values of --name=VALUE and --name VALUE, the other words)."""
    passed, others, rest = [], [], iter(words)
    for word in rest:
        if word == f"--{name}":
            passed.append(next(rest, ""))
        elif word.startswith(f"--{name}="):
            passed.append(word.partition("=")[2])
        else:
            others.append(word)
    return passed, others


def find_config(
    option: str, asked: str, default: str, *, models: Sequence[str] = (), needs: str | None = None
) -> tuple[Path, ConfigDict]:
    """(file, configuration) of what a user asks for, NAME[:variant] or FILE.py[:variant].

    Raises:
        ValueError: there is no such file, it has no such variant, or it is another script's.
    """
    name, _, variant = asked.partition(":")
    file = expand(name) if name.endswith(".py") else CONFIGS / f"{name}.py"
    if not file.is_file():
        names = sorted(path.stem for path in CONFIGS.glob("[a-z]*_*.py"))
        missing = unknown_name(f"configuration of --{option}", Path(name).stem, names)
        raise ValueError(f"{file} does not exist: {missing}") if name.endswith(".py") else missing
    get_config = runpy.run_path(str(file)).get("get_config")
    if get_config is None:
        raise ValueError(f"--{option}={asked}: {file} has no get_config(variant), so it is no configuration")
    config = get_config(variant or None)
    model = config.model.name if "model" in config else None
    if models and model not in models:
        raise ValueError(f"--{option}={asked} describes a {model!r}, and this script trains a {' or '.join(models)}: "
                         f"{default!r} is one")
    if needs and needs not in config:
        raise ValueError(f"--{option}={asked} has no {needs!r}, so it is not made for this script: {default!r} is")
    return file, config


def check_value_name(option: str, word: str, config: Mapping[str, Any]) -> None:
    """Raises ValueError for a --config.key=value whose key the configuration does not have."""
    if not word.startswith(f"--{option}."):
        return
    path, here, keys = option, config, word.removeprefix(f"--{option}.").partition("=")[0].split(".")
    for key in keys:
        if not isinstance(here, Mapping | ConfigDict):
            raise ValueError(f"{path} is a value, so that it has no {key!r}: give --{path}=VALUE")
        if key not in here:
            raise unknown_name(f"value {path}.{key}:", key, list(here), elsewhere=ELSEWHERE)
        path, here = f"{path}.{key}", here[key]


class _PathParser(flags.ArgumentParser):
    """Of options that are paths: `~` is the home directory."""

    def parse(self, argument: str) -> str:
        return str(expand(argument))

    def flag_type(self) -> str:
        return "path"


def define_path(name: str, default: str | None, what: str, *, required: bool = False) -> flags.FlagHolder[str]:
    """--name=PATH, in which `~` is the home directory."""
    return flags.DEFINE(_PathParser(), name, default, what, serializer=flags.ArgumentSerializer(), required=required)


def define_paths(name: str, what: str) -> flags.FlagHolder[list[str]]:
    """--name=PATH, once, several times or never."""
    return flags.DEFINE_multi(_PathParser(), flags.ArgumentSerializer(), name, [], what)


def define_workdir(what: str) -> flags.FlagHolder[str]:
    """--workdir=DIRECTORY, without which the script does not run."""
    return define_path("workdir", None, what, required=True)


def define_trained(what: str, *, unless: str | None = None) -> list[flags.FlagHolder]:
    """--workdir=DIRECTORY or --checkpoint=NAME, of which one must be passed, and --checkpoint_step=NUMBER.

    Args:
        what: of --workdir, for help.
        unless: an option with which neither is needed; defined before.
    """
    holders = [define_path("workdir", None, what), flags.DEFINE_string(
        "checkpoint", None, "In place of --workdir: the name of a checkpoint of experiments/checkpoints.")]
    flags.register_multi_flags_validator(
        ["workdir", "checkpoint", *([unless] if unless else [])],
        lambda passed: (passed["workdir"] is None) != (passed["checkpoint"] is None) or bool(passed.get(unless)),
        "pass --workdir=DIRECTORY of a run, or --checkpoint=NAME of a checkpoint that comes with the repository")
    return [*holders, define_checkpoint_step()]


def define_checkpoint_step() -> flags.FlagHolder[int]:
    """--checkpoint_step=NUMBER."""
    return flags.DEFINE_integer("checkpoint_step", None, "The checkpoint's step; the newest by default.", lower_bound=0)


def define_conditions() -> list[flags.FlagHolder]:
    """Options that say what samples are asked for."""
    return [
        flags.DEFINE_list("classes", None, "Classes of the samples by name or number, in turn: --classes=0,1,2."),
        flags.DEFINE_multi_string("prompt", None, "Caption of the samples; may be given several times, in turn."),
        flags.DEFINE_integer("seed", 0, "Seed of the noise."),
    ]


def define_sampling() -> list[flags.FlagHolder]:
    """Changes of the run's `config.sampling`."""
    return [
        flags.DEFINE_string("solver", None, "Solver; the run's by default. Diffusion: heun, dpmpp_2m, unipc, ...; "
                            "masked priors: ancestral, confidence, maskgit."),
        flags.DEFINE_integer("steps", None, "Steps of the solver; the run's by default.", lower_bound=1),
        flags.DEFINE_string("noise_grid", None, "Noise levels: karras, exponential, uniform, trailing, leading, "
                            "linspace."),
        flags.DEFINE_float("guidance", None, "Scale of classifier-free guidance; 1 is the model by itself."),
        flags.DEFINE_float("guidance_low", None, "Guide above this noise level only."),
        flags.DEFINE_float("guidance_high", None, "Guide up to this noise level only."),
        flags.DEFINE_float("temperature", None, "Token priors: softmax temperature."),
        flags.DEFINE_float("choice_temperature", None, "Solvers maskgit, confidence: noise in choosing which tokens to "
                           "keep; 0 keeps the most confident."),
        flags.DEFINE_integer("top_k", None, "Token priors: draw from the k most likely tokens; 0: from all.",
                             lower_bound=0),
        flags.DEFINE_float("top_p", None, "Token priors: draw from the most likely tokens of this probability."),
        flags.DEFINE_float("remask", None, "Solver ancestral: share of the largest possible remasking, in [0, 1]."),
    ]


def values(*holders: flags.FlagHolder) -> dict[str, Any]:
    """{name: value} of options that were passed or have a default, to be handed to a function."""
    return {holder.name: holder.value for holder in holders}


def passed(*holders: flags.FlagHolder) -> dict[str, Any]:
    """{name: value} of options that are not None."""
    return {holder.name: holder.value for holder in holders if holder.value is not None}


def train(build: Callable, default: str, *, models: Sequence[str], needs: str | None = None) -> None:
    """The command line of a script that trains what its `build(config, workdir)` makes of a configuration."""
    from experiments.common.training import run_training

    config = define_config(default, models=models, needs=needs)
    workdir = define_workdir("The run's directory, new or of a run to go on with.")
    dry_run = flags.DEFINE_bool("dry_run", False, "Print the parameters and how much memory and time the training "
                                "needs, and stop; nothing is written.")
    profile = flags.DEFINE_string("profile", None, "Steps to trace with jax.profiler into the run's directory: "
                                  "--profile=10:15.")
    for holder in (workdir, dry_run, profile):  # the script's own, though they are defined here
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[holder.name])

    def main():
        start_processes(config.value)
        name = Path(config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")[0]).stem
        result = run_training(build, config.value, workdir.value, name=name, dry_run=dry_run.value,
                              profile=profile.value)
        if result is not None:
            end(result.stopped_by, workdir.value)

    run(main)


def end(stopped_by: str | None, workdir: str) -> None:
    """Says what comes next after a training, or exits as a shell has it after a signal: `&&` does not go on."""
    if stopped_by:
        sys.exit(128 + signal.Signals[stopped_by])
    if jax.process_index() == 0:
        print(next_step(workdir), flush=True)


def next_step(workdir: str) -> str:
    """The command that shows what the model of a finished training can do, or why no script reads it back."""
    try:
        able = abilities(build_model(**read_config(expand(workdir) / "config.json")["model"]))
    except ValueError as error:  # a quantizer of one's own
        return f"next: read the run back in Python. {error}"
    script = next(name for name in ("sample", "reconstruct", "evaluate") if name in able)
    return f"next: python -m experiments.{script} --workdir={shlex.quote(workdir)}"


def run(main: Callable[..., None], *, actions: Sequence[str] = (), names: bool = False) -> None:
    """Parses the command line and runs `main`; an expected error becomes one message and exit status 1.

    Args:
        main: called without arguments, or with the action where there are `actions`, or with the `names`.
        actions: what may stand as the first word of the command line, and must where there are any.
        names: words are names, as many as a user likes.
    """

    def checked(arguments):
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a name or a caption may hold what the locale cannot print
                stream.reconfigure(errors="backslashreplace")
        logging.set_verbosity(logging.WARNING)  # the libraries' notes on each checkpoint are not the user's
        words = arguments[1:]
        if actions and not words:
            raise app.UsageError(f"the first word must be one of {', '.join(actions)}")
        if len(words) > bool(actions) and not names:
            raise app.UsageError(f"unexpected argument {words[-1]!r}: options are written --name=value")
        keep_programs()
        try:
            main(*words)
        except EXPECTED_ERRORS as error:
            if _DEBUG.value:
                raise
            sys.exit(f"error: {error}")

    app.run(checked, flags_parser=_parse)


def _parse(arguments: list[str]) -> list[str]:
    try:
        return flags.FLAGS(arguments)
    except SystemExit:  # after --help: absl exits with status 1, though nothing failed
        sys.exit(0)
    except (AttributeError, KeyError) as error:
        name = str(error.args[0].args[0] if isinstance(error.args[0], KeyError) else error.args[0]).split("\n")[0]
        sys.exit(f"error: unknown configuration value {name}")
    except flags.Error as error:
        # An error within a configuration file comes with its whole traceback, of which the last line says it.
        reason = str(error).strip().splitlines()[-1].strip()
        sys.exit(f"error: {reason}\nrun python -m experiments.{Path(arguments[0]).stem} --help for the options")
