"""The trained run that a second model is made over: its model, its weights, its data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jaxgen.core.types import Variables
from jaxgen.models.base import Model, SecondStage
from jaxgen.runs import manifest
from jaxgen.runs.checkpoint import read_run
from jaxgen.runs.directory import expand
from jaxgen.runs.run import load
from jaxgen.runs.shipped import locate


class FirstStage(NamedTuple):
    """What `find_first_stage` returns."""

    description: dict[str, Any]  # of its model
    data: dict[str, Any]  # of its data
    model: Model
    variables: Variables
    second_state: Any  # the state of the second run, which holds the weights; None where it is new


def find_first_stage(
    option: str, directory: str | Path, workdir: str | Path | None, *, able: type, source: str,
    build: Callable[..., Model] | None = None,
) -> FirstStage:
    """A started second run's own first stage, else the run in `directory`.

    Args:
        option: of the configuration, which names the first stage; the second model's description has it under the
            same name.
        directory: the option's value: of a run, or the name of a shipped checkpoint.
        workdir: of the second run.
        able: the protocol that a first stage must have.
        source: where such runs come from, for messages.
        build: see `jaxgen.runs.load`.

    Raises:
        ValueError: no directory is passed, or it holds another kind of run.
    """
    if workdir is not None and manifest.find_steps(expand(workdir) / "checkpoints"):
        started = read_run(expand(workdir), build=build)
        if option in started.config["model"]:
            variables = Variables(started.params, started.model_state)
            model, own = started.model.first_stage(variables)
            return FirstStage(started.config["model"][option], started.config["data"], model, own,
                              started.model_state)
    if not directory:
        raise ValueError(f"config.{option} is empty: give the directory of a run of {source}")
    missing = f"config.{option}={directory} does not exist: give the directory of a run of {source}"
    try:
        path = locate(directory)
    except FileNotFoundError as error:
        raise ValueError(f"{missing}. {error}") from error
    if not path.is_dir():
        raise ValueError(missing)
    run = load(path, build=build)
    if isinstance(run.model, SecondStage):
        raise ValueError(f"config.{option}={directory} is a run of {run.config['model']['name']!r}, which is made over "
                         f"a first stage itself: give one of {source}")
    if not isinstance(run.model, able):
        raise ValueError(f"config.{option}={directory} is a run of {run.config['model']['name']!r}, which is no "
                         f"{able.__name__.lower()}: give one of {source}")
    return FirstStage(run.config["model"], run.config["data"], run.model, run.variables, None)
