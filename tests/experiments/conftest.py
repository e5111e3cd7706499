"""Runs of the real scripts, each in its own process."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import QUICK_COMPILATION
from tests.experiments import forked

# Networks of one level compile in half the time, and what networks do is tested elsewhere. 7x7 codes as in full runs.
# 100 digits of each class, which are read in a fifth of the time; the set is sorted by class.
FEW_DIGITS = "--config.data.train_split=" + "+".join(f"train[{450 * i}:{450 * i + 100}]" for i in range(10))
SMALL_VQVAE = tuple(f"--config.model.{part}.{option}" for part in ("encoder", "decoder")
                    for option in ("multipliers=(1,)", "patch_size=4"))
SMALL_UNET = ("--config.model.network.channels=(8,)", "--config.model.network.down=('plain',)")
VQVAE = ("--config=vqvae_mnist:smoke", *SMALL_VQVAE, FEW_DIGITS, "--config.optimizer.schedule=constant")


class Scripts:
    """Runs `python -m experiments.NAME`; compiled programs are shared between all processes of one test session."""

    def __init__(self, directory: Path, cache: Path):
        self.directory = directory
        self.environment = {
            **os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK_COMPILATION,
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        forked.start(self.environment)

    def start(self, name: str, *arguments: str, **environment: str) -> subprocess.Popen:
        """The interpreter itself, as a user starts it."""
        return subprocess.Popen(
            [sys.executable, "-m", f"experiments.{name}", *arguments], cwd=forked.ROOT,
            env={**self.environment, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )

    def run(
        self, name: str, *arguments: str, fails: bool = False, cwd: Path = forked.ROOT, **environment: str
    ) -> str:
        """What a run to the end printed, or where it `fails` its message."""
        environment = {**self.environment, **environment}
        status, out, err = forked.run(name, list(arguments), environment, self.directory, cwd)
        assert (status != 0) == fails, f"exit status {status}\n{out}\n{err}"
        if fails:
            assert "Traceback" not in err, err
        return err if fails else out


@pytest.fixture(scope="session")
def scripts(tmp_path_factory) -> Scripts:
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # by the workers that divide the tests
    return Scripts(base, shared / "compiled")


@pytest.fixture(scope="session")
def codes(scripts) -> Path:
    """A VQ-VAE's run, trained once for all workers; tests that write into it take a copy."""
    workdir = Path(scripts.environment["JAX_COMPILATION_CACHE_DIR"]).parent / "codes"
    with open(workdir.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (workdir / "checkpoints" / "4").exists():
            scripts.run("train_vqvae", f"--workdir={workdir}", *VQVAE)
    return workdir
