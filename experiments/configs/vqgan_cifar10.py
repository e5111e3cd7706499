"""VQGAN on CIFAR-10: 64 ten-bit codes for each 32x32 picture.

Data: TFDS `cifar10`. Weights: LPIPS with VGG16.
Paper: Esser, Rombach & Ommer, "Taming transformers for high-resolution image synthesis", 2021; at the size of CIFAR-10
the discriminator's patches have 16 and not 70 pixels, with DiffAugment (Zhao et al., 2020) and LeCam (Tseng et al.,
2021).
Result and cost: not measured; made for one GPU.
"""

from experiments.configs.base import adversarial, variant

NETWORK = {"channels": 128, "multipliers": (1, 2, 2), "num_res_blocks": 2}


def get_config(name=None):
    config = adversarial(num_steps=100_000, log_every=100, evaluate_every=5000, checkpoint_every=5000)
    config.data.update({"name": "cifar10", "batch_size": 128, "flip": True})
    config.optimizer.update({"learning_rate": 2e-4, "b1": 0.5, "b2": 0.9, "schedule": "constant"})
    config.discriminator_optimizer.update(config.optimizer.to_dict())
    config.ema_decay = 0.9995
    config.model = {
        "name": "vqvae",
        "latent_channels": 64,
        "dtype": "bfloat16",
        "encoder": NETWORK,
        "decoder": {**NETWORK, "num_res_blocks": 3},
        "quantizer": {"name": "vq", "num_codes": 1024, "ema_decay": 0.99, "kmeans_iterations": 10,
                      "revive_below": 0.05},
    }
    config.discriminator = {"name": "patch", "channels": 64, "layers": 1, "dtype": "bfloat16"}
    config.adversarial.update({"start": 10_000, "ramp_steps": 5000, "lecam": 0.001,
                               "augment": ("color", "translation")})
    return variant(config, name, {
        "model.quantizer.num_codes": 32, "model.encoder.channels": 8, "model.decoder.channels": 8,
        "model.encoder.num_res_blocks": 1, "model.decoder.num_res_blocks": 1, "discriminator.channels": 8,
        "perceptual.name": "none", "adversarial.start": 1, "adversarial.ramp_steps": 1,
    })
