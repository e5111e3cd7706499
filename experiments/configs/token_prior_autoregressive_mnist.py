"""Autoregressive prior over the 49 codes of the MNIST VQ-VAE, by class: each code given those before it.

Papers: Razavi, van den Oord & Vinyals, "Generating diverse high-fidelity images with VQ-VAE-2", 2019; by a transformer:
Esser, Rombach & Ommer, "Taming transformers for high-resolution image synthesis", 2021.
Result: a classifier of real images reads 99.0% of the samples as the class asked for, precision 0.90, recall 0.59,
5.21 bits per held-out token, after 1,000 steps, 5 minutes.
"""

from experiments.configs.base import autoregressive_prior, variant


def get_config(name=None):
    config = autoregressive_prior(num_steps=1000, evaluate_every=250, checkpoint_every=250)
    config.data.update({"batch_size": 32, "crop": 0})
    config.optimizer.learning_rate = 1e-3
    config.sampling.update({"guidance": 2.0, "temperature": 0.9})
    config.model = {
        "name": "token_prior", "kind": "autoregressive",
        "network": {"features": 128, "depth": 4, "heads": 4, "positions": "learned"},
    }
    return variant(config, name, {
        "model.network.features": 16, "model.network.depth": 1, "model.network.heads": 2,
    })
