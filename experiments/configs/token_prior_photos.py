"""Masked prior over the 384 codes of a 128x128 block of a photograph, for files: level by level, coarse to fine.

It learns masks as a file's order has them, and samples in that order; larger photographs are several blocks, each for
itself. `experiments.fit_codec` makes it whole numbers, `--probabilities=prior` codes with it.

Tokenizer: a run of `vqgan_photos`, given as --config.tokenizer.
Papers: Borsos et al., "SoundStorm: efficient parallel audio generation", 2023 (masks of one level, coarser ones known);
El-Nouby et al., "Image compression with product quantized masked image modeling", 2022.
Result: 313 bytes for the codes of a block, where the codes nearby take 347, after 3,000 steps, 21 minutes on one core.
"""

from experiments.configs.base import prior, variant


def get_config(name=None):
    config = prior(num_steps=3000)
    config.data.update({"batch_size": 16, "crop": 8, "flip": True})
    config.conditions.name = "none"
    config.objective = "coarse_to_fine"
    config.optimizer.learning_rate = 1e-3
    config.sampling.update({"solver": "confidence", "coarse_to_fine": True, "steps": 48})
    config.model = {
        "name": "token_prior",
        "network": {"features": 192, "depth": 4, "heads": 4, "positions": "learned"},
    }
    return variant(config, name, {
        "model.network.features": 16, "model.network.depth": 1, "model.network.heads": 2, "sampling.steps": 6,
    })
