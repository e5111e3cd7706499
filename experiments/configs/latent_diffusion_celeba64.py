"""Latent diffusion on CelebA faces at 64x64, without conditions, over the 16x16x4 latents of a KL autoencoder.

Autoencoder: a run of `kl_celeba64`, given as --config.autoencoder.
Papers: Rombach, Blattmann, Lorenz, Esser & Ommer, "High-resolution image synthesis with latent diffusion models", 2022;
the denoiser of Karras et al., "Elucidating the design space of diffusion-based generative models", 2022, for data of
std 1.
Result and cost: not measured; made for one GPU.
"""

from experiments.configs.base import latent, variant


def get_config(name=None):
    config = latent(num_steps=200_000, log_every=100, evaluate_every=10_000, checkpoint_every=10_000)
    config.data.update({"batch_size": 128, "flip": True})
    config.conditions.name = "none"
    config.optimizer.update({"learning_rate": 2e-4, "warmup_steps": 2000})
    config.ema_decay = 0.9995
    config.sampling.guidance = 1.0
    config.dtype = "bfloat16"
    config.model = {
        "name": "latent_diffusion",
        "kind": "edm",
        "sigma_data": 1.0,
        "network": {
            "name": "unet", "channels": (128, 256, 256), "layers": 2, "down": ("plain", "attention", "attention"),
            "heads": 4, "norm_groups": 32, "scale_shift": True, "time_scale": 100.0, "dropout": 0.1,
        },
    }
    return variant(config, name, {
        "model.network.channels": (8, 8, 8), "model.network.layers": 1, "model.network.heads": 2,
        "model.network.norm_groups": 4, "sampling.steps": 3,
    })
