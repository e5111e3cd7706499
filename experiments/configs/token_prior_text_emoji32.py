"""Autoregressive prior over the 64 codes of emoji at 32x32, by name.

An encoder on the bytes of the name is trained with the network, whose blocks attend to it.
Tokenizer: a run of `vqgan_emoji32` or `vqvae_emoji32`, given as --config.tokenizer.
Papers: Esser, Rombach & Ommer, "Taming transformers for high-resolution image synthesis", 2021; text as in Ramesh et
al., "Zero-shot text-to-image generation", 2021.
Result and cost: not measured; made for one GPU. After 1,000 steps on 2 CPU cores a name gives the kind of image (a
face, a flag, a sign), but not yet the image.
"""

from experiments.configs import token_prior_emoji32


def get_config(name=None):
    config = token_prior_emoji32.get_config(name)
    config.conditions = {"name": "text", "length": 80, "features": 128, "depth": 2, "heads": 4}
    config.data.flip = False  # captions tell arrows, clocks and flags from their mirror images
    config.sampling.guidance = 2.0
    if name:
        config.conditions.update({"features": 16, "depth": 1, "heads": 2})
    else:
        config.model.network.update({"features": 192, "depth": 6, "heads": 6})
        config.update({"num_steps": 20_000, "evaluate_every": 2000, "checkpoint_every": 2000})
    return config
