"""Train a diffusion model on images, unconditional, by class or by caption.

    python -m experiments.train_diffusion --workdir=runs/digits
    python -m experiments.train_diffusion --workdir=runs/emoji --config=diffusion_emoji32
    python -m experiments.sample --workdir=runs/digits --classes=0,1,2 --guidance=2

The same command goes on with a run that was stopped. The run's directory gets config.json, environment.json,
metrics.jsonl, metrics.csv, TensorBoard events, images/ and checkpoints/.
"""

from functools import partial

from ml_collections import ConfigDict

from experiments.common import command_line
from experiments.common.training import Recipe, axis_name, build_model, conditioned_data, conditions_of, load_data
from experiments.common.watching import watch_samples
from jaxgen import diffusion, objectives


def build(config: ConfigDict, workdir: str | None = None) -> Recipe:
    """The run that a configuration describes."""
    # 1. Data.
    train_set, test_set = load_data(config)

    # 2. The model, and what of the data is its condition.
    sizes = {"shape": train_set.example_shape, "conditions": conditions_of(config, train_set)}
    model = build_model(config, sizes)
    train_set, test_set = conditioned_data(model, train_set, test_set)

    # 3. The objective made of its methods.
    loss_fn = partial(
        objectives.diffusion_loss, denoise=model.denoise,
        draw_sigmas=diffusion.draw_noise_levels(model.schedule, **config.noise),
        weighting=diffusion.make_weighting(**config.weighting),
        conditions=objectives.Conditions(model.conditions.entries, model.null, config.drop_condition),
        entry=train_set.example,
    )

    # 4. Training; what is measured and shown along the way are a held-out loss and samples.
    return Recipe(model=model, sizes=sizes, train_set=train_set, test_set=test_set,
                  loss_fn=partial(loss_fn, axis_name=axis_name(config)),
                  watch=watch_samples(model, loss_fn, config.sampling, test_set))


if __name__ == "__main__":
    command_line.train(build, "diffusion_mnist", models=("diffusion",))
