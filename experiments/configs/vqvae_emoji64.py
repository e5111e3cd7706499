"""VQ-VAE for compression of emoji at 64x64: six levels of codes for each 8x8 pixels, coarse to fine, at most .75 bits
per pixel and fewer once they are entropy-coded, which training counts.

Codes are chosen by their distance and by what they cost in bits (`rate_weight`); half of the images are trained with
fewer levels, so that files can leave out the fine ones. No norm and no attention, as images may have other sizes.

Data: built from the font (Debian's package fonts-noto-color-emoji).
Papers: van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning", 2017; Chou, Lookabaugh & Gray,
"Entropy-constrained vector quantization", 1989; Zeghidour et al., "SoundStream", 2021 (levels dropped).
Result: see the study of rate and distortion in experiments/README.md, after 2,500 steps, 15 minutes on one core.
"""

from experiments.configs.base import autoencoding, levels_for_files, variant

NETWORK = {"channels": 64, "multipliers": (1, 2), "num_res_blocks": 1, "norm": "none", "middle_attention": False,
           "patch_size": 4}


def get_config(name=None):
    config = autoencoding(num_steps=2500)
    config.data.update({"name": "noto_emoji", "image_size": 64, "batch_size": 32, "crop": 4, "flip": True})
    config.optimizer.learning_rate = 1e-3
    config.model = {
        "name": "vqvae",
        "latent_channels": 32,
        "encoder": NETWORK,
        "decoder": {**NETWORK, "num_res_blocks": 2},
        "quantizer": levels_for_files(),
    }
    return variant(config, name, {
        "model.quantizer.quantizer.num_codes": 16, "model.encoder.channels": 8, "model.decoder.channels": 8,
    })
