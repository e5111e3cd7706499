"""Every test runs on eight virtual CPU devices, so that sharded and unsharded results can be compared.

Programs are compiled without LLVM's optimizations, by XLA's older emitters of fusions and in one part each: most run
once, and compiling them takes most of a test's time. Of 276 tests of quantizers, losses and transformers, in CPU time:
106 s with the newer emitters, 66 s with the older ones (a program 62 and 25 ms; 22 ms in one part).

Garbage is looked for after 50,000 new objects, not 700, since all that JAX has traced and imported is looked through:
3% of the CPU time of 95 tests of tokens and objectives, 10% of tracing and lowering only, in the same memory.
"""

import gc
import os

QUICK_COMPILATION = ("--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
                     "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1")
GARBAGE = (50_000, 5, 5)

gc.set_threshold(*GARBAGE)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8", QUICK_COMPILATION]
)

LONG = ("tests/experiments", "tests/runs", "tests/test_doctests.py", "tests/test_readme.py")


def pytest_collection_modifyitems(items):
    """Files of few and long tests first: the workers end with short ones, and none waits long for the other."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))
