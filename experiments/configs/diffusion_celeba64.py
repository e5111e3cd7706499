"""Diffusion on CelebA faces at 64x64 (the centre 140x140 pixels, resized), without conditions.

Paper: Karras, Aittala, Aila & Laine, "Elucidating the design space of diffusion-based generative models", 2022: the
network and training of its 64x64 faces (DDPM++, 128 times (1, 2, 2, 2) channels, dropout 5%, learning rate 2e-4),
with one difference: residual sums are not divided by the root of two.
Data: TFDS `celeb_a`.
Result and cost: not measured; made for accelerators.
"""

from experiments.configs.base import diffusing, variant


def get_config(name=None):
    config = diffusing(num_steps=800_000, log_every=100, evaluate_every=20_000, checkpoint_every=20_000)
    config.data.update({"name": "celeb_a", "image_size": 64, "batch_size": 256, "flip": True})
    config.conditions.name = "none"
    config.optimizer.update({"learning_rate": 2e-4, "schedule": "constant", "warmup_steps": 40_000, "b2": 0.999})
    config.ema_decay = 0.9996
    config.sampling.update({"steps": 40, "guidance": 1.0})
    config.dtype = "bfloat16"
    config.model = {
        "name": "diffusion",
        "kind": "edm",
        "sigma_data": 0.5,
        "network": {
            "name": "unet", "channels": (128, 256, 256, 256), "layers": 4,
            "down": ("resnet", "resnet", "attention_resnet", "resnet"), "head_dim": 256, "dropout": 0.05,
            "norm_epsilon": 1e-6,
        },
    }
    return variant(config, name, {
        "model.network.channels": (8, 8, 8, 8), "model.network.layers": 1, "model.network.head_dim": 8,
        "sampling.steps": 3,
    })
