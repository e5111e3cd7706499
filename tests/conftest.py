"""Every test runs on eight virtual CPU devices, so that sharded and unsharded results can be compared.

Programs are compiled without LLVM's optimizations: most run once, and compiling them took a third to a half of a
test's time (measured: 37 s to 20 s for the autoencoder's tests, 77 s to 49 s for the quantizers' contract).
"""

import os

QUICK_COMPILATION = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8", QUICK_COMPILATION]
)
