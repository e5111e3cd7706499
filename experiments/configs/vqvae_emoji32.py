"""VQ-VAE on the emoji of the Noto Color Emoji font at 32x32: 64 nine-bit codes for each image.

Data: built from the font (Debian's package fonts-noto-color-emoji).
Paper: van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning", 2017.
Result: PSNR 23.7 dB, SSIM 0.826, 100% of the codes in use, perplexity 360, after 2,000 steps, 39 minutes.
"""

from experiments.configs.base import autoencoding, variant

NETWORK = {"channels": 48, "multipliers": (1, 2), "num_res_blocks": 1, "norm_groups": 8, "patch_size": 2}


def get_config(name=None):
    config = autoencoding(num_steps=2000)
    config.data.update({"name": "noto_emoji", "image_size": 32, "crop": 2, "flip": True})
    config.optimizer.learning_rate = 2e-3
    config.model = {
        "name": "vqvae",
        "latent_channels": 8,
        "encoder": NETWORK,
        "decoder": NETWORK,
        "quantizer": {"name": "vq", "num_codes": 512, "ema_decay": 0.99, "kmeans_iterations": 5, "revive_below": 0.05},
    }
    return variant(config, name, {
        "model.quantizer.num_codes": 32, "model.encoder.channels": 8, "model.decoder.channels": 8,
    })
