"""Time and memory of jaxgen's parts, compared with other libraries where they are installed.

    python -m experiments.benchmark quantize --codes 512 16384 --json quantize.json

All libraries run with the memory that the scripts have (`experiments/common/startup.py`), which gains for all.

A sub-command is one entry of COMMANDS and one module `experiments/benchmarks/<name>.py` with a docstring,
`add_arguments(parser)` and `run(args)`.
"""

from experiments.common.subcommands import run_subcommand

COMMANDS = {
    "attention": "attention forward and with gradients, compared with PyTorch's and with jax.nn's",
    "autoencoder": "training step of the VQ autoencoder, compared with diffusers' VQModel",
    "conv": "one convolution, forward and both gradients, compared with native JAX and PyTorch",
    "demo": "compilation and training step of the demo, compared with native convolutions",
    "prior": "MaskGIT's decoding of a few steps compared with autoregressive decoding, with a cache and without",
    "quantize": "training step, indices and peak memory of the quantizers",
    "roofline": "where a configuration's training step spends its time, and the least that the machine would need",
    "sampler": "the sampling loop compared with its network's evaluations and with diffusers' loop",
    "transformer": "training steps and forward passes of a DiT and of a causal transformer, compared with PyTorch's",
    "unet": "training step and forward pass of the U-Net, compared with diffusers' UNet2DModel",
}


def main(arguments: list[str] | None = None) -> None:
    run_subcommand("benchmark", __doc__, "experiments.benchmarks", COMMANDS, arguments)


if __name__ == "__main__":
    main()
