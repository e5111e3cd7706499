"""Diffusion over the 8x8 latents of emoji at 32x32, by name.

An encoder on the bytes of the name is trained with the network, whose blocks attend to it.
Autoencoder: a run of `vqvae_emoji32`, given as --config.autoencoder.
Papers: Rombach et al., "High-resolution image synthesis with latent diffusion models", 2022; the transformer of Peebles
& Xie, "Scalable diffusion models with transformers", 2023.
Result: after 5,000 steps, 38 minutes.
"""

from experiments.configs import latent_diffusion_mnist


def get_config(name=None):
    config = latent_diffusion_mnist.get_config(name)
    config.conditions = {"name": "text", "length": 48, "features": 96, "depth": 2, "heads": 4}
    config.data.flip = False  # names tell arrows, clocks and flags from their mirror images
    config.sampling.guidance = 3.0
    if name:
        config.conditions.update({"features": 16, "depth": 1, "heads": 2})
    else:
        config.data.batch_size = 32
        config.update({"num_steps": 5000, "evaluate_every": 1000, "checkpoint_every": 1000})
    return config
