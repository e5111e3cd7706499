"""VQGAN for compression on photographs: six levels of codes for each 16x16 pixels, coarse to fine, at most .19 bits
per pixel and fewer once they are entropy-coded, which training counts.

Codes are chosen by their distance and by what they cost in bits (`rate_weight`); half of the images are trained with
fewer levels, so that files can leave out the fine ones. No norm and no attention: a pixel depends on those nearby, in
crops as in whole photographs.

Data: crops of 128x128 out of 24 photographs (Debian's packages lomiri-wallpapers-16.04, mate-backgrounds and
plasma-workspace-wallpapers). Weights: LPIPS with AlexNet, which takes a third of the time of a step with VGG16.
Papers: Esser, Rombach & Ommer, "Taming transformers for high-resolution image synthesis", 2021; Chou, Lookabaugh &
Gray, "Entropy-constrained vector quantization", 1989; Zeghidour et al., "SoundStream", 2021 (levels dropped).
Result: see the study of rate and distortion in experiments/README.md, after 14,000 steps, 104 minutes on one core.
"""

from experiments.configs.base import adversarial, levels_for_files, variant

NETWORK = {"channels": 64, "multipliers": (1, 2, 3), "num_res_blocks": 1, "norm": "none", "middle_attention": False,
           "patch_size": 4}


def get_config(name=None):
    config = adversarial(num_steps=14_000)
    config.data.update({"name": "debian_photos", "image_size": 128, "batch_size": 4, "crop": 8, "flip": True})
    config.optimizer.learning_rate = 5e-4
    config.model = {
        "name": "vqvae",
        "latent_channels": 32,
        "encoder": NETWORK,
        "decoder": {**NETWORK, "num_res_blocks": 2},
        "quantizer": levels_for_files(),
    }
    config.perceptual.net = "alex"
    config.discriminator = {"name": "patch", "channels": 32, "layers": 3, "norm": "group"}
    config.discriminator_optimizer = {**config.optimizer.to_dict(), "learning_rate": 4e-4, "b1": 0.5, "b2": 0.9}
    config.adversarial.update({"start": 10_000, "ramp_steps": 500, "weight": 0.1, "lecam": 0.01})
    return variant(config, name, {
        "data.batch_size": 2, "model.quantizer.quantizer.num_codes": 8, "model.encoder.channels": 8,
        "model.decoder.channels": 8, "discriminator.channels": 8, "perceptual.name": "none", "adversarial.start": 1,
        "adversarial.ramp_steps": 1, "discriminator_optimizer.warmup_steps": 1,
    })
