"""Two-level VQ-VAE-2 on the emoji of the Noto Color Emoji font at 64x64: 64 top and 256 bottom nine-bit codes.

Data: built from the font (Debian's package fonts-noto-color-emoji).
Paper: Razavi, van den Oord & Vinyals, "Generating Diverse High-Fidelity Images with VQ-VAE-2", 2019.
Result and cost: not measured.
"""

from experiments.configs.base import autoencoding, variant

NETWORK = {"channels": 32, "num_res_blocks": 1, "norm_groups": 8, "middle_attention": False}
QUANTIZER = {"name": "vq", "num_codes": 512, "ema_decay": 0.99, "kmeans_iterations": 5, "revive_below": 0.05}


def get_config(name=None):
    config = autoencoding(num_steps=3000)
    config.data.update({"name": "noto_emoji", "image_size": 64, "batch_size": 16, "crop": 3, "flip": True})
    config.optimizer.learning_rate = 1e-3
    config.model = {
        "name": "vqvae2",
        "latent_channels": 8,
        "bottom_encoder": {**NETWORK, "multipliers": (1, 2), "patch_size": 2, "latent_channels": 64},
        "top_encoder": {**NETWORK, "multipliers": (2, 2), "middle_attention": True},
        "top_decoder": {**NETWORK, "multipliers": (2, 2)},
        "decoder": {**NETWORK, "multipliers": (1, 2), "patch_size": 2},
        "top_quantizer": QUANTIZER,
        "bottom_quantizer": QUANTIZER,
    }
    return variant(config, name, {
        "model.top_quantizer.num_codes": 32, "model.bottom_quantizer.num_codes": 32,
        **{f"model.{network}.channels": 8 for network in ("bottom_encoder", "top_encoder", "top_decoder", "decoder")},
    })
