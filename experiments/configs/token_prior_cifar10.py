"""MaskGIT's prior over the 64 codes of CIFAR-10, by class.

Tokenizer: a run of `vqgan_cifar10`, given as --config.tokenizer.
Paper: Chang et al., "MaskGIT: masked generative image transformer", 2022; a network for images of this size.
Result and cost: not measured; made for one GPU.
"""

from experiments.configs.base import prior, variant


def get_config(name=None):
    config = prior(num_steps=200_000, log_every=100, evaluate_every=10_000, checkpoint_every=10_000)
    config.data.update({"batch_size": 256, "flip": True})
    config.objective = "maskgit"
    config.ema_decay = 0.9995
    config.optimizer.update({"learning_rate": 3e-4, "warmup_steps": 2000, "weight_decay": 0.05})
    config.sampling.update({"solver": "maskgit", "steps": 12, "guidance": 2.0})
    config.dtype = "bfloat16"
    config.model = {
        "name": "token_prior",
        "network": {"features": 512, "depth": 12, "heads": 8, "positions": "learned"},
    }
    return variant(config, name, {
        "model.network.features": 16, "model.network.depth": 1, "model.network.heads": 2, "sampling.steps": 3,
    })
