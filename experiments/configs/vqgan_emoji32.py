"""VQGAN on the emoji of the Noto Color Emoji font at 32x32: codes and steps of vqvae_emoji32.

The network is wider, the loss another one.

Data: built from the font (Debian's package fonts-noto-color-emoji). Weights: LPIPS with VGG16.
Paper: Esser, Rombach & Ommer, "Taming transformers for high-resolution image synthesis", 2021; with DiffAugment
(Zhao et al., 2020) and LeCam (Tseng et al., 2021), since the set is small.
Result: PSNR 22.2 dB, SSIM 0.793, 100% of the codes in use, perplexity 368, after 2,000 steps, 21 minutes.
"""

from experiments.configs import vqvae_emoji32
from experiments.configs.base import adversarial, variant


def get_config(name=None):
    config = adversarial()
    autoencoder = vqvae_emoji32.get_config().to_dict()
    config.update({key: autoencoder[key] for key in ("data", "optimizer", "num_steps", "model")})
    for part in ("encoder", "decoder"):
        config.model[part].channels = 64
    config.discriminator = {"name": "patch", "channels": 32, "layers": 2, "norm": "group"}
    config.discriminator_optimizer = {**config.optimizer.to_dict(), "learning_rate": 4e-4, "b1": 0.5, "b2": 0.9}
    config.adversarial.update({"start": 1000, "ramp_steps": 500, "weight": 0.1, "lecam": 0.01,
                               "augment": ("color", "translation")})
    return variant(config, name, {
        "model.quantizer.num_codes": 32, "model.encoder.channels": 8, "model.decoder.channels": 8,
        "discriminator.channels": 8, "perceptual.name": "none", "adversarial.start": 1, "adversarial.ramp_steps": 1,
        "discriminator_optimizer.warmup_steps": 1,
    })
