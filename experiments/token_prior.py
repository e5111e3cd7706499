"""Train a prior over the codes of a trained VQ-VAE, by class, by text or without: masked diffusion, MaskGIT or
autoregressive.

    python -m experiments.vqvae --workdir=runs/codes
    python -m experiments.token_prior --workdir=runs/prior --config.tokenizer=runs/codes
    python -m experiments.sample --workdir=runs/prior --classes=0,1,2
    python -m experiments.edit inpaint --workdir=runs/prior
    python -m experiments.token_prior --config=experiments/configs/token_prior_autoregressive_mnist.py \
        --workdir=runs/prior_ar --config.tokenizer=runs/codes

The data are those of the VQ-VAE's run. Its weights go into the prior's checkpoints, which are then complete. The same
command goes on with a run that was stopped.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from experiments import command_line
from experiments.conditions import CONDITIONS, check_condition_name, check_text, class_sizes, with_text
from experiments.first_stage import find_first_stage, take_data
from experiments.progress import make_evaluate
from experiments.runs import load_split
from experiments.token_sampling import TOKEN_SAMPLERS
from experiments.training import axis_name, describe_pictures, train_batches, train_model
from jaxgen import models, objectives, train
from jaxgen.core.errors import unknown_name

OBJECTIVES = {"diffusion": objectives.masked_prior_loss, "maskgit": objectives.maskgit_prior_loss}  # of masked priors


def train_token_prior(config: ConfigDict, workdir: str | Path) -> train.FitResult:
    """Trains from the configuration, or goes on where the run in `workdir` stopped."""
    check_condition_name(config.condition)

    # 1. The tokenizer, and the data it was trained on.
    name = config.get("objective", "diffusion")
    if name not in OBJECTIVES:
        raise unknown_name("config.objective", name, OBJECTIVES)
    first = find_first_stage("tokenizer", config.tokenizer, workdir, second="token_prior", kinds=("vqvae",),
                             source="experiments.vqvae or experiments.vqgan")
    tokenizer = first.variables if first.model_state is None else first.model_state
    take_data(config, first, "tokenizer")
    train_set, test_set = (load_split(config, config.data[f"{split}_split"]) for split in ("train", "test"))
    image_shape = train_set.image_shape

    # 2. The prior, as pure functions, and the objective made of them.
    encoder = models.build(**first.model)
    indices = jax.eval_shape(encoder.indices, tokenizer, jnp.zeros((1, *image_shape)))
    sizes = {"tokenizer": first.model, "shape": indices.shape[1:], **class_sizes(config.condition, train_set)}
    model = models.build(**config.model.to_dict(), **sizes, axis_name=axis_name(config))
    check_text(config.condition, model)
    train_set, test_set = (with_text(dataset, model.text_length) for dataset in (train_set, test_set))
    if model.kind == "autoregressive":
        objective = objectives.autoregressive_prior_loss
    else:
        objective = partial(OBJECTIVES[name], mask_id=model.mask_id)

    def loss_fn(params, state, batch, key, **options):
        tokens = jax.lax.stop_gradient(model.tokens(state, batch["image"]))
        return objective(
            params, state, {**batch, "tokens": tokens}, key, logits=model.logits,
            condition=CONDITIONS[config.condition], null=model.null,
            drop_condition=config.drop_condition, **options)

    # 3. What is measured and shown along the way.
    evaluate = make_evaluate(loss_fn, TOKEN_SAMPLERS[model.kind](model, image_shape, config.sampling), test_set)

    # 4. Training.
    return train_model(
        config, workdir, batches=train_batches(config, train_set), init=lambda key: model.init(key, image_shape),
        model_state=tokenizer, loss_fn=partial(loss_fn, axis_name=axis_name(config)), evaluate=evaluate,
        describe=describe_pictures(train_set, test_set),
        saved={"model": sizes, "image_shape": image_shape, "class_names": train_set.class_names},
    )


if __name__ == "__main__":
    CONFIG = command_line.define_config("experiments/configs/token_prior_mnist.py", needs="tokenizer")
    WORKDIR = command_line.define_workdir("The run's directory, new or of a run to go on with.")

    def main():
        command_line.start_processes(CONFIG.value)
        train_token_prior(CONFIG.value, WORKDIR.value)

    command_line.run(main)
