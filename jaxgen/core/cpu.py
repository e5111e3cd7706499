"""Compiler options with which XLA's programs run faster on CPU; other platforms take none."""

import functools

import jax

OPTIONS = {
    # By default, matrix products and convolutions go to YNNPACK, which (in this release) does not parallelise products
    # shorter than about 8 ms, nor any forward convolution, and takes up to eight times as long for the gradient of a
    # convolution's kernel as the other library. Its reductions are faster.
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE",
    # A training step's temporary memory is fresh from the system each time, a quarter of a second per GB. This order
    # needs a third less of it.
    "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
    # Vectors of 512 bits, where the processor has them, gain 3% of the autoencoder's and of the U-Net's step (AMD EPYC,
    # processes in turn, medians of 17 steps). LLVM prefers 256.
    "xla_cpu_prefer_vector_width": "512",
}


def compiler_options(platform: str | None = None) -> dict[str, str] | None:
    """What to pass as `jax.jit(..., compiler_options=)` on CPU.

    Args:
        platform: of the devices that the program runs on; None for JAX's default.

    Returns:
        The options that this release of XLA knows, or None where the platform is not "cpu".
    """
    return dict(_known()) if (platform or jax.default_backend()) == "cpu" else None


@functools.cache
def _known() -> dict[str, str]:
    """OPTIONS without those that were renamed or dropped: all are of an experimental kind."""
    return {name: value for name, value in OPTIONS.items() if _is_known(name, value)}


def _is_known(name: str, value: str) -> bool:
    try:
        with jax.default_device(jax.devices("cpu")[0]):
            jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
