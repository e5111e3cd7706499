"""Diffusion on Fashion-MNIST, by class, with the network of `diffusion_mnist`, a little narrower.

Data: Debian's package dataset-fashion-mnist, or TFDS.
Paper: Karras, Aittala, Aila & Laine, "Elucidating the design space of diffusion-based generative models", 2022.
Result: a classifier of real images reads 79.4% of the samples as the class asked for, precision 0.75, recall 0.58,
5.61 bits per number, after 3,000 steps, 50 minutes.
"""

from experiments.configs import diffusion_mnist


def get_config(name=None):
    config = diffusion_mnist.get_config(name)
    config.data.update({"name": "fashion_mnist", "crop": 0, "flip": True})
    if not name:
        config.model.network.channels = (48, 96)
        config.num_steps = 3000
    return config
