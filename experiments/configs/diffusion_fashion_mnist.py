"""Diffusion on Fashion-MNIST, by class, with the network of `diffusion_mnist`, a little narrower.

Data: Debian's package dataset-fashion-mnist, or TFDS.
Paper: Karras, Aittala, Aila & Laine, "Elucidating the design space of diffusion-based generative models", 2022.
Result and cost: not measured.
"""

from experiments.configs import diffusion_mnist


def get_config(name=None):
    config = diffusion_mnist.get_config(name)
    config.data.update({"name": "fashion_mnist", "crop": 0, "flip": True})
    if not name:
        config.model.network.channels = (48, 96)
        config.num_steps = 3000
    return config
