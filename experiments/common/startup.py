"""What a script's process gets at its start: memory that it keeps between steps, and programs of earlier starts.

Both are for scripts; importing jaxgen changes nothing. In a program of your own:

- start it with `LD_PRELOAD=libtcmalloc_minimal.so.4` (Debian: libtcmalloc-minimal4) on Linux;
- `jax.config.update("jax_compilation_cache_dir", ...)`.

A training step frees its temporary memory. glibc gives large arrays back to the system, and the next step gets them
again page by page, each filled with zeros: 150,000 pages for a U-Net's. Other allocators keep them. The U-Net's step
of `python -m experiments.benchmark unet`, alternated in one run on 2 cores (AMD EPYC, AVX-512), medians of 9:

| memory of | step ms | system ms | page faults |
|---|---|---|---|
| glibc | 654 | 200 | 150,374 |
| jemalloc | 689 | 223 | 159,332 |
| jemalloc that keeps its pages | 563 | 16 | 20 |
| tcmalloc | 534 | 13 | 804 |

Huge pages (`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`) took 620 to 1,084 ms, from run to run, for glibc's 624 and 654: 480
faults, but where the system's memory lies in pieces it must be moved together first.
"""

import hashlib
import os
import platform
import sys
from pathlib import Path

from experiments.common import machine

TCMALLOC = {"TCMALLOC_RELEASE_RATE": "0",
            "TCMALLOC_LARGE_ALLOC_REPORT_THRESHOLD": str(1 << 60)}  # which would print a line for a large array
# Allocators that keep their pages, the best one first, and what they need for it.
ALLOCATORS = {
    "tcmalloc_minimal": TCMALLOC,
    "tcmalloc": TCMALLOC,
    "jemalloc": {"MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1"},
}
LIBRARIES = ("/usr/lib/*-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib", f"{sys.prefix}/lib")
# The programs of a VQ-VAE's training take 1 MB, a U-Net's 5.
CACHE_BYTES = 1 << 30
LEAST_SECONDS = 0.1


def keep_memory() -> None:
    """Starts the process again, once, with an allocator that keeps its pages, where the system has one.

    Linux with glibc only. A `LD_PRELOAD` that is set, if to nothing, is left as it is.
    """
    if sys.platform != "linux" or "LD_PRELOAD" in os.environ or not _is_script():
        return
    allocator = find_allocator()
    if allocator is None or platform.libc_ver()[0] != "glibc":
        return
    library, settings = allocator
    environment = {**settings, **os.environ, "LD_PRELOAD": str(library)}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def find_allocator() -> tuple[Path, dict[str, str]] | None:
    """(library, its environment) of the best of ALLOCATORS that is installed, or None."""
    for name, settings in ALLOCATORS.items():
        for pattern in LIBRARIES:
            found = sorted(Path("/").glob(f"{pattern.lstrip('/')}/lib{name}.so*"))
            if found:
                return found[0], settings
    return None


def keep_programs() -> None:
    """Has JAX keep compiled programs in `program_cache()` and take them from there, unless it is told another place."""
    if not _is_script() or os.environ.get("JAX_COMPILATION_CACHE_DIR") is not None:
        return
    try:
        directory = program_cache()
    except FileNotFoundError:  # the user has no home directory: programs are compiled again
        return
    import jax

    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)


def program_cache() -> Path:
    """`$JAXGEN_CACHE`/programs/<processor>, or the same in ~/.cache/jaxgen: a home may be shared by unlike machines.

    JAX's own key of a program holds the versions of JAX and its compiler and all their options.
    """
    from jaxgen.core.cache import cache_directory  # here, since a process that starts again shall not load it twice

    return cache_directory("programs", "compiled programs") / hashlib.sha256(_processor().encode()).hexdigest()[:12]


def _processor() -> str:
    """What programs for the CPU depend on: its instruction sets, or its name where the system does not tell them."""
    return " ".join(machine.instruction_sets()) or machine.name()


def _is_script() -> bool:
    """The interpreter was started with a script of `experiments`, by `-m` or by its file.

    Not so for tests, nor where another program runs the script in its own process, as notebooks and debuggers do: what
    they hold would be lost.
    """
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    words = sys.orig_argv[1:len(sys.orig_argv) - len(sys.argv) + 1]  # without the script's own
    if spec is not None:
        return spec.name.startswith("experiments.") and words[-2:] == ["-m", spec.name] and words.count("-m") == 1
    return (file is not None and words[-1:] == sys.argv[:1] and "-m" not in words
            and Path(file).resolve().parent == Path(__file__).resolve().parents[1])
