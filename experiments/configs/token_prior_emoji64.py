"""Autoregressive prior over the 256 codes of emoji at 64x64, by Unicode block; larger than `token_prior_emoji32`.

Tokenizer: a run of `vqgan_emoji64`, given as --config.tokenizer.
Paper: Esser, Rombach & Ommer, "Taming transformers for high-resolution image synthesis", 2021.
Result and cost: not measured.
"""

from experiments.configs import token_prior_emoji32


def get_config(name=None):
    config = token_prior_emoji32.get_config(name)
    if not name:
        config.model.network.update({"features": 192, "depth": 6, "heads": 6})
    return config
