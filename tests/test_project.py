"""The project's own files agree with each other, and importing one part loads no more than it needs."""

import configparser
import importlib
import importlib.metadata
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("flax", "optax", "orbax", "grain", "tensorflow_datasets", "tensorflow", "torch")
MATHS = ("core.checks", "core.keys", "conv", "quantize", "losses", "metrics", "diffusion", "tokens")
# What asks for a package that is not there, and the extra that has it.
LACKING = [
    ("import jaxgen.models", "flax", "models"), ("import jaxgen.interop", "flax", "models"),
    ("import jaxgen.train", "optax", "train"), ("import jaxgen.runs", "orbax", "train"),
    ("import jaxgen.show", "PIL", "train"),
    ("import jaxgen.data as d; d.load('mnist_5k', 'train')", "tensorflow_datasets", "data"),
    ("import jaxgen.data as d; d.load('mnist', 'train')", "tensorflow_datasets", "data"),
    ("import jaxgen.data as d, numpy as n; d.batches(d.Dataset.from_arrays(n.zeros((2, 2, 2, 1), n.uint8)), "
     "batch_size=1)", "grain", "data"),
]


def run(code):
    """The lines that a fresh interpreter prints."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return result.stdout.splitlines()


def lines(text):
    return {line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")}


def extras_and_requirements():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return setup["options.extras_require"], lines(setup["options"]["install_requires"])


def test_requirements_are_those_of_setup_cfg():
    extras, required = extras_and_requirements()
    declared = required.union(*(lines(extras[name]) for name in ("models", "data", "train", "experiments", "test")))
    own = {line for line in declared if line.startswith("jaxgen[")}  # an extra that takes in others
    assert lines((ROOT / "requirements.txt").read_text()) == declared - own


def test_the_library_requires_no_more_than_the_maths_imports():
    assert {re.match(r"[\w-]+", line)[0] for line in extras_and_requirements()[1]} == {"jax", "jaxtyping"}


def test_maths_loads_no_framework_and_neither_it_nor_data_needs_one_to_be_there():
    loaded = f"print(*[m for m in {HEAVY} if m in sys.modules])"
    assert run(f"import sys, {', '.join(f'jaxgen.{part}' for part in MATHS)}; {loaded}") == [""]
    blocked = (*HEAVY, "safetensors", "PIL", "chex")
    assert run(f"import sys; sys.modules |= dict.fromkeys({blocked}); import jaxgen.data, "
               f"{', '.join(f'jaxgen.{part}' for part in MATHS)}") == []


def test_a_part_without_its_packages_names_the_extra_to_install():
    code = f"""
import sys, jax
before = dict(sys.modules)
for use, package, _ in {LACKING}:
    sys.modules[package] = None
    try:
        exec(use)
        print("no error")
    except ImportError as error:
        print(error)
    sys.modules.clear()
    sys.modules.update(before)
"""
    assert run(code) == [f"this part of jaxgen needs {package}, which is not installed: pip install 'jaxgen[{extra}]'"
                         for _, package, extra in LACKING]


@pytest.mark.parametrize("name", ["models", "data", "train"])
def test_the_packages_of_an_extra_are_those_of_setup_cfg(name):
    modules = importlib.import_module("jaxgen.core.extras").EXTRAS[name]
    distributions = importlib.metadata.packages_distributions()
    provided = {found.lower() for module in modules for found in distributions[module]}
    required = {re.match(r"[\w-]+", line)[0] for line in lines(extras_and_requirements()[0][name])}
    assert required <= provided and len(required) == len(modules)


def test_another_missing_package_is_not_taken_for_an_extras():
    extra = importlib.import_module("jaxgen.core.extras").extra
    with pytest.raises(ModuleNotFoundError, match="No module named 'not_there'"), extra("models"):
        importlib.import_module("not_there")


@pytest.mark.parametrize("package", ["", ".conv", ".quantize", ".losses", ".diffusion", ".tokens", ".nn", ".models",
                                     ".objectives", ".data", ".metrics", ".train", ".show", ".runs", ".interop"])
def test_what_a_package_offers_is_there_and_no_file_of_the_same_name(package):
    module = importlib.import_module(f"jaxgen{package}")
    offered = {name: getattr(module, name) for name in getattr(module, "__all__", ())}
    assert [name for name, value in offered.items() if isinstance(value, types.ModuleType)] == []


def test_the_check_for_frameworks_sees_one():
    assert "flax" in run(f"import sys, jaxgen.models; print(*[m for m in {HEAVY} if m in sys.modules])")[0].split()


def test_no_source_file_passes_300_lines():
    sources = [*ROOT.glob("jaxgen/**/*.py"), *ROOT.glob("experiments/**/*.py")]
    assert len(sources) > 20
    assert {str(p): n for p in sources if (n := len(p.read_text().splitlines())) > 300} == {}
