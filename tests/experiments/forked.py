"""A script's run in a process of its own that need not import anything: it is forked from one that has.

Importing takes a script two seconds, more than most runs of `:smoke` compute. The process that is forked from (one for
each test process, see `multiprocessing`'s start method "forkserver") has imported all scripts and started no backend;
the few threads that imports leave wait and hold no locks. What the interpreter runs at its exit is not run: slow tests
start it whole.
"""

import gc
import multiprocessing
import os
import runpy
import sys
import traceback
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

from tests.conftest import GARBAGE

ROOT = Path(__file__).parents[2]
SCRIPTS = ("train_vqvae", "train_vqgan", "train_token_prior", "train_diffusion", "train_latent_diffusion",
           "train_classifier", "sample", "edit", "evaluate", "reconstruct", "publish", "reproduce", "demo", "report",
           "fit_codec", "compress", "decompress")
IMPORTED_LATE = ["grain", "orbax.checkpoint", "sklearn.svm", "tensorboardX", "tensorflow_datasets"]

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload([f"experiments.{name}" for name in SCRIPTS] + IMPORTED_LATE)


def start(environment: dict[str, str]) -> None:
    """Starts the process that is forked from. JAX takes what `environment` says of it when it is imported, here."""
    with mock.patch.dict(os.environ, environment, clear=True):
        forkserver.ensure_running()


def run(
    name: str, arguments: list[str], environment: dict[str, str], directory: Path, cwd: Path = ROOT
) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of `python -m experiments.NAME`, started in `cwd`.

    `directory` is for its output on the way here.

    Raises:
        TimeoutError: it takes longer than a test may.
    """
    files = [directory / "out", directory / "err"]
    process = context.Process(target=_run, args=(name, arguments, environment, files, cwd))
    process.start()
    process.join(280)
    late = process.exitcode is None
    process.kill()
    out, err = (file.read_text() if file.exists() else "" for file in files)
    for file in files:
        file.unlink(missing_ok=True)
    if late:
        raise TimeoutError(f"experiments.{name} {' '.join(arguments)} takes more than 280 s\n{out}\n{err}")
    return process.exitcode, out, err


def _run(name, arguments, environment, files, cwd=ROOT):
    gc.set_threshold(*GARBAGE)
    gc.freeze()  # what was imported stays, and its memory that of the process that is forked from
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = [name, *arguments]
    sys.modules.pop(f"experiments.{name}", None)  # it becomes __main__, as it does for the interpreter's option -m
    try:
        runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
    finally:
        sys.stdout.flush()
