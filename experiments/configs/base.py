"""What the configurations share. Each file stays a plain list of values; this is their common part."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxgen.core.errors import unknown_name

ROBUST = {  # adversarial training of an autoencoder: of images perturbed against it, which give the clean ones
    "epsilon": 0.0,  # the largest change of a pixel, of [-1, 1]; 0 for none
    "steps": 1,  # of gradient ascent
    "target": "latents",  # what changes the most; or "reconstruction"
}


def training(**changes: Any) -> ConfigDict:
    """The values of a run that are not the model's: seed, data, optimizer, intervals, devices."""
    config = ConfigDict({
        "seed": 0,
        "data": {
            "name": "mnist_5k",
            "train_split": "train",
            "test_split": "test",
            "image_size": 0,  # 0: as the set has it
            "batch_size": 32,
            "flip": False,
            "crop": 0,  # shifts by up to so many pixels
            # Of the set, where it takes them; skip_unreadable leaves out the damaged files of an image_folder.
            "options": {"folder": placeholder(str), "font": placeholder(str), "skip_unreadable": placeholder(bool)},
        },
        "optimizer": {
            "name": "adamw", "learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 100, "b1": 0.9, "b2": 0.95,
            "weight_decay": 0.0, "clip_norm": 1.0,
        },
        "num_steps": 1000,
        "dtype": placeholder(str),  # "bfloat16": what all networks compute in; parameters stay float32
        "ema_decay": 0.998,
        "accumulate": 1,
        "log_every": 50,
        "evaluate_every": 500,
        "checkpoint_every": 500,
        "keep_checkpoints": 2,
        "logging": {"tensorboard": True, "wandb_project": placeholder(str)},  # besides metrics.jsonl and metrics.csv
        "parallel": {
            "mode": "jit",  # or "pmap"
            "fsdp": 1,
            "multihost": False,  # True: the processes of a TPU pod or a cluster, which tells each its place
            "coordinator": placeholder(str),  # elsewhere HOST:PORT of process 0, how many there are,
            "process_count": placeholder(int), "process_index": placeholder(int),  # and which one this is
        },
    })
    config.update(changes)
    return config


def autoencoding(**changes: Any) -> ConfigDict:
    """`training`, and how a reconstruction is compared with its image: "l1", "l2" or "huber"."""
    config = training(**changes)
    config.reconstruction = "l2"
    # In place of the model's: "residual(vq(512, ema_decay=0.99), depth=2)", or your own, "my_module.ternary(4)".
    config.quantizer = placeholder(str)
    config.robust = ROBUST
    return config


def levels_for_files() -> dict[str, Any]:
    """A residual quantizer for compression: codes are chosen by what they cost too, files may leave out fine levels.

    Chou, Lookabaugh & Gray, "Entropy-constrained vector quantization", 1989; Zeghidour et al., "SoundStream", 2021.
    """
    codes = {"name": "vq", "num_codes": 256, "ema_decay": 0.99, "kmeans_iterations": 5, "revive_below": 0.01,
             "rate_weight": 0.02}
    return {"name": "residual", "depth": 6, "dropout": 0.5, "quantizer": codes}


def adversarial(**changes: Any) -> ConfigDict:
    """`autoencoding` with a perceptual loss and a discriminator: a VQGAN's training."""
    config = autoencoding(**changes)
    config.reconstruction = "l1"
    config.perceptual = {
        "name": "lpips",  # or "classifier", or "none"
        "net": "vgg",  # or "alex"
        "file": placeholder(str),  # LPIPS's weights, None for the cached ones; or the classifier's run
        "weight": 1.0,
    }
    config.discriminator = {"name": "patch", "channels": 64, "layers": 3, "norm": "group"}
    # Its schedule is as long as the other one and counts the discriminator's own updates, of which there are
    # num_steps - start: a decay stops before its end.
    config.discriminator_optimizer = config.optimizer.copy_and_resolve_references()
    config.adversarial = {
        "loss": "hinge",  # of generator and discriminator; see jaxgen.losses.GAN_LOSSES
        "weight": 0.8,
        "adaptive": True,  # the weight times the ratio of gradients in the decoder's last layer
        "start": 1000,  # the first step of the discriminator and of its term in the generator's loss
        "ramp_steps": 0,  # over which that term rises
        "augment": (),  # of "color", "translation", "cutout"
        "r1": 0.0, "r1_every": 16, "gradient_penalty": 0.0, "lecam": 0.0,  # weights; 0 leaves a penalty out
    }
    return config


def diffusing(**changes: Any) -> ConfigDict:
    """`training` of a diffusion model in EDM's manner, and how it is sampled.

    Karras et al., "Elucidating the design space of diffusion-based generative models", 2022.
    """
    config = training(**changes)
    config.conditions = {"name": "classes"}  # or "none", or "text" with the length and the sizes of its encoder
    config.drop_condition = 0.1
    config.noise = {"name": "log_normal", "mean": -1.2, "std": 1.2}
    config.weighting = {"name": "edm", "sigma_data": 0.5}
    config.sampling = {  # these may change on the command line of any run
        "solver": "heun", "steps": 18, "noise_grid": "karras", "sigma_min": 0.002, "sigma_max": 80.0, "guidance": 1.5,
        "guidance_low": 0.0, "guidance_high": 1e6,  # guided only at noise levels between these two
    }
    return config


def latent(**changes: Any) -> ConfigDict:
    """`diffusing` in the latents of a trained autoencoder, which are scaled to a std of 1."""
    config = diffusing(**changes)
    config.autoencoder = ""  # the directory of its run, or the name of a published checkpoint
    config.data.name = ""  # its data are this run's
    config.noise = {"name": "log_normal", "mean": -0.5, "std": 1.2}
    config.weighting.sigma_data = 1.0
    return config


def prior(**changes: Any) -> ConfigDict:
    """`training` of a prior over the codes of a trained VQ-VAE, and how a masked one is sampled."""
    config = training(**changes)
    config.tokenizer = ""  # the directory of the VQ-VAE's run, or the name of a published checkpoint
    config.data.name = ""  # its data are the prior's
    config.conditions = {"name": "classes"}  # or "none", or "text" with the length and the sizes of its encoder
    config.drop_condition = 0.1
    config.objective = "diffusion"  # a bound on the likelihood; or "maskgit", or of several levels "coarse_to_fine"
    config.sampling = {  # these may change on the command line of any run
        "solver": "ancestral", "steps": 24, "guidance": 1.5, "temperature": 1.0, "remask": 0.0,
        "choice_temperature": 4.5,  # of "maskgit" and "confidence"
    }
    return config


def autoregressive_prior(**changes: Any) -> ConfigDict:
    """`prior`, and how an autoregressive one is sampled."""
    config = prior(**changes)
    del config.objective
    config.sampling = {"guidance": 1.5, "temperature": 1.0, "top_k": 0, "top_p": 1.0}  # top_k 0: of all tokens
    return config


def variant(config: ConfigDict, name: str | None, smoke: Mapping[str, Any]) -> ConfigDict:
    """The configuration as it is, or as the variant after the colon changes it.

    Args:
        config: of the full run.
        name: what stands after the colon; empty or None for the full run.
        smoke: the changes of `:smoke`, which runs every part in seconds; keys with dots for nesting.
    """
    if not name:
        return config
    if name != "smoke":
        raise unknown_name("variant of the configuration", name, ["smoke"])
    config.update_from_flattened_dict({
        "num_steps": 4, "log_every": 1, "evaluate_every": 4, "checkpoint_every": 2, "optimizer.warmup_steps": 1,
        "data.batch_size": 8, **smoke,
    })
    return config
