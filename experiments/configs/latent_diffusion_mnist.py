"""Diffusion over the 7x7 latents of the KL autoencoder of MNIST, by class: a transformer on 49 tokens.

Papers: Rombach, Blattmann, Lorenz, Esser & Ommer, "High-resolution image synthesis with latent diffusion models", 2022;
the transformer of Peebles & Xie, "Scalable diffusion models with transformers", 2023; the denoiser of Karras et al.,
"Elucidating the design space of diffusion-based generative models", 2022, for data of std 1.
Result: a classifier of real images reads 98.8% of the samples as the class asked for, precision 0.84, recall 0.51,
after 2,000 steps, 7 minutes.
"""

from experiments.configs.base import latent, variant


def get_config(name=None):
    config = latent(num_steps=2000, evaluate_every=500, checkpoint_every=500)
    config.data.update({"batch_size": 64, "crop": 0})
    config.optimizer.learning_rate = 1e-3
    config.ema_decay = 0.999
    config.sampling.guidance = 2.0
    config.model = {
        "name": "latent_diffusion",
        "kind": "edm",
        "sigma_data": 1.0,
        "network": {"name": "dit", "patch_size": 1, "features": 128, "depth": 4, "heads": 4, "time_scale": 100.0},
    }
    return variant(config, name, {
        "model.network.features": 16, "model.network.depth": 1, "model.network.heads": 2, "sampling.steps": 3,
    })
