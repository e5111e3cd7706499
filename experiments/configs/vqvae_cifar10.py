"""VQ-VAE on CIFAR-10 (32x32 colour): 64 nine-bit codes for each image, the setting of the first paper's figure.

Data: TFDS `cifar10`.
Paper: van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning", 2017
(8x8 latents, K = 512, beta = .25, Adam 2e-4,
250,000 steps of 128).
Result and cost: not measured; made for one GPU.
"""

from experiments.configs.base import autoencoding, variant

NETWORK = {"channels": 128, "multipliers": (1, 2, 2), "num_res_blocks": 2}


def get_config(name=None):
    config = autoencoding(num_steps=100_000, log_every=100, evaluate_every=5000, checkpoint_every=5000)
    config.data.update({"name": "cifar10", "batch_size": 128, "flip": True})
    config.optimizer.learning_rate = 4e-4
    config.ema_decay = 0.9995
    config.dtype = "bfloat16"
    config.model = {
        "name": "vqvae",
        "latent_channels": 64,
        "encoder": NETWORK,
        "decoder": {**NETWORK, "num_res_blocks": 3},
        "quantizer": {"name": "vq", "num_codes": 512, "ema_decay": 0.99, "kmeans_iterations": 10, "revive_below": 0.05},
    }
    return variant(config, name, {
        "model.quantizer.num_codes": 32, "model.encoder.channels": 8, "model.decoder.channels": 8,
        "model.encoder.num_res_blocks": 1, "model.decoder.num_res_blocks": 1,
    })
