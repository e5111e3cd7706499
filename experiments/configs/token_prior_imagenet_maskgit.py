"""MaskGIT's prior on ImageNet at 256x256, by class, over the 256 codes of its tokenizer.

Tokenizer: a run of `vqgan_imagenet_maskgit`, given as --config.tokenizer.
Paper: Chang et al., "MaskGIT: masked generative image transformer", 2022, section 4: 24 blocks of 768 features with 8
heads, label smoothing 0.1, Adam (0.9, 0.96), batches of 256 for 300 epochs; of its published configuration the
learning rate, weight decay and the temperature 4.5 of the choice. Other than there: classes act by modulation
(adaLN-Zero) where the paper has a token for the class, the norm comes before each layer, there is no dropout, the loss
is a mean over each sequence's masks before that over the batch, gradients are clipped to the norm 1, and weights are
averaged. The warm-up is ours.
Published: FID 6.18 in 8 steps. Result and cost here: not measured; made for accelerators.
"""

from experiments.configs.base import prior, variant


def get_config(name=None):
    config = prior(num_steps=1_500_000, log_every=100, evaluate_every=20_000, checkpoint_every=10_000)
    config.data.update({"batch_size": 256, "flip": True})
    config.objective = "maskgit"
    config.drop_condition = 0.0
    config.ema_decay = 0.9999
    config.optimizer.update({"learning_rate": 1e-4, "b1": 0.9, "b2": 0.96, "weight_decay": 0.045,
                             "schedule": "constant", "warmup_steps": 5000})
    config.sampling.update({"solver": "maskgit", "steps": 8, "guidance": 1.0})
    config.dtype = "bfloat16"
    config.model = {
        "name": "token_prior",
        "network": {"features": 768, "depth": 24, "heads": 8, "positions": "learned"},
    }
    return variant(config, name, {
        "model.network.features": 16, "model.network.depth": 1, "model.network.heads": 2, "sampling.steps": 3,
    })
