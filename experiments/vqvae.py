"""Train a VQ-VAE or a two-level VQ-VAE-2.

    python -m experiments.vqvae --workdir=runs/a
    python -m experiments.vqvae --workdir=runs/b --config=experiments/configs/vqvae_emoji32.py
    python -m experiments.vqvae --workdir=runs/c --config.optimizer.learning_rate=1e-3

The same command goes on with a run that was stopped. The run's directory gets config.json, environment.json,
metrics.jsonl, TensorBoard events, images/ and checkpoints/.
"""

from functools import partial
from pathlib import Path

import jax
from ml_collections import ConfigDict

from experiments import command_line
from experiments.evaluate import evaluate_reconstruction, load_split, reconstruction_pairs
from jaxgen import data, losses, models, train
from jaxgen.errors import unknown_name
from jaxgen.quantize import Variables

RECONSTRUCTION = {"l1": losses.l1, "l2": losses.l2, "huber": losses.huber}
MODES = ("jit", "pmap")
MAY_CHANGE = ("num_steps", "log_every", "evaluate_every", "checkpoint_every", "keep_checkpoints", "parallel",
              "optimizer.learning_rate")
SHOWN = 16  # held-out pictures in the image log


def train_vqvae(config: ConfigDict, workdir: str | Path) -> train.FitResult:
    """Trains from the configuration, or goes on where the run in `workdir` stopped."""
    pmap = config.parallel.mode == "pmap"
    if config.parallel.mode not in MODES:
        raise unknown_name("config.parallel.mode", config.parallel.mode, MODES)
    if config.reconstruction not in RECONSTRUCTION:
        raise unknown_name("config.reconstruction", config.reconstruction, RECONSTRUCTION)
    axis_name = "devices" if pmap else None

    # 1. Data. The model's image shape is the data's.
    train_set, test_set = (load_split(config, config.data[f"{split}_split"]) for split in ("train", "test"))
    batches = data.batches(
        train_set, batch_size=config.data.batch_size, seed=config.seed, flip=config.data.flip, crop=config.data.crop,
        process_index=jax.process_index(), process_count=jax.process_count(),
    )

    # 2. The model, as pure functions, and the objective made of them.
    model = models.build(**config.model.to_dict(), image_channels=train_set.image_shape[-1], axis_name=axis_name)
    loss_fn = partial(
        losses.vqvae_loss, forward=model.forward, reconstruction=RECONSTRUCTION[config.reconstruction],
        num_codes=model.num_codes, axis_name=axis_name,
    )

    # 3. Optimizer, state and step. Every random number follows from the seed and the step's number.
    init_key, run_key = jax.random.split(jax.random.key(config.seed))
    optimizer_kwargs = config.optimizer.to_dict()
    schedule = train.make_schedule(
        optimizer_kwargs.pop("schedule"), learning_rate=optimizer_kwargs.pop("learning_rate"),
        warmup_steps=optimizer_kwargs.pop("warmup_steps"), num_steps=config.num_steps,
    )
    optimizer = train.make_optimizer(**optimizer_kwargs, learning_rate=schedule)
    step = train.make_train_step(
        loss_fn, optimizer, run_key=run_key, ema_decay=config.ema_decay or None, accumulate=config.accumulate,
        axis_name=axis_name, learning_rate=schedule,
    )
    mesh = train.make_mesh(fsdp=config.parallel.fsdp)
    if config.data.batch_size % jax.device_count():
        raise ValueError(f"config.data.batch_size={config.data.batch_size} does not divide over {jax.device_count()} "
                         "devices: use a multiple of their number")
    compiled = train.pmap_step(step) if pmap else train.compile_step(step, mesh)
    # Initialisation runs once: on CPU, compiling it well takes longer than running it badly.
    quick = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    variables = jax.jit(model.init, static_argnums=1, compiler_options=quick)(init_key, train_set.image_shape)
    state = train.init_state(*variables, optimizer, ema=bool(config.ema_decay))
    device_batches = data.to_device(batches, None if pmap else train.batch_sharding(mesh))

    # 4. The run's directory comes after the checks above, so that a mistake leaves nothing behind.
    saved_config = config.to_dict()
    saved_config["model"]["image_channels"] = train_set.image_shape[-1]
    saved_config["image_shape"] = train_set.image_shape
    run = train.open_run(workdir, saved_config, may_change=MAY_CHANGE)

    # 5. The loop, from the last checkpoint if there is one.
    with train.Checkpointer(run.checkpoints, keep=config.keep_checkpoints) as checkpointer:
        state, start = train.resume(state, device_batches, checkpointer)
        if start > config.num_steps:
            raise ValueError(f"the run in {workdir} is at step {start} already, beyond config.num_steps="
                             f"{config.num_steps}: give a larger number, or another working directory")
        print(describe(train_set, test_set, variables.params, start, config.num_steps), flush=True)
        with train.Logger(run.path, step=start) as logger:

            def evaluate(state, at):
                variables = Variables(state.params if state.ema_params is None else state.ema_params, state.model_state)
                pairs, columns = reconstruction_pairs(model, variables, test_set, min(SHOWN, len(test_set)))
                logger.images(at, "reconstructions", pairs, columns=columns, scale=2)
                return evaluate_reconstruction(model, variables, test_set)

            return train.fit(
                train.replicate(state) if pmap else state, compiled, device_batches,
                num_steps=config.num_steps, checkpointer=checkpointer, logger=logger, log_every=config.log_every,
                checkpoint_every=config.checkpoint_every, evaluate=evaluate, evaluate_every=config.evaluate_every,
                view=train.unreplicate if pmap else lambda state: state,
            )


def describe(train_set, test_set, params, start, num_steps) -> str:
    """The line that a run begins with."""
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    height, width, channels = train_set.image_shape
    devices = f"{jax.device_count()} {jax.devices()[0].platform} device{'s' * (jax.device_count() > 1)}"
    begin = f"resuming at step {start} of {num_steps}" if start else f"{num_steps} steps"
    return (f"{train_set.name}: {len(train_set)} training and {len(test_set)} held-out pictures of "
            f"{height}x{width}x{channels}; {count / 1e6:.2f} M parameters; {devices}; {begin}")


if __name__ == "__main__":
    CONFIG = command_line.define_config("experiments/configs/vqvae_mnist.py")
    WORKDIR = command_line.define_workdir("The run's directory, new or of a run to go on with.")

    def main():
        command_line.start_processes(CONFIG.value.parallel.multihost)
        train_vqvae(CONFIG.value, WORKDIR.value)

    command_line.run(main)
