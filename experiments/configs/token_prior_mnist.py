"""Masked diffusion over the 49 codes of the MNIST VQ-VAE, by class.

Paper: Shi, Han, Wang, Doucet & Titsias, "Simplified and generalized masked diffusion for discrete data", 2024.
Result: a classifier of real images reads 99.6% of the samples as the class asked for, precision 0.84, recall 0.26,
6.19 bits per held-out token, after 1,000 steps, 5 minutes.
Sampling: guidance 1.5 and temperature 1 draw more kinds of samples; unlikely codes break strokes, and at temperature
0.8 fewer are drawn.
"""

from experiments.configs.base import prior, variant


def get_config(name=None):
    config = prior(num_steps=1000, evaluate_every=250, checkpoint_every=250)
    config.data.update({"batch_size": 64, "crop": 0})
    config.optimizer.learning_rate = 1e-3
    config.sampling.update({"guidance": 2.0, "temperature": 0.8})
    config.model = {
        "name": "token_prior",
        "network": {"features": 128, "depth": 4, "heads": 4, "positions": "learned"},
    }
    return variant(config, name, {
        "model.network.features": 16, "model.network.depth": 1, "model.network.heads": 2, "sampling.steps": 3,
    })
