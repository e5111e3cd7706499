"""Diffusion on the emoji of the Noto Color Emoji font at 32x32, from their names.

An encoder on the bytes of the name is trained with the network, which attends to it at both lower resolutions.
Data: built from the font (Debian's package fonts-noto-color-emoji).
Papers: Karras et al., 2022; attention to text as in Rombach et al., "High-resolution image synthesis with latent
diffusion models", 2022.
Result and cost: not measured.
"""

from experiments.configs.base import diffusing, variant


def get_config(name=None):
    config = diffusing(num_steps=20_000, evaluate_every=2000, checkpoint_every=2000)
    config.data.update({"name": "noto_emoji", "image_size": 32, "batch_size": 64})
    config.conditions = {"name": "text", "length": 80, "features": 128, "depth": 2, "heads": 4}
    config.optimizer.learning_rate = 5e-4
    config.ema_decay = 0.9995
    config.sampling.guidance = 3.0
    config.model = {
        "name": "diffusion",
        "kind": "edm",
        "sigma_data": 0.5,
        "network": {
            "name": "unet", "channels": (64, 128, 192), "layers": 1,
            "down": ("plain", "cross_attention", "cross_attention"), "middle": "cross_attention", "heads": 4,
            "norm_groups": 16, "scale_shift": True, "time_scale": 100.0, "patch_size": 2,
        },
    }
    return variant(config, name, {
        "model.network.channels": (8, 8, 8), "model.network.heads": 2, "conditions.features": 16,
        "conditions.depth": 1, "conditions.heads": 2, "sampling.steps": 3,
    })
