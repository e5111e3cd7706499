"""The `scheduler_config.json` of diffusers as a schedule of `jaxgen.diffusion`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxgen import diffusion
from jaxgen.core.checks import choose
from jaxgen.core.errors import unknown_name
from jaxgen.diffusion import Schedule
from jaxgen.interop.diffusers.entries import SCHEDULER_KINDS, check_kinds
from jaxgen.interop.diffusers.files import find, naming, read_config

FILE = "scheduler_config.json"
DDPM_BETAS, SMALL_BETAS = (1e-4, 0.02, "linear"), (0.00085, 0.012, "linear")
BETAS = {
    **dict.fromkeys((
        "DDPMScheduler", "DDPMParallelScheduler", "DDIMScheduler", "DDIMParallelScheduler", "DDIMInverseScheduler",
        "PNDMScheduler", "LMSDiscreteScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler",
        "DEISMultistepScheduler", "DPMSolverMultistepScheduler", "DPMSolverMultistepInverseScheduler",
        "DPMSolverSinglestepScheduler", "SASolverScheduler", "UniPCMultistepScheduler",
    ), DDPM_BETAS),
    **dict.fromkeys((
        "HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
    ), SMALL_BETAS),
    **dict.fromkeys(("LCMScheduler", "TCDScheduler"), (0.00085, 0.012, "scaled_linear")),
}
"""(beta_start, beta_end, beta_schedule) of each class where its file does not say."""
FLOWS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
KINDS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
TABLES = {
    "linear": diffusion.linear, "scaled_linear": diffusion.scaled_linear, "squaredcos_cap_v2": diffusion.cosine,
}
STEPS = 1000
# Entries that change what the network was trained on, with the only value that is known here.
FIXED = {
    "timestep_type": "discrete", "use_flow_sigmas": False, "use_dynamic_shifting": False, "invert_sigmas": False,
}


class LoadedSchedule(NamedTuple):
    """What `load_schedule` gives."""

    schedule: Schedule
    kind: str  # what the network predicts, for `jaxgen.diffusion.precondition`


def load_schedule(directory: str | Path) -> LoadedSchedule:
    """The schedule that a model of diffusers was trained on, and what it predicts.

    What belongs to the sampling and not to the model is left to the caller: the spacing of the steps and their
    offset, Karras sigmas, the solver, clipping and thresholding of x0. The solver of FlowMatchHeunDiscreteScheduler
    is `in_flow_time(heun())`, that of DEISMultistepScheduler `deis(2)`.

    Args:
        directory: with `scheduler_config.json`, or a pipeline's, with `scheduler/scheduler_config.json`. Its class
            is any of diffusers' schedulers that have a table of betas, or a flow-matching one.

    Returns:
        `LoadedSchedule(schedule, kind)`: kind "eps", "v" or "x0" with a table (`jaxgen.diffusion.Discrete`), "flow"
        with `jaxgen.diffusion.flow`.

    Raises:
        FileNotFoundError: there is no such file; says what was looked for.
        ValueError: a class or an entry that is not supported; names it.
    """
    config = read_scheduler_config(directory)
    with naming(find(directory, FILE, "scheduler")):
        return from_scheduler_config(config)


def read_scheduler_config(directory: str | Path) -> dict[str, Any]:
    """The content of the file, each entry of the type that it has there; see `load_schedule`."""
    file = find(directory, FILE, "scheduler")
    config = read_config(file)
    with naming(file):
        check_kinds(config, SCHEDULER_KINDS)
    return config


def from_scheduler_config(config: Mapping[str, Any]) -> LoadedSchedule:
    """The schedule of a configuration; see `load_schedule`."""
    name = config.get("_class_name")
    if name not in BETAS and name not in FLOWS:
        raise unknown_name("_class_name of the scheduler", name, (*BETAS, *FLOWS))
    for entry, value in FIXED.items():
        if config.get(entry, value) != value:
            raise ValueError(f"{name} with {entry}={config[entry]!r} cannot be loaded: only {value!r} is supported")
    if name in FLOWS:
        return LoadedSchedule(diffusion.flow(shift=config.get("shift", 1.0)), "flow")
    prediction = config.get("prediction_type", "epsilon")
    predicted = choose("prediction_type", prediction, KINDS)
    table = _table(config, *BETAS[name])
    if config.get("rescale_betas_zero_snr", False):
        table = diffusion.rescale_zero_terminal_snr(table)
    return LoadedSchedule(table, predicted)


def network_steps(config: Mapping[str, Any]) -> int:
    """The time that a flow's network is conditioned on at pure noise; diffusers' flows run from 0 to 1000."""
    return config.get("num_train_timesteps", STEPS)


def _table(config, start, end, kind) -> diffusion.Discrete:
    if config.get("trained_betas") is not None:
        return diffusion.from_betas(config["trained_betas"])
    steps = config.get("num_train_timesteps", STEPS)
    kind = config.get("beta_schedule", kind)
    make = choose("beta_schedule", kind, TABLES)
    if kind == "squaredcos_cap_v2":
        return make(steps=steps)
    return make(steps=steps, beta_start=config.get("beta_start", start), beta_end=config.get("beta_end", end))
