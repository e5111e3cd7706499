"""The project's own files agree with each other, and importing one part loads no more than it needs."""

import configparser
import importlib
import subprocess
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("flax", "optax", "orbax", "grain", "tensorflow_datasets", "tensorflow", "torch")


def lines(text):
    return {line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")}


def test_requirements_are_those_of_setup_cfg():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    declared = lines(setup["options"]["install_requires"]) | lines(extras["experiments"]) | lines(extras["test"])
    assert lines((ROOT / "requirements.txt").read_text()) == declared


@pytest.mark.parametrize("package", ["conv", "quantize", "losses", "diffusion", "priors"])
def test_maths_loads_no_framework(package):
    code = f"import sys, jaxgen.{package}; print(*[m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.split() == []


@pytest.mark.parametrize("package", ["", ".conv", ".quantize", ".losses", ".diffusion", ".priors", ".models", ".data",
                                     ".metrics", ".train", ".interop"])
def test_what_a_package_offers_is_there_and_no_file_of_the_same_name(package):
    module = importlib.import_module(f"jaxgen{package}")
    offered = {name: getattr(module, name) for name in getattr(module, "__all__", ())}
    assert [name for name, value in offered.items() if isinstance(value, types.ModuleType)] == []


def test_the_check_for_frameworks_sees_one():
    code = f"import sys, jaxgen.models; print(*[m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "flax" in result.stdout.split()


def test_no_source_file_passes_300_lines():
    sources = [*ROOT.glob("jaxgen/**/*.py"), *ROOT.glob("experiments/**/*.py")]
    assert len(sources) > 20
    assert {str(p): n for p in sources if (n := len(p.read_text().splitlines())) > 300} == {}
