"""VQGAN on the emoji of the Noto Color Emoji font at 64x64: 256 nine-bit codes for each image.

Data: built from the font (Debian's package fonts-noto-color-emoji). Weights: LPIPS with VGG16.
Paper: Esser, Rombach & Ommer, "Taming transformers for high-resolution image synthesis", 2021.
Result and cost: not measured.
"""

from experiments.configs import vqgan_emoji32


def get_config(name=None):
    config = vqgan_emoji32.get_config(name)
    config.data.image_size = 64
    config.data.crop = 4
    config.discriminator.layers = 3
    return config
