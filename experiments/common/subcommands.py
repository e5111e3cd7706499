"""Scripts made of sub-commands, each a module with a docstring, `add_arguments(parser)` and `run(args)`."""

import argparse
import importlib
from collections.abc import Mapping
from typing import Any


def run_subcommand(
    script: str, about: str, package: str, commands: Mapping[str, str], arguments: list[str] | None = None
) -> Any:
    """Parses the command line and runs the module `package`.NAME that it names.

    Args:
        script: its name in `experiments`, for the usage line.
        about: its docstring, for help.
        package: of the modules.
        commands: {name: what it does, in a line}.
        arguments: the words of the command line; None for those of the process.

    Returns:
        What the module's `run` returns.
    """
    parser = argparse.ArgumentParser(prog=f"python -m experiments.{script}", description=about,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parsers = parser.add_subparsers(dest="command", required=True)
    modules = {name: importlib.import_module(f"{package}.{name}") for name in commands}
    for name, module in modules.items():
        own = parsers.add_parser(name, help=commands[name], description=module.__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
        module.add_arguments(own)
    args = parser.parse_args(arguments)
    return modules[args.command].run(args)
