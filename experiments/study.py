"""Studies: questions answered by many trainings or samplings, each one command that prints its table and draws it.

    python -m experiments.study equal_bits --workdir=runs/equal_bits
    python -m experiments.study equal_bits --workdir=runs/equal_bits --seeds=1 --only VQ FSQ

A study goes on where it was stopped: what is in its directory is not computed again. `--record` keeps the table in
experiments/results.json.

A sub-command is one entry of COMMANDS and one module `experiments/studies/<name>.py` with a docstring,
`add_arguments(parser)` and `run(args)`.
"""

import argparse
import importlib
import sys

from experiments.common.command_line import EXPECTED_ERRORS
from experiments.common.startup import keep_programs

COMMANDS = {
    "equal_bits": "quantizers with the same number of bits per image: quality, use of the codes, time",
    "samplers": "solvers against network evaluations, and guidance: the distance of samples to real images",
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.study", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f"experiments.studies.{name}")
        command = commands.add_parser(name, help=summary, description=module.__doc__,
                                      formatter_class=argparse.RawDescriptionHelpFormatter)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    args = parser.parse_args(arguments)
    keep_programs()
    try:
        args.run(args)
    except EXPECTED_ERRORS as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
