"""KL autoencoder on CelebA faces at 64x64, for latent diffusion: 16x16 latents of 4 numbers for each image.

Data: TFDS `celeb_a`. Weights: LPIPS with VGG16.
Paper: Rombach et al., "High-resolution image synthesis with latent diffusion models", 2022, section 3.1.
Result and cost: not measured; made for one GPU.
"""

from experiments.configs import vqgan_celeba64


def get_config(name=None):
    config = vqgan_celeba64.get_config(name)
    network = config.model.to_dict()
    config.model = {"name": "kl_autoencoder", "latent_channels": 4, "kl_weight": 1e-6,
                    "encoder": network["encoder"], "decoder": network["decoder"]}
    return config
