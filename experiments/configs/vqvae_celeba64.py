"""VQ-VAE on CelebA faces at 64x64 (the centre 140x140 pixels, resized): 256 ten-bit codes for each image.

Data: TFDS `celeb_a`.
Paper: van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning", 2017;
network of Esser, Rombach & Ommer, "Taming Transformers for High-Resolution
Image Synthesis", 2021.
Result and cost: not measured; made for one GPU.
"""

from experiments.configs.base import autoencoding, variant

NETWORK = {"channels": 128, "multipliers": (1, 1, 2), "num_res_blocks": 2}


def get_config(name=None):
    config = autoencoding(num_steps=200_000, log_every=100, evaluate_every=10_000, checkpoint_every=10_000)
    config.data.update({"name": "celeb_a", "image_size": 64, "batch_size": 64, "flip": True})
    config.optimizer.learning_rate = 4e-4
    config.ema_decay = 0.9995
    config.dtype = "bfloat16"
    config.model = {
        "name": "vqvae",
        "latent_channels": 64,
        "encoder": NETWORK,
        "decoder": {**NETWORK, "num_res_blocks": 3},
        "quantizer": {"name": "vq", "num_codes": 1024, "ema_decay": 0.99, "kmeans_iterations": 10,
                      "revive_below": 0.05},
    }
    return variant(config, name, {
        "model.quantizer.num_codes": 32, "model.encoder.channels": 8, "model.decoder.channels": 8,
        "model.encoder.num_res_blocks": 1, "model.decoder.num_res_blocks": 1,
    })
