"""VQGAN on CIFAR-10: 64 ten-bit codes for each 32x32 image.

Data: TFDS `cifar10`. Weights: LPIPS with VGG16.
Paper: Esser, Rombach & Ommer, "Taming transformers for high-resolution image synthesis", 2021; at the size of CIFAR-10
the discriminator's patches have 16 and not 70 pixels, with DiffAugment (Zhao et al., 2020) and LeCam (Tseng et al.,
2021).
Result and cost: not measured; made for one GPU.
"""

from experiments.configs import vqvae_cifar10
from experiments.configs.base import adversarial, variant


def get_config(name=None):
    config = adversarial()
    autoencoder = vqvae_cifar10.get_config().to_dict()
    config.update({key: autoencoder[key] for key in (
        "data", "num_steps", "log_every", "evaluate_every", "checkpoint_every", "ema_decay", "dtype", "model")})
    config.model.quantizer.num_codes = 1024
    config.optimizer.update({"learning_rate": 2e-4, "b1": 0.5, "b2": 0.9, "schedule": "constant"})
    config.discriminator_optimizer.update(config.optimizer.to_dict())
    config.discriminator = {"name": "patch", "channels": 64, "layers": 1, "norm": "group"}
    config.adversarial.update({"start": 10_000, "ramp_steps": 5000, "lecam": 0.001,
                               "augment": ("color", "translation")})
    return variant(config, name, {
        "model.quantizer.num_codes": 32, "model.encoder.channels": 8, "model.decoder.channels": 8,
        "model.encoder.num_res_blocks": 1, "model.decoder.num_res_blocks": 1, "discriminator.channels": 8,
        "perceptual.name": "none", "adversarial.start": 1, "adversarial.ramp_steps": 1,
    })
