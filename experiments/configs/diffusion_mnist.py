"""Diffusion on 5,000 real MNIST digits (the embedded default), by class, in EDM's manner.

Paper: Karras, Aittala, Aila & Laine, "Elucidating the design space of diffusion-based generative models", 2022;
classifier-free guidance of Ho & Salimans, 2021. The network works on 2x2 pixels at a time: the costly full resolution
goes, which is what makes it trainable on a CPU.
Result: a classifier of real images reads 97.4% of the samples as the class asked for, precision 0.80, recall 0.80,
2.77 bits per number, after 8,000 steps, 96 minutes.
"""

from experiments.configs.base import diffusing, variant


def get_config(name=None):
    config = diffusing(num_steps=8000, evaluate_every=500, checkpoint_every=500)
    config.data.update({"batch_size": 64, "crop": 2})
    config.optimizer.learning_rate = 1e-3
    config.ema_decay = 0.999
    config.sampling.guidance = 2.0
    config.model = {
        "name": "diffusion",
        "kind": "edm",
        "sigma_data": 0.5,
        "network": {
            "name": "unet", "channels": (64, 96), "layers": 1, "down": ("plain", "attention"), "head_dim": 32,
            "norm_groups": 8, "scale_shift": True, "time_scale": 100.0, "patch_size": 2,
        },
    }
    return variant(config, name, {
        "model.network.channels": (8, 8), "model.network.layers": 1, "model.network.head_dim": 8, "sampling.steps": 3,
    })
