"""Masked diffusion over the 49 codes of Fashion-MNIST, by class, with the network of `token_prior_mnist`.

Tokenizer: a run of `vqgan_fashion_mnist` or `vqvae_fashion_mnist`, given as --config.tokenizer.
Paper: Shi, Han, Wang, Doucet & Titsias, "Simplified and generalized masked diffusion for discrete data", 2024.
Result and cost: not measured.
"""

from experiments.configs import token_prior_mnist


def get_config(name=None):
    config = token_prior_mnist.get_config(name)
    config.data.flip = True
    if not name:
        config.update({"num_steps": 2500, "evaluate_every": 500, "checkpoint_every": 500})
    return config
