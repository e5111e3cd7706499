"""VQ-16 of LlamaGen on ImageNet at 256x256: 256 codes out of 16384 of 8 numbers and unit length for each image.

Data: TFDS `imagenet2012`, fetched by hand. Weights: LPIPS with VGG16.
Paper: Sun et al., "Autoregressive model beats diffusion: Llama for scalable image generation", 2024, section 3.1.
Images are cut at the centre and resized, where the published training cuts them at random; the average of weights,
optional there, is kept.
Published: reconstruction FID 2.19. Result and cost here: not measured.
"""

from experiments.configs import vqgan_imagenet_taming
from experiments.configs.base import variant


def get_config(name=None):
    config = vqgan_imagenet_taming.get_config()
    config.num_steps = 400_000
    config.reconstruction = "l2"
    config.data.batch_size = 128
    config.optimizer.update({"learning_rate": 1e-4, "b1": 0.9, "b2": 0.95, "clip_norm": 1.0})
    config.discriminator_optimizer.update(config.optimizer.to_dict())
    config.ema_decay = 0.9999
    config.model.latent_channels = 8
    config.dtype = "bfloat16"
    config.model.quantizer = {"name": "vq", "num_codes": 16_384, "metric": "cosine"}
    config.adversarial.update({"start": 20_000, "weight": 0.5, "adaptive": False})
    return variant(config, name, {
        "data.image_size": 64, "model.quantizer.num_codes": 32, "model.encoder.channels": 8,
        "model.decoder.channels": 8, "model.encoder.num_res_blocks": 1, "model.decoder.num_res_blocks": 1,
        "discriminator.channels": 8, "perceptual.name": "none", "adversarial.start": 1,
    })
