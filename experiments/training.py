"""What every training script does after it has its data, its model and its objective: step, directory, loop."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from jaxgen import data, runs, show, train
from jaxgen.core.errors import unknown_name
from jaxgen.core.types import Variables

MODES = ("jit", "pmap")
MAY_CHANGE = ("num_steps", "log_every", "evaluate_every", "checkpoint_every", "keep_checkpoints", "parallel",
              "sampling", "optimizer.learning_rate", "discriminator_optimizer.learning_rate")
# What runs from before these keys meant.
ADDED = {"objective": "diffusion", "discriminator.norm": "group", "adversarial.gradient_penalty": 0.0,
         "data.options.skip_unreadable": None}


class AdversaryRecipe(NamedTuple):
    """The discriminator of a run that has one; config.discriminator_optimizer and config.adversarial.start are its."""

    init: Callable[[jax.Array], tuple[Any, Any]]  # key -> (params, state of its objective)
    loss_fn: Callable  # as `train.make_gan_step` takes it


def axis_name(config: ConfigDict) -> str | None:
    """The mapped axis of devices that the objective sees: None under `jit`, where the batch is one array."""
    if config.parallel.mode not in MODES:
        raise unknown_name("config.parallel.mode", config.parallel.mode, MODES)
    return "devices" if config.parallel.mode == "pmap" else None


def train_batches(config: ConfigDict, dataset: data.Dataset) -> data.Batches:
    """The endless stream of training batches that the configuration describes, this process's part of each.

    Raises:
        ValueError: the devices of all processes do not divide the batch, or some processes have more than others.
    """
    counts = list(Counter(device.process_index for device in jax.devices()).values())
    if len(set(counts)) > 1:
        raise ValueError(f"the processes have {counts} devices: each reads an equal part of the batch, so start all "
                         "with the same number of devices")
    if config.data.batch_size % jax.device_count():
        of = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
        raise ValueError(f"config.data.batch_size={config.data.batch_size} does not divide over {jax.device_count()} "
                         f"devices{of}: use a multiple of their number")
    return data.batches(
        dataset, batch_size=config.data.batch_size, seed=config.seed, flip=config.data.flip, crop=config.data.crop,
        process_index=jax.process_index(), process_count=jax.process_count(),
    )


def train_model(
    config: ConfigDict,
    workdir: str | Path,
    *,
    batches: data.Batches,
    init: Callable[[jax.Array], Variables],
    loss_fn: Callable,
    evaluate: Callable[[show.Logger, Variables, int], Mapping[str, float]],
    describe: str,
    saved: Mapping[str, Any],
    model_state: Any = None,
    adversary: AdversaryRecipe | None = None,
) -> train.FitResult:
    """Trains, or goes on where the run in `workdir` stopped.

    Args:
        config: optimizer, intervals, devices (`experiments/configs/base.py`).
        workdir: the run's directory.
        batches: of `train_batches`.
        init: key -> Variables(params, state).
        loss_fn: `(params, state, batch, key) -> (loss, (metrics, state))`; with an adversary the generator's, as
            `train.make_gan_step` takes it.
        evaluate: `(logger, variables, step) -> metrics`, with the averaged weights where the run keeps them.
        describe: what the first line says of the data.
        saved: what config.json holds besides the configuration, such as the pictures' shape.
        model_state: in place of the one that `init` gives, such as the weights of a trained tokenizer.
        adversary: trained beside the model; None for none.
    """
    # 1. Optimizer, state and step. Every random number follows from the seed and the step's number.
    pmap = axis_name(config) is not None
    init_key, run_key = jax.random.split(jax.random.key(config.seed))
    optimizer, schedule = make_optimizer(config.optimizer, config.num_steps)
    common = {"run_key": run_key, "ema_decay": config.ema_decay or None, "axis_name": axis_name(config),
              "learning_rate": schedule}
    if adversary is None:
        step = train.make_train_step(loss_fn, optimizer, accumulate=config.accumulate, **common)
    else:
        if config.accumulate != 1:
            raise ValueError(f"config.accumulate={config.accumulate}: training with a discriminator takes whole "
                             "batches, so leave it at 1")
        adversary_optimizer, _ = make_optimizer(config.discriminator_optimizer, config.num_steps)
        step = train.make_gan_step(loss_fn, adversary.loss_fn, optimizer, adversary_optimizer,
                                   start=config.adversarial.start, **common)
    mesh = train.make_mesh(fsdp=config.parallel.fsdp)
    compiled = train.pmap_step(step) if pmap else train.compile_step(step, mesh)
    # Initialisation runs once: on CPU, compiling it well takes longer than running it badly.
    quick = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    variables = jax.jit(init, compiler_options=quick)(init_key)
    if model_state is not None:
        variables = Variables(variables.params, model_state)
    state = train.init_state(*variables, optimizer, ema=bool(config.ema_decay))
    if adversary is not None:
        # A key of its own, so that the generator starts as it does without a discriminator.
        begin = jax.jit(adversary.init, compiler_options=quick)(jax.random.fold_in(init_key, 1))
        state = state._replace(adversary=train.init_adversary(*begin, adversary_optimizer))
    if not pmap:
        state = train.shard_state(state, mesh)  # a checkpoint is read to where the state lies
    device_batches = data.to_device(batches, None if pmap else train.batch_sharding(mesh))

    # 2. The run's directory comes after the checks above, so that a mistake leaves nothing behind.
    values = config.to_dict()
    values["model"] |= saved.get("model", {})
    run = runs.open_run(workdir, {**values, **{k: v for k, v in saved.items() if k != "model"}},
                         may_change=MAY_CHANGE, added=ADDED)

    # 3. The loop, from the last checkpoint if there is one.
    with runs.Checkpointer(run.checkpoints, keep=config.keep_checkpoints) as checkpointer:
        state, start = train.resume(state, device_batches, checkpointer)
        if start > config.num_steps:
            raise ValueError(f"the run in {workdir} is at step {start} already, beyond config.num_steps="
                             f"{config.num_steps}: give a larger number, or another working directory")
        if jax.process_index() == 0:
            print(_first_line(describe, variables.params, start, config.num_steps), flush=True)
        with show.Logger(run.path, step=start) as logger:

            def evaluate_state(state, at):
                params = state.params if state.ema_params is None else state.ema_params
                return evaluate(logger, train.gather(Variables(params, state.model_state)), at)

            watch = ("loss", "grad_norm") + ("discriminator", "discriminator_grad_norm") * (adversary is not None)
            return train.fit(
                train.replicate(state) if pmap else state, compiled, device_batches,
                watch=watch, num_steps=config.num_steps, checkpointer=checkpointer, logger=logger,
                log_every=config.log_every, checkpoint_every=config.checkpoint_every, evaluate=evaluate_state,
                evaluate_every=config.evaluate_every, view=train.unreplicate if pmap else lambda state: state,
            )


def make_optimizer(config: ConfigDict, num_steps: int) -> tuple[Any, Callable]:
    """The optimizer that a part of the configuration describes, and its learning rate at each step."""
    kwargs = config.to_dict()
    schedule = train.make_schedule(
        kwargs.pop("schedule"), learning_rate=kwargs.pop("learning_rate"), warmup_steps=kwargs.pop("warmup_steps"),
        num_steps=num_steps,
    )
    return train.make_optimizer(**kwargs, learning_rate=schedule), schedule


def _first_line(describe: str, params: Any, start: int, num_steps: int) -> str:
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    devices = f"{jax.device_count()} {jax.devices()[0].platform} device{'s' * (jax.device_count() > 1)}"
    if jax.process_count() > 1:
        devices += f" of {jax.process_count()} processes"
    begin = f"resuming at step {start} of {num_steps}" if start else f"{num_steps} steps"
    return f"{describe}; {count / 1e6:.2f} M parameters; {devices}; {begin}"


def describe_pictures(train_set: data.Dataset, test_set: data.Dataset) -> str:
    """What a run's first line says of its data."""
    height, width, channels = train_set.image_shape
    return (f"{train_set.name}: {len(train_set)} training and {len(test_set)} held-out pictures of "
            f"{height}x{width}x{channels}")
