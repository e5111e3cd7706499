"""Latent diffusion on CelebA-HQ faces at 256x256, without conditions, over the 64x64x3 latents of a VQ-VAE of factor 4.

Paper: Rombach, Blattmann, Lorenz, Esser & Ommer, "High-resolution image synthesis with latent diffusion models", 2022:
the U-Net (274,056,163 parameters), noise, batch and learning rate of its LDM-4 on CelebA-HQ; `jaxgen.interop.load_unet`
reads the published weights of that network. Three differences: latents are scaled to a std of 1, where the paper
leaves those of VQ models as they are; gradients are clipped to the norm 1; and samples take DPM-Solver++ with 50 steps
in place of DDIM with 200 or 500.
Data: those of the autoencoder's run, for example TFDS `celeb_a_hq/256` (30,000 faces; its page says how to get them);
the paper's autoencoder has 128 times (1, 2, 4) channels and 8192 codes of dimension 3.
Result and cost: not measured; made for accelerators.
"""

from experiments.configs.base import latent, variant


def get_config(name=None):
    config = latent(num_steps=410_000, log_every=100, evaluate_every=10_000, checkpoint_every=10_000)
    config.data.update({"batch_size": 48, "flip": True})
    config.conditions.name = "none"
    config.optimizer.update({"learning_rate": 9.6e-5, "schedule": "constant", "warmup_steps": 0, "b2": 0.999,
                             "weight_decay": 0.01})
    config.ema_decay = 0.9999
    config.noise = {"name": "uniform"}
    config.weighting = {"name": "uniform", "kind": "eps"}
    config.sampling.update({"solver": "dpmpp_2m", "steps": 50, "noise_grid": "trailing", "guidance": 1.0})
    config.dtype = "bfloat16"
    config.model = {
        "name": "latent_diffusion",
        "kind": "eps",
        "schedule": {"name": "scaled_linear", "steps": 1000, "beta_start": 0.0015, "beta_end": 0.0195},
        "network": {
            "name": "unet", "channels": (224, 448, 672, 896), "layers": 2,
            "down": ("plain", "attention", "attention", "attention"), "head_dim": 32, "norm_groups": 32,
        },
    }
    return variant(config, name, {
        "model.network.channels": (8, 8, 8, 8), "model.network.layers": 1, "model.network.head_dim": 8,
        "sampling.steps": 3,
    })
