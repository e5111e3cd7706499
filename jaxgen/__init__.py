"""VQ-VAE, VQGAN and diffusion models in JAX/Flax, as pure functions over explicit parameter pytrees.

Import the part that you need; this package itself imports nothing. Those marked need an extra of the installation,
such as `pip install 'jaxgen[models]'`, and say so where it is missing; `jaxgen[all]` has them all. Each part
imports only parts above it in this list:

    jaxgen.core        types, checks, keys, mapped axes of devices, compiler options for CPU
    jaxgen.conv        the convolution, fast on CPU
    jaxgen.attention   scaled dot-product attention
    jaxgen.quantize    vector quantizers
    jaxgen.losses      reconstruction, perceptual and adversarial losses, one number per example
    jaxgen.diffusion   schedules, solvers, guidance, likelihood, editing
    jaxgen.tokens      masked and autoregressive models of tokens: corruption, decoding, losses
    jaxgen.metrics     PSNR, SSIM, LPIPS, codebook usage
    jaxgen.nn          Linen networks (models)
    jaxgen.models      the families: pure functions over explicit variables, and `build` (models)
    jaxgen.objectives  whole-model training objectives
    jaxgen.data        TFDS sources, Grain loading, device placement (data)
    jaxgen.interop     weights of diffusers, taming-transformers and LPIPS (models)
    jaxgen.show        image grids, logs (train)
    jaxgen.train       state, steps, loop, optimizers, sharding (train)
    jaxgen.generate    samples and edits of a model
    jaxgen.evaluate    evaluators: (variables, dataset) -> {name: number}
    jaxgen.runs        a run's directory and checkpoints, and reading a run back (train)
"""

__version__ = "0.1.0"
