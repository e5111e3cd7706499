"""Measure published checkpoints again and compare each number with what their reproduce.json says.

    python -m experiments.reproduce diffusion_mnist vqvae_mnist
    python -m experiments.reproduce --all
    python -m experiments.reproduce --workdir=my/checkpoints/digits

The exit status is 1 where a number lies outside its tolerance, where the weights are not those that were measured, or
where a checkpoint cannot be read; the others are measured all the same. The last line of each says how long it took.
"""

import sys
import time

from absl import flags

from experiments.common import command_line
from jaxgen import evaluate, runs
from jaxgen.evaluate.reproduction import REPRODUCE
from jaxgen.runs.weights_file import WEIGHTS

ROW = "{:38} {:>12} {:>12} {:>10}  {}"


def main(*names: str, all_shipped: bool, workdir: str | None) -> None:
    asked = [*names, *([workdir] if workdir else []), *(map(str, runs.shipped().values()) if all_shipped else [])]
    if not asked:
        raise ValueError(f"name a checkpoint, or pass --all or --workdir: {', '.join(runs.shipped()) or 'none'} in "
                         f"{runs.shipped_folder()}")
    failed = []
    for name in dict.fromkeys(asked):
        try:
            passes = reproduced(name)
        except command_line.EXPECTED_ERRORS as error:
            passes = False
            print(f"error: {name}: {error}", file=sys.stderr, flush=True)
        if not passes:
            failed.append(name)
    if failed:
        sys.exit(f"not as published: {', '.join(failed)}")


def reproduced(name: str) -> bool:
    """Whether all comes out as published; prints a line for each number."""
    run, started = runs.load(name), time.monotonic()
    content, numbers = evaluate.read_reproduction(run.path / REPRODUCE)
    if not numbers:
        raise ValueError(f"{run.path / REPRODUCE} holds no numbers, so there is nothing to compare: publish it again")
    print(f"{run.path}, step {run.step}\n{ROW.format('number', 'expected', 'found', 'tolerance', '')}")
    digest = runs.digest_of_file(run.path / WEIGHTS)
    same = digest == content["digest"]
    print(ROW.format(f"digest of {WEIGHTS}", content["digest"][:12], digest[:12], "", said(same)), flush=True)
    passes = [same]
    for one in evaluate.reproduce(numbers, lambda evaluation: runs.measure(run, evaluation, bar=True)):
        number = one.number
        print(ROW.format(number.name, f"{number.value:.6g}", f"{one.found:.6g}", f"{number.tolerance:.2g}",
                         said(one.passes)), flush=True)
        passes.append(one.passes)
    print(f"measured in {time.monotonic() - started:.0f} s", flush=True)
    return all(passes)


def said(passes: bool) -> str:
    """A word for it."""
    return "pass" if passes else "differs"


if __name__ == "__main__":
    ALL = flags.DEFINE_bool("all", False, "All checkpoints of experiments/checkpoints.")
    WORKDIR = command_line.define_path("workdir", None, "The directory of a published checkpoint elsewhere.")
    command_line.run(lambda *names: main(*names, all_shipped=ALL.value, workdir=WORKDIR.value), names=True)
