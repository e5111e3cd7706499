"""The project's own files agree with each other, and importing one part loads no more than it needs."""

import ast
import configparser
import graphlib
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
MATHS = ("core.checks", "core.keys", "conv", "attention", "quantize", "losses", "metrics", "diffusion", "tokens",
         "codec")
# The rooms from the ground floor up: each imports those before it and itself only.
ROOMS = ("core", "conv", "attention", "quantize", "losses", "diffusion", "tokens", "codec", "metrics", "nn", "models",
         "objectives", "data", "interop", "show", "train", "generate", "evaluate", "runs")
FAMILIES = {"VQVAE", "VQVAE2", "KLAutoencoder", "DiffusionModel", "LatentDiffusion", "TokenPrior", "Classifier",
            "MaskedModel", "AutoregressiveModel", "ByteTokenizer"}
# Functions of more than 60 lines of code, and why each is one piece.
LONG = {
    "jaxgen/nn/unet.py:__call__": "a network is read from top to bottom, and its submodules are named in place",
    "jaxgen/data/pipeline.py:batches": "a check with a message for each argument, and a closure over all of them",
}
# What asks for a package that is not there, and the extra that has it.
LACKING = [
    ("import jaxgen.models", "flax", "models"), ("import jaxgen.interop", "flax", "models"),
    ("import jaxgen.train", "optax", "train"), ("import jaxgen.runs", "orbax", "train"),
    ("import jaxgen.show", "PIL", "train"),
    ("import jaxgen.codec, numpy; jaxgen.codec.Writer(numpy.zeros(1))", "constriction", "codec"),
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
    names = ("codec", "models", "data", "train", "experiments", "test")
    declared = required.union(*(lines(extras[name]) for name in names))
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


@pytest.mark.parametrize("name", ["codec", "models", "data", "train"])
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


@pytest.mark.parametrize("package", ["", ".conv", ".attention", ".quantize", ".losses", ".diffusion", ".tokens",
                                     ".codec", ".nn", ".models", ".objectives", ".data", ".metrics", ".train", ".show",
                                     ".runs", ".interop"])
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


def sources(*patterns):
    """{path from the root: its syntax tree}."""
    files = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    assert files
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in files}


def imported(tree):
    """Names of modules that a file imports, inside functions too: "jaxgen.data.spec" and "jaxgen.data.spec.Spec"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_each_room_imports_only_those_below_it():
    found = {path.name for path in (ROOT / "jaxgen").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert found == set(ROOMS)
    wrong = {}
    for path, tree in sources("jaxgen/*/**/*.py").items():
        below = ROOMS[: ROOMS.index(path.split("/")[1]) + 1]
        rooms = {name.split(".")[1] for name in imported(tree) if name.startswith("jaxgen.")}
        if bad := (rooms - set(below)) | {name for name in imported(tree) if name.split(".")[0] == "experiments"}:
            wrong[path] = sorted(bad)
    assert wrong == {}


def test_no_file_imports_itself_through_others():
    modules = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): tree
               for path, tree in sources("jaxgen/**/*.py", "experiments/**/*.py").items()}
    graph = {}
    for module, tree in modules.items():
        names = {name if name in modules else name.rpartition(".")[0] for name in imported(tree)}
        graph[module] = names & set(modules)
    list(graphlib.TopologicalSorter(graph).static_order())


def classes_asked_for(tree):
    """(line, name) of the classes that `isinstance` and `issubclass` ask for."""
    for node in ast.walk(tree):
        called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None
        if called in ("isinstance", "issubclass"):
            for part in ast.walk(node.args[1]):
                name = part.attr if isinstance(part, ast.Attribute) else getattr(part, "id", None)
                if name:
                    yield node.lineno, name


def test_no_room_asks_which_family_a_model_is_of():
    rooms = [f"jaxgen/{room}/**/*.py" for room in ("generate", "evaluate", "interop", "runs")]
    asked = {path: wrong for path, tree in sources(*rooms, "experiments/**/*.py").items()
             if (wrong := [(line, name) for line, name in classes_asked_for(tree) if name in FAMILIES])}
    assert asked == {}


@pytest.mark.parametrize("code", ["isinstance(m, models.VQVAE)", "isinstance(m, (Other, TokenPrior))",
                                  "isinstance(m, Other | models.Classifier)"])
def test_the_check_for_families_sees_one(code):
    assert FAMILIES & {name for _, name in classes_asked_for(ast.parse(code))}


@pytest.mark.parametrize("part", ROOMS[: ROOMS.index("nn")])
def test_each_part_of_the_maths_imports_by_itself_without_a_framework(part):
    blocked = (*HEAVY, "safetensors", "PIL", "chex")
    assert run(f"import sys; sys.modules |= dict.fromkeys({blocked}); import jaxgen.{part}") == []


def length(function):
    """Lines of code, without the documentation."""
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    return function.end_lineno - function.lineno + 1 - documented * (first.end_lineno - first.lineno + 1)


def test_no_function_passes_60_lines():
    long = {f"{path}:{node.name}" for path, tree in sources("jaxgen/**/*.py", "experiments/**/*.py").items()
            for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and length(node) > 60}
    assert long == set(LONG)
