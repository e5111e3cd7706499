"""Train a diffusion model on pictures, unconditional, by class or by caption.

    python -m experiments.diffusion --workdir=runs/digits
    python -m experiments.diffusion --workdir=runs/emoji --config=experiments/configs/diffusion_emoji32.py
    python -m experiments.sample --workdir=runs/digits --classes=0,1,2 --guidance=2

The same command goes on with a run that was stopped. The run's directory gets config.json, environment.json,
metrics.jsonl, TensorBoard events, images/ and checkpoints/.
"""

from functools import partial
from pathlib import Path

import jax.numpy as jnp
from ml_collections import ConfigDict

from experiments import command_line
from experiments.conditions import CONDITIONS, check_condition_name, check_text, class_sizes, with_text
from experiments.progress import make_evaluate
from experiments.runs import load_split
from experiments.sampling import DiffusionSampler
from experiments.training import axis_name, describe_pictures, train_batches, train_model
from jaxgen import diffusion, models, objectives, train
from jaxgen.core.errors import unknown_name

WEIGHTINGS = {"edm": diffusion.edm_weighting, "min_snr": diffusion.min_snr, "p2": diffusion.p2,
              "sigmoid": diffusion.sigmoid_weighting, "uniform": diffusion.uniform}
TIMES = {"uniform": diffusion.uniform_times, "stratified": diffusion.stratified_times,
         "logit_normal": diffusion.logit_normal_times}


def noise_levels(schedule: diffusion.Schedule | None, name: str, **options):
    """`(key, count) -> [count]` noise levels: "log_normal", or the ratios of the schedule at drawn times."""
    if name == "log_normal":
        return partial(diffusion.log_normal_sigmas, **options)
    if name not in TIMES:
        raise unknown_name("config.noise.name", name, ["log_normal", *TIMES])
    if schedule is None:
        raise ValueError(f"config.noise.name={name!r} draws times and needs config.model.schedule: use 'log_normal'")

    def draw(key, count):
        # The draw of exactly 0 would be a level without noise, where the loss of eps is infinite.
        return jnp.maximum(schedule.ratio(TIMES[name](key, count, end=schedule.end, **options)), 1e-4)

    return draw


def make_weighting(name: str, **options) -> diffusion.Weighting:
    """The loss's weight by name, for example `make_weighting("min_snr", gamma=5)`."""
    if name not in WEIGHTINGS:
        raise unknown_name("config.weighting.name", name, WEIGHTINGS)
    return WEIGHTINGS[name](**options)


def train_diffusion(config: ConfigDict, workdir: str | Path) -> train.FitResult:
    """Trains from the configuration, or goes on where the run in `workdir` stopped."""
    check_condition_name(config.condition)
    axis = axis_name(config)

    # 1. Data, and what of it is the condition.
    train_set, test_set = (load_split(config, config.data[f"{split}_split"]) for split in ("train", "test"))
    shape = train_set.image_shape
    sizes = {"image_channels": shape[-1], **class_sizes(config.condition, train_set)}

    # 2. The model, as pure functions, and the objective made of them.
    model = models.build(**config.model.to_dict(), **sizes, axis_name=axis)
    check_text(config.condition, model)
    train_set, test_set = (with_text(dataset, model.text_length) for dataset in (train_set, test_set))
    loss_fn = partial(
        objectives.diffusion_loss, denoise=model.denoise, draw_sigmas=noise_levels(model.schedule, **config.noise),
        weighting=make_weighting(**config.weighting), condition=CONDITIONS[config.condition], null=model.null,
        drop_condition=config.drop_condition,
    )

    # 3. What is measured and shown along the way.
    sampler = DiffusionSampler(model, shape, config.sampling)
    evaluate = make_evaluate(loss_fn, sampler, test_set)

    # 4. Training.
    return train_model(
        config, workdir, batches=train_batches(config, train_set), init=lambda key: model.init(key, shape),
        loss_fn=partial(loss_fn, axis_name=axis), evaluate=evaluate, describe=describe_pictures(train_set, test_set),
        saved={"model": sizes, "image_shape": shape, "class_names": train_set.class_names},
    )


if __name__ == "__main__":
    CONFIG = command_line.define_config("experiments/configs/diffusion_mnist.py")
    WORKDIR = command_line.define_workdir("The run's directory, new or of a run to go on with.")

    def main():
        command_line.start_processes(CONFIG.value)
        train_diffusion(CONFIG.value, WORKDIR.value)

    command_line.run(main)
