"""MaskGIT's prior over the 64 codes of emoji at 32x32, without conditions.

Tokenizer: a run of `vqgan_emoji32` or `vqvae_emoji32`, given as --config.tokenizer.
Paper: Chang et al., "MaskGIT: masked generative image transformer", 2022.
Result: diverse and clean pictures of people, hearts and shapes, but few that one could name.
Cost: 16 minutes on 2 CPU cores beside other work.
"""

from experiments.configs.base import prior, variant


def get_config(name=None):
    config = prior(num_steps=2000, evaluate_every=1000, checkpoint_every=500)
    config.data.update({"batch_size": 32, "flip": True, "crop": 2})
    config.condition = "none"
    config.objective = "maskgit"
    config.optimizer.learning_rate = 1e-3
    config.sampling.update({"solver": "maskgit", "steps": 12, "temperature": 0.9})
    config.model = {
        "name": "token_prior",
        "network": {"features": 192, "depth": 6, "heads": 6, "positions": "learned"},
    }
    return variant(config, name, {
        "model.network.features": 16, "model.network.depth": 1, "model.network.heads": 2, "sampling.steps": 3,
    })
