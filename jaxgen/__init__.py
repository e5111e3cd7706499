"""VQ-VAE, VQGAN and diffusion models in JAX/Flax, as pure functions over explicit parameter pytrees.

Import the part that you need; this package itself imports nothing. Those marked need an extra of the installation,
such as `pip install 'jaxgen[models]'`, and say so where it is missing; `jaxgen[all]` has them all:

    jaxgen.quantize    vector quantizers
    jaxgen.diffusion   schedules, solvers, guidance, likelihood, editing; masked diffusion of tokens
    jaxgen.priors      autoregressive and masked sampling of tokens
    jaxgen.losses      reconstruction, perceptual and adversarial losses, whole-model objectives
    jaxgen.models      Linen networks, and models as tuples of pure functions (models)
    jaxgen.interop     weights in diffusers' format, and LPIPS's (models)
    jaxgen.metrics     PSNR, SSIM, LPIPS, codebook usage
    jaxgen.data        TFDS sources, Grain loading, device placement (data)
    jaxgen.train       state, steps, loop, sharding, checkpoints (train)
    jaxgen.checks      checks of arguments that every part shares
    jaxgen.extras      the extras and their packages
    jaxgen.mapped      mapped axes of devices: sums, positions, types
    jaxgen.cpu         compiler options for CPU
"""

__version__ = "0.1.0"
