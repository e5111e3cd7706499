"""How a script starts: again, once, with an allocator that keeps its pages, and with programs of earlier starts."""

import os
import pwd
import subprocess
import sys
import types
from pathlib import Path

import jax
import pytest

from experiments.common import startup


@pytest.fixture
def started(monkeypatch, tmp_path):
    """The calls that start a script again, on a Linux that has what is needed."""
    calls = []
    (tmp_path / "libjemalloc.so.2").touch()
    script = types.SimpleNamespace(__spec__=types.SimpleNamespace(name="experiments.sample"))
    monkeypatch.setitem(sys.modules, "__main__", script)
    monkeypatch.setattr(startup, "LIBRARIES", (str(tmp_path),))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(startup.platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-X", "utf8", "-m", "experiments.sample", "--seed=1"])
    monkeypatch.setattr(sys, "argv", ["sample.py", "--seed=1"])
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.setattr(os, "execve", lambda *arguments: calls.append(arguments))
    return calls


def test_a_script_starts_again_with_its_arguments_and_the_allocator(started, tmp_path):
    startup.keep_memory()
    ((program, words, environment),) = started
    assert program == sys.executable and words[1:] == ["-X", "utf8", "-m", "experiments.sample", "--seed=1"]
    assert environment == {**os.environ, "LD_PRELOAD": str(tmp_path / "libjemalloc.so.2"),
                           "MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1"}


def test_the_best_allocator_is_taken_and_the_users_settings_stay(started, monkeypatch, tmp_path):
    monkeypatch.setenv("TCMALLOC_LARGE_ALLOC_REPORT_THRESHOLD", "5")
    (tmp_path / "libtcmalloc.so.4").touch()
    startup.keep_memory()
    assert started[0][2]["LD_PRELOAD"] == str(tmp_path / "libtcmalloc.so.4")
    assert started[0][2]["TCMALLOC_LARGE_ALLOC_REPORT_THRESHOLD"] == "5" and "MALLOC_CONF" not in started[0][2]


def run_by_its_file(word):
    file = Path(startup.__file__).parents[1] / word
    sys.modules["__main__"] = types.SimpleNamespace(__spec__=None, __file__=str(file))


def test_a_script_that_is_run_by_its_file_starts_again_too(started, monkeypatch):
    run_by_its_file("sample.py")
    monkeypatch.setattr(sys, "orig_argv", ["python", "sample.py", "--seed=1"])
    startup.keep_memory()
    assert started[0][1][1:] == ["sample.py", "--seed=1"]


@pytest.mark.parametrize("reason", ["started again", "refused by the user", "no glibc", "no Linux", "no allocator",
                                    "a test", "a notebook", "run by a notebook", "run by a debugger",
                                    "a file run by a debugger"])
def test_nothing_happens_where_it_would_not_help_or_no_script_runs(started, monkeypatch, reason):
    change = {
        "started again": lambda: monkeypatch.setenv("LD_PRELOAD", "/usr/lib/libjemalloc.so.2"),
        "refused by the user": lambda: monkeypatch.setenv("LD_PRELOAD", ""),
        "no glibc": lambda: monkeypatch.setattr(startup.platform, "libc_ver", lambda: ("", "")),
        "no Linux": lambda: monkeypatch.setattr(sys, "platform", "darwin"),
        "no allocator": lambda: monkeypatch.setattr(startup, "LIBRARIES", ("/nowhere",)),
        "a test": lambda: setattr(sys.modules["__main__"], "__spec__", types.SimpleNamespace(name="pytest.__main__")),
        "a notebook": lambda: setattr(sys.modules["__main__"], "__spec__", None),
        "run by a notebook": lambda: sys.orig_argv.__setitem__(slice(1, None), ["-m", "ipykernel", "-f", "k.json"]),
        "run by a debugger": lambda: sys.orig_argv.__setitem__(slice(1, 3), ["-m", "pdb"]),
        "a file run by a debugger": lambda: (sys.orig_argv.__setitem__(slice(1, 5), ["-m", "pdb", "sample.py"]),
                                             run_by_its_file("sample.py")),
    }
    change[reason]()
    startup.keep_memory()
    assert not started


def test_programs_are_kept_for_this_kind_of_processor_in_a_place_that_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path))
    here = startup.program_cache()
    assert here.parent == tmp_path / "programs"
    monkeypatch.setattr(startup, "_processor", lambda: "another")
    assert startup.program_cache().parent == here.parent and startup.program_cache() != here
    monkeypatch.delenv("JAXGEN_CACHE")
    assert startup.program_cache().parent == Path.home() / ".cache" / "jaxgen" / "programs"


def test_a_test_or_the_users_own_place_sets_nothing(started, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    startup.keep_programs()
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    sys.modules["__main__"].__spec__ = types.SimpleNamespace(name="pytest.__main__")
    startup.keep_programs()
    assert jax.config.jax_compilation_cache_dir is None


def test_without_a_home_directory_no_programs_are_kept(started, monkeypatch):
    def unknown(user):
        raise KeyError(f"getpwuid(): uid not found: {user}")

    for name in ("JAX_COMPILATION_CACHE_DIR", "JAXGEN_CACHE", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)  # as in a container whose user has no entry
    startup.keep_programs()
    assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.slow
def test_the_second_start_of_a_training_takes_its_programs_from_the_first(tmp_path):
    def start(name):
        words = ["-m", "experiments.train_vqvae", f"--workdir={tmp_path / name}", "--config=vqvae_mnist:smoke"]
        environment = {**os.environ, "JAXGEN_CACHE": str(tmp_path / "cache"), "JAX_LOG_COMPILES": "1"}
        done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr
        records = (tmp_path / name / "metrics.csv").read_text().splitlines()[1].split(",")[2:]
        return done.stderr.count("Persistent compilation cache hit"), records[:-1]

    (first, losses), (second, again) = start("first"), start("second")
    assert first < second and losses == again
