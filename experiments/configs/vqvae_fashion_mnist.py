"""VQ-VAE on Fashion-MNIST (60,000 images of clothes, 28x28 grey): 49 nine-bit codes for each image.

Data: Debian's package dataset-fashion-mnist, or TFDS where it has been prepared.
Paper: van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning", 2017.
Result: PSNR 25.1 dB, SSIM 0.877, 100% of the codes in use, perplexity 289, after 3,000 steps, 9 minutes.
"""

from experiments.configs import vqvae_mnist


def get_config(name=None):
    config = vqvae_mnist.get_config(name)
    config.data.name = "fashion_mnist"
    config.data.flip = True
    config.data.crop = 0
    if not name:
        config.update({"num_steps": 3000, "evaluate_every": 500})
    return config
