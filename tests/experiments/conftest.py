"""Runs of the real scripts, each in its own process as a user starts it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import QUICK_COMPILATION

ROOT = Path(__file__).parents[2]


class Scripts:
    """Starts `python -m experiments.NAME`; compiled programs are shared between the processes of one test session."""

    def __init__(self, cache: Path):
        self.environment = {
            **os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK_COMPILATION,
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1", "TF_CPP_MIN_LOG_LEVEL": "3",
        }

    def start(self, name: str, *arguments: str, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", f"experiments.{name}", *arguments], cwd=ROOT,
            env={**self.environment, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )

    def run(self, name: str, *arguments: str, fails: bool = False, **environment: str) -> str:
        process = self.start(name, *arguments, **environment)
        out, err = process.communicate(timeout=280)
        assert (process.returncode != 0) == fails, f"exit status {process.returncode}\n{out}\n{err}"
        if fails:
            assert "Traceback" not in err, err
        return err if fails else out


@pytest.fixture(scope="session")
def scripts(tmp_path_factory) -> Scripts:
    return Scripts(tmp_path_factory.mktemp("compiled"))
