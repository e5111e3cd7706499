"""VQGAN on CelebA at 64x64: 256 ten-bit codes for each image.

Data: TFDS `celeb_a`. Weights: LPIPS with VGG16.
Paper: Esser, Rombach & Ommer, "Taming transformers for high-resolution image synthesis", 2021; with R1 (Mescheder,
Geiger & Nowozin, 2018) in StyleGAN2's lazy form.
Result and cost: not measured; made for one GPU.
"""

from experiments.configs import vqvae_celeba64
from experiments.configs.base import adversarial, variant


def get_config(name=None):
    config = adversarial(num_steps=200_000, log_every=100, evaluate_every=10_000, checkpoint_every=10_000)
    autoencoder = vqvae_celeba64.get_config().to_dict()
    config.update({key: autoencoder[key] for key in ("data", "ema_decay", "dtype", "model")})
    config.optimizer.update({"learning_rate": 2e-4, "b1": 0.5, "b2": 0.9, "schedule": "constant"})
    config.discriminator_optimizer.update(config.optimizer.to_dict())
    config.discriminator = {"name": "patch", "channels": 64, "layers": 2, "norm": "group"}
    config.adversarial.update({"start": 20_000, "ramp_steps": 5000, "r1": 0.1})
    return variant(config, name, {
        "model.quantizer.num_codes": 32, "model.encoder.channels": 8, "model.decoder.channels": 8,
        "model.encoder.num_res_blocks": 1, "model.decoder.num_res_blocks": 1, "discriminator.channels": 8,
        "perceptual.name": "none", "adversarial.start": 1, "adversarial.ramp_steps": 1,
    })
