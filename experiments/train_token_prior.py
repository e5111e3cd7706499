"""Train a prior over the tokens of a trained tokenizer: masked diffusion, MaskGIT or autoregressive.

    python -m experiments.train_vqvae --workdir=runs/codes
    python -m experiments.train_token_prior --workdir=runs/prior --config.tokenizer=runs/codes
    python -m experiments.sample --workdir=runs/prior --classes=0,1,2
    python -m experiments.edit inpaint --workdir=runs/prior
    python -m experiments.train_token_prior --config=token_prior_autoregressive_mnist --workdir=runs/prior_ar \
        --config.tokenizer=runs/codes

The data are those of the tokenizer's run. Its weights go into the prior's checkpoints, which are then complete. The
same command goes on with a run that was stopped.
"""

from functools import partial

import jax
from ml_collections import ConfigDict

from experiments.common import command_line
from experiments.common.training import (
    Recipe,
    axis_name,
    build_model,
    conditioned_data,
    conditions_of,
    load_data,
    take_data,
)
from experiments.common.watching import watch_samples
from jaxgen import models, objectives, runs
from jaxgen.core.checks import choose
from jaxgen.core.types import Variables

# Of masked priors; an autoregressive one has one objective.
OBJECTIVES = {"diffusion": objectives.masked_prior_loss, "maskgit": objectives.maskgit_prior_loss,
              "coarse_to_fine": objectives.coarse_to_fine_prior_loss}


def build(config: ConfigDict, workdir: str | None = None) -> Recipe:
    """The run that a configuration describes."""
    name = config.get("objective", "diffusion")  # an autoregressive prior's configuration has none
    masked_objective = choose("config.objective", name, OBJECTIVES)

    # 1. The tokenizer, and the data it was trained on.
    first = runs.find_first_stage("tokenizer", config.tokenizer, workdir, able=models.Tokenizer,
                                  source="experiments.train_vqvae or experiments.train_vqgan")
    take_data(config, first, "tokenizer")
    train_set, test_set = load_data(config)

    # 2. The prior, and what of the data is its condition.
    shape = first.model.token_shape(train_set.example_shape)
    sizes = {"tokenizer": first.description, "shape": shape, "conditions": conditions_of(config, train_set)}
    model = build_model(config, sizes)
    train_set, test_set = conditioned_data(model, train_set, test_set)

    # 3. The objective made of its methods.
    if isinstance(model.model, models.MaskedTokens):
        objective = partial(masked_objective, mask_id=model.model.mask_id)
        if name == "coarse_to_fine":
            objective = partial(objective, levels=model.model.levels)
    else:
        objective = objectives.autoregressive_prior_loss
    conditions = objectives.Conditions(model.conditions.entries, model.null, config.drop_condition)

    def loss_fn(params, state, batch, key, **options):
        tokens = jax.lax.stop_gradient(model.to_tokens(Variables(params, state), batch[train_set.example]))
        return objective(params, state, {**batch, "tokens": tokens}, key, logits=model.model.logits,
                         conditions=conditions, **options)

    # 4. Training; what is measured and shown along the way are a held-out loss and samples.
    return Recipe(model=model, sizes=sizes, train_set=train_set, test_set=test_set,
                  state=first.variables if first.second_state is None else first.second_state,
                  loss_fn=partial(loss_fn, axis_name=axis_name(config)),
                  watch=watch_samples(model, loss_fn, config.sampling, test_set))


if __name__ == "__main__":
    command_line.train(build, "token_prior_mnist", models=("token_prior",))
