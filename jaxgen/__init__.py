"""VQ-VAE, VQGAN and diffusion models in JAX/Flax, as pure functions over explicit parameter pytrees.

Import the part that you need; this package itself imports nothing:

    jaxgen.quantize    vector quantizers
    jaxgen.losses      reconstruction losses and whole-model objectives
    jaxgen.models      Linen networks
    jaxgen.metrics     PSNR, SSIM, codebook usage
    jaxgen.data        TFDS sources, Grain loading, device placement
    jaxgen.train       state, steps, loop, sharding, checkpoints
"""

__version__ = "0.1.0"
