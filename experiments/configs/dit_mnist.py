"""A diffusion transformer on 5,000 real MNIST digits (the embedded default), by class, as a rectified flow.

Papers: Peebles & Xie, "Scalable diffusion models with transformers", 2023; Ma et al., "SiT", 2024; times drawn
logit-normal as in Esser et al., "Scaling rectified flow transformers", 2024. Patches of 4x4 pixels: 49 tokens.
Result and cost: not measured.
"""

from experiments.configs.base import diffusing, variant


def get_config(name=None):
    config = diffusing(num_steps=10_000, evaluate_every=2000, checkpoint_every=2000)
    config.data.update({"batch_size": 64, "crop": 2})
    config.optimizer.learning_rate = 1e-3
    config.ema_decay = 0.999
    config.noise = {"name": "logit_normal", "mean": 0.0, "std": 1.0}
    config.weighting = {"name": "uniform", "kind": "flow"}
    config.sampling.update({"noise_grid": "uniform", "steps": 24, "solver": "dpmpp_2m"})
    config.model = {
        "name": "diffusion",
        "kind": "flow",
        "schedule": {"name": "flow"},
        "network": {"name": "dit", "patch_size": 4, "features": 192, "depth": 6, "heads": 6, "time_scale": 1000.0},
    }
    return variant(config, name, {
        "model.network.features": 16, "model.network.depth": 1, "model.network.heads": 2, "sampling.steps": 3,
    })
