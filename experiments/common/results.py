"""The sources of numbers: the cards of shipped checkpoints, and experiments/results.json of what is not shipped.

    python -m experiments.results            # writes the tables into README.md, experiments/README.md and the configs

A record is {"configuration", "command", "values", "machine", "commit", ...}; recording the same configuration and
command again replaces it, but for values that are words, such as how long the training took.
"""

import functools
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from math import log2, prod
from pathlib import Path
from typing import Any

import jax

from experiments.common import machine as processor
from jaxgen.evaluate import read_reproduction
from jaxgen.evaluate.reproduction import REPRODUCE
from jaxgen.models import Autoencoder, SecondStage, Tokenizer, build, latent_shape
from jaxgen.runs import Run
from jaxgen.runs.directory import environment
from jaxgen.runs.model_card import duration

FILE = Path(__file__).parents[1] / "results.json"
CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"


def read() -> list[dict[str, Any]]:
    """All records."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else []


def read_cards() -> dict[str, dict[str, Any]]:
    """{configuration: the numbers of its shipped checkpoint, how it was trained, and what they were measured on}.

    What differs between a card's evaluations is of the last one, which is that of samples; "evaluations" has for each
    number its own.

    Raises:
        ValueError: two checkpoints are of one configuration.
    """
    cards, folders = {}, {}
    for file in sorted(CHECKPOINTS.glob(f"*/{REPRODUCE}")):
        content, numbers = read_reproduction(file)
        config = json.loads((file.parent / "config.json").read_text(encoding="utf-8"))
        seconds, about = content["training"].get("seconds"), {}
        for number in numbers:
            about |= number.evaluation
        name = config.get("configuration") or file.parent.name
        if name in cards:
            raise ValueError(f"{folders[name]} and {file.parent} are both of the configuration {name}, which has one "
                             "row in a table: move one of them to another folder, which JAXGEN_CHECKPOINTS can name")
        folders[name] = file.parent
        cards[name] = {
            **about, **{number.name: number.value for number in numbers}, "codes": _codes(json.dumps(config)),
            "evaluations": {number.name: number.evaluation for number in numbers},
            "training": f"{content['step']:,} steps" + (f", {duration(seconds)}" if seconds else "")}
    return cards


@functools.cache
def _codes(config: str) -> str:
    """What an autoencoder makes of an example: codes and the bits of each, or positions and the numbers of each."""
    config = json.loads(config)
    model, shape = build(**config["model"]), tuple(config["example_shape"])
    if isinstance(model, SecondStage):
        return ""
    if isinstance(model, Tokenizer):
        return f"{prod(model.token_shape(shape))} x {log2(model.num_tokens):.3g}"
    if isinstance(model, Autoencoder):
        *places, numbers = latent_shape(model, shape)
        return f"{prod(places)} x {numbers} numbers"
    return ""


def record(run: Run, head: Mapping[str, Any], values: Mapping[str, Any]) -> Path:
    """Writes what was measured of a run.

    Args:
        run: the run.
        head: what was measured: step, data, split, samples, settings.
        values: the measures.
    """
    return _write({"configuration": run.config.get("configuration"), "command": command(), **head,
                   "values": dict(values)})


def record_study(name: str, head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Path:
    """Writes the table of a study, under the configuration `study_NAME`.

    Args:
        name: of the study.
        head: what was studied: configuration, steps, seeds.
        rows: the table's rows.
    """
    return _write({"configuration": f"study_{name}", "command": command(), **head, "values": {"rows": list(rows)}})


def _write(new: dict[str, Any]) -> Path:
    new |= {"machine": machine(), "commit": environment()["git_commit"]}
    records = {(old["configuration"], old["command"]): old for old in read()}
    key = new["configuration"], new["command"]
    before = records.get(key, {"values": {}})["values"]
    remarks = {name: value for name, value in before.items() if isinstance(value, str)}  # written by hand
    records[key] = {**new, "values": {**remarks, **new["values"]}}
    records = sorted(records.values(), key=lambda one: (str(one["configuration"]), one["command"]))
    FILE.write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")
    return FILE


def command() -> str:
    """What the user typed, without `--record`."""
    words = [word for word in sys.argv[1:] if word not in ("--record", "--record=true")]
    return shlex.join(["python", "-m", f"experiments.{Path(sys.argv[0]).stem}", *words])


def machine() -> str:
    """The processor, its cores, and the accelerators."""
    devices = {device.device_kind for device in jax.devices() if device.platform != "cpu"}
    return "; ".join([f"{processor.name()}, {processor.cores()} cores", *sorted(devices)])
