"""Autoregressive prior over the 256 codes of CelebA faces at 64x64, without conditions.

Tokenizer: a run of `vqgan_celeba64`, given as --config.tokenizer.
Paper: Esser, Rombach & Ommer, "Taming transformers for high-resolution image synthesis", 2021; a network for images
of this size.
Result and cost: not measured; made for one GPU.
"""

from experiments.configs.base import autoregressive_prior, variant


def get_config(name=None):
    config = autoregressive_prior(num_steps=200_000, log_every=100, evaluate_every=10_000, checkpoint_every=10_000)
    config.data.update({"batch_size": 128, "flip": True})
    config.conditions.name = "none"
    config.ema_decay = 0.9995
    config.optimizer.update({"learning_rate": 3e-4, "warmup_steps": 2000, "weight_decay": 0.05})
    config.dtype = "bfloat16"
    config.model = {
        "name": "token_prior", "kind": "autoregressive",
        "network": {"features": 512, "depth": 12, "heads": 8, "positions": "learned"},
    }
    return variant(config, name, {
        "model.network.features": 16, "model.network.depth": 1, "model.network.heads": 2,
    })
