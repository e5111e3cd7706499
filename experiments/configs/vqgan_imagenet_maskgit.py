"""A tokenizer in the manner of MaskGIT's on ImageNet at 256x256: 256 codes out of 1024 for each image.

Data: TFDS `imagenet2012`, fetched by hand. Weights: LPIPS with VGG16.
Paper: Chang et al., "MaskGIT: masked generative image transformer", 2022, and the losses of its published
configuration: squared error, a tenth of the perceptual loss, the non-saturating loss with the fixed weight 0.1, 10
times R1 (`r1` is twice that, being halved), a discriminator in StyleGAN's manner. Other than there: residual blocks,
downsampling and the encoder's last convolution are VQGAN's, the codebook follows moving averages with revival in place
of a loss on the codes' entropy, the perceptual loss is LPIPS, R1 is taken at every 16th step, 16 times, and batch and
number of steps are ours.
Published: reconstruction FID 2.28. Result and cost here: not measured.
"""

from experiments.configs import vqgan_imagenet_taming
from experiments.configs.base import variant

NETWORK = {"channels": 128, "multipliers": (1, 1, 2, 2, 4), "num_res_blocks": 2, "middle_attention": False}


def get_config(name=None):
    config = vqgan_imagenet_taming.get_config()
    config.reconstruction = "l2"
    config.data.batch_size = 256
    config.optimizer.update({"learning_rate": 1e-4, "b1": 0.0, "b2": 0.99})
    config.discriminator_optimizer.update(config.optimizer.to_dict())
    config.ema_decay = 0.999
    config.model.update({"encoder": NETWORK, "decoder": NETWORK})
    config.model.quantizer = {"name": "vq", "num_codes": 1024, "ema_decay": 0.99, "revive_below": 0.05}
    config.discriminator = {"name": "style", "channels": 64, "multipliers": (1, 2, 4, 8, 8, 8, 8)}
    config.perceptual.weight = 0.1
    config.adversarial.update({"loss": "non_saturating", "adaptive": False, "start": 0, "weight": 0.1, "r1": 20.0})
    return variant(config, name, {
        "data.image_size": 64, "model.quantizer.num_codes": 32, "model.encoder.channels": 8,
        "model.decoder.channels": 8, "model.encoder.num_res_blocks": 1, "model.decoder.num_res_blocks": 1,
        "discriminator.channels": 8, "perceptual.name": "none", "discriminator.multipliers": (1, 2, 4, 4, 4),
    })
