"""What a script's process gets at its start: memory that it keeps between steps, and programs of earlier starts.

Both are for scripts; importing jaxgen changes nothing. In a program of your own:

- start it with `GLIBC_TUNABLES=glibc.malloc.hugetlb=1` on Linux (the C library reads it before anything else);
- `jax.config.update("jax_compilation_cache_dir", ...)`.
"""

import hashlib
import os
import platform
import sys
from pathlib import Path

TUNABLE = "glibc.malloc.hugetlb"
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
# The programs of a VQ-VAE's training take 1 MB, a U-Net's 5.
CACHE_BYTES = 1 << 30
LEAST_SECONDS = 0.1


def keep_memory() -> None:
    """Starts the process again, once, with huge pages for its large arrays, where the C library has them.

    A training step frees its temporary memory, and the next one gets it back from the system page by page: 150,000
    pages of 4 KB for a U-Net's. With pages of 2 MB it is 700.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if TUNABLE in tunables or not _has_huge_pages() or not _is_script():
        return
    chosen = ":".join(filter(None, [tunables, f"{TUNABLE}=1"]))
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "GLIBC_TUNABLES": chosen})


def keep_programs() -> None:
    """Has JAX keep compiled programs in `program_cache()` and take them from there, unless it is told another place."""
    if not _is_script() or os.environ.get("JAX_COMPILATION_CACHE_DIR") is not None:
        return
    try:
        directory = program_cache()
    except RuntimeError:  # the user has no home directory: programs are compiled again
        return
    import jax

    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)


def program_cache() -> Path:
    """`$JAXGEN_CACHE`/programs/<processor>, or the same in ~/.cache/jaxgen: a home may be shared by unlike machines.

    JAX's own key of a program holds the versions of JAX and its compiler and all their options.
    """
    chosen = os.environ.get("JAXGEN_CACHE")
    root = Path(os.path.expanduser(chosen)) if chosen else Path.home() / ".cache" / "jaxgen"
    return root / "programs" / hashlib.sha256(_processor().encode()).hexdigest()[:12]


def _processor() -> str:
    """What programs for the CPU depend on: its instruction sets."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.machine()} {platform.processor()}"


def _has_huge_pages() -> bool:
    """glibc 2.35 or later, on a Linux that gives huge pages to who asks for them."""
    if sys.platform != "linux":
        return False
    library, version = platform.libc_ver()
    if library != "glibc" or tuple(int(n) for n in version.split(".")[:2]) < (2, 35):
        return False
    return HUGE_PAGES.exists() and "[never]" not in HUGE_PAGES.read_text(encoding="utf-8")


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
