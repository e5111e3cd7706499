"""What every training script does after its `build`: checks, step, directory, loop."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from experiments.common.own_quantizers import own_quantizers
from experiments.common.watching import Watch
from experiments.configs.base import ROBUST
from jaxgen import data, evaluate, models, runs, show, train
from jaxgen.core.checks import check_count, check_fraction, check_not_negative
from jaxgen.core.errors import unknown_name
from jaxgen.core.types import Variables
from jaxgen.models.parts import parse_quantizer
from jaxgen.runs import manifest

MODES = ("jit", "pmap")
MAY_CHANGE = ("configuration", "num_steps", "log_every", "evaluate_every", "checkpoint_every", "keep_checkpoints",
              "parallel", "sampling", "logging", "optimizer.learning_rate", "discriminator_optimizer.learning_rate")
BEFORE = {"robust": ROBUST}  # of runs that were begun before these options were there


class AdversaryRecipe(NamedTuple):
    """The discriminator of a run that has one.

    Its optimizer and first step come from `config.discriminator_optimizer` and `config.adversarial.start`.
    """

    init: Callable[[jax.Array], tuple[Any, Any]]  # key -> (params, state of its objective)
    loss_fn: Callable  # as `train.make_gan_step` takes it


class Recipe(NamedTuple):
    """What a script's `build` makes of a configuration."""

    model: models.Model
    sizes: dict[str, Any]  # what the data add to the model's description
    train_set: data.Dataset
    test_set: data.Dataset
    loss_fn: Callable  # (params, state, batch, key) -> (loss, (metrics, state))
    watch: Watch  # (logger, variables, step) -> metrics, with the averaged weights where the run keeps them
    state: Any = None  # in place of the one that `init` makes, such as the weights of a trained tokenizer
    adversary: AdversaryRecipe | None = None
    saved: Mapping[str, Any] = {}  # what config.json holds besides
    notes: tuple[str, ...] = ()  # for the first line


def axis_name(config: ConfigDict) -> str | None:
    """The mapped axis of devices that the objective sees: None under `jit`, where the batch is one array."""
    if config.parallel.mode not in MODES:
        raise unknown_name("config.parallel.mode", config.parallel.mode, MODES)
    return "devices" if config.parallel.mode == "pmap" else None


def load_data(config: ConfigDict) -> tuple[data.Dataset, data.Dataset]:
    """The training set and the held-out set."""
    return tuple(runs.load_split(config.data, config.data[f"{part}_split"]) for part in ("train", "test"))


def take_data(config: ConfigDict, first: runs.FirstStage, option: str) -> None:
    """Sets `config.data` to the first stage's data, but for what is the second run's own: batch, flips, shifts.

    Raises:
        ValueError: the configuration names other data.
    """
    if config.data.name not in ("", first.data["name"]):
        raise ValueError(f"config.data.name={config.data.name!r}, but the {option} was trained on "
                         f"{first.data['name']!r}, which are this run's data too: leave it out")
    for name in ("name", "image_size", "train_split", "test_split", "options"):
        config.data[name] = first.data[name]


def build_model(config: ConfigDict, sizes: Mapping[str, Any]) -> models.Model:
    """The model of `config.model` and of what the data add to it."""
    own = own_quantizers(config.get("quantizer"))
    return models.build(**describe_model(config, sizes), quantizers=own, axis_name=axis_name(config))


def describe_model(config: ConfigDict, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """The model's description, as config.json holds it."""
    description = {"dtype": config.dtype, **config.model.to_dict(), **sizes}
    if config.get("quantizer"):
        description["quantizer"] = parse_quantizer(config.quantizer, own_quantizers(config.quantizer))
    return description


def conditions_of(config: ConfigDict, dataset: data.Dataset) -> dict[str, Any]:
    """The description of `config.conditions` for a data set."""
    return models.describe_conditions(config.conditions.to_dict(), dataset)


def conditioned_data(model: Any, *datasets: data.Dataset) -> tuple[data.Dataset, ...]:
    """The data sets with what the model's conditions take of them."""
    return tuple(model.conditions.prepare(dataset) for dataset in datasets)


def run_training(
    build: Callable[..., Recipe], config: ConfigDict, workdir: str | Path, *, name: str | None = None,
    dry_run: bool = False, profile: str | None = None,
) -> train.FitResult | None:
    """Trains, or goes on where the run in `workdir` stopped.

    Args:
        build: `(config, workdir) -> Recipe`.
        config: see `experiments/configs/base.py`.
        workdir: the run's directory.
        name: of the configuration, for records of results.
        dry_run: print what the training needs and stop.
        profile: "first:last" steps to trace.

    Raises:
        ValueError: a value of the configuration, the model or the objective is wrong, the directory holds something
            else, or another process trains there; the directory is then as it was.
    """
    check_values(config)
    if config.logging.wandb_project:
        show.check_wandb()
    window = train.profile_window(profile, config.num_steps) if profile else None
    recipe = build(config, workdir)
    step, state, batches = make_step(recipe, config)
    if dry_run:
        compiled, pmap = compile_for(config, step), axis_name(config) is not None
        print(train.dry_run(compiled, train.replicate(state) if pmap else state, next(batches),
                            num_steps=config.num_steps), flush=True)
        return None

    # The run's directory comes after all checks, so that a mistake leaves nothing behind.
    values = {**config.to_dict(), "configuration": name, "model": describe_model(config, recipe.sizes),
              "example_shape": recipe.train_set.example_shape, "spec": recipe.train_set.spec.to_json(), **recipe.saved}
    runs.check_run(workdir, values, may_change=MAY_CHANGE, before=BEFORE)
    check_goal(workdir, config.num_steps)
    trace(step, state, batches)
    with runs.lock_run(workdir):
        run = runs.open_run(workdir, values, may_change=MAY_CHANGE, before=BEFORE)
        tracer = train.Profile(run.path / "profile", *window) if window else None
        return _fit(recipe, config, run, step, state, batches, tracer)


def make_step(recipe: Recipe, config: ConfigDict) -> tuple[Callable, train.TrainState, data.DeviceBatches]:
    """(step, fresh state, batches on the devices); every random number follows from the seed and the step's number."""
    pmap = axis_name(config) is not None
    init_key, run_key = jax.random.split(jax.random.key(config.seed))
    optimizer, schedule = make_optimizer(config.optimizer, config.num_steps)
    common = {"run_key": run_key, "ema_decay": config.ema_decay or None, "axis_name": axis_name(config),
              "learning_rate": schedule}
    if recipe.adversary is None:
        step = train.make_train_step(recipe.loss_fn, optimizer, accumulate=config.accumulate, **common)
    else:
        if config.accumulate != 1:
            raise ValueError(f"config.accumulate={config.accumulate}: training with a discriminator takes whole "
                             "batches, so leave it at 1")
        adversary_optimizer, _ = make_optimizer(config.discriminator_optimizer, config.num_steps)
        step = train.make_gan_step(recipe.loss_fn, recipe.adversary.loss_fn, optimizer, adversary_optimizer,
                                   start=config.adversarial.start, **common)
    # Initialisation runs once: on CPU, compiling it well takes longer than running it badly.
    quick = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    shape = recipe.train_set.example_shape
    variables = jax.jit(lambda key: recipe.model.init(key, shape), compiler_options=quick)(init_key)
    if recipe.state is not None:
        variables = Variables(variables.params, recipe.state)
    # One program, where array by array would be compiled one by one.
    begin = jax.jit(lambda variables: train.init_state(*variables, optimizer, ema=bool(config.ema_decay)),
                    compiler_options=quick)
    state = begin(variables)
    if recipe.adversary is not None:
        # A key of its own, so that the generator starts as it does without a discriminator.
        begin = jax.jit(lambda key: train.init_adversary(*recipe.adversary.init(key), adversary_optimizer),
                        compiler_options=quick)
        state = state._replace(adversary=begin(jax.random.fold_in(init_key, 1)))
    batches = train_batches(config, recipe.train_set)
    if pmap:
        return step, state, data.to_pmap(batches)
    mesh = train.make_mesh(fsdp=config.parallel.fsdp)
    state = train.shard_state(state, mesh)  # a checkpoint is read to where the state lies
    return step, state, data.to_device(batches, train.batch_sharding(mesh))


def compile_for(config: ConfigDict, step: Callable) -> Callable:
    """The step for the devices of `config.parallel`."""
    if axis_name(config) is not None:
        return train.pmap_step(step)
    return train.compile_step(step, train.make_mesh(fsdp=config.parallel.fsdp))


def _fit(recipe, config, run, step, state, batches, tracer) -> train.FitResult:
    """The loop, from the last checkpoint if there is one."""
    pmap = axis_name(config) is not None
    with runs.Checkpointer(run.checkpoints, keep=config.keep_checkpoints) as checkpointer:
        state, start = train.resume(state, batches, checkpointer)
        if jax.process_index() == 0:
            print(first_lines(recipe, config, state.params, start), flush=True)
        with show.Logger(run.path, step=start, tensorboard=config.logging.tensorboard,
                         wandb=config.logging.wandb_project, config=config.to_dict()) as logger:

            def watch(state, at):
                params = state.params if state.ema_params is None else state.ema_params
                return recipe.watch(logger, train.gather(Variables(params, state.model_state)), at)

            names = ("loss", "grad_norm")
            if recipe.adversary is not None:
                names += ("discriminator", "discriminator_grad_norm")
            return train.fit(
                train.replicate(state) if pmap else state, compile_for(config, step), batches, watch=names,
                num_steps=config.num_steps, checkpointer=checkpointer, logger=logger, log_every=config.log_every,
                checkpoint_every=config.checkpoint_every, evaluate=watch, evaluate_every=config.evaluate_every,
                view=train.unreplicate if pmap else lambda state: state, profile=tracer,
            )


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


def make_optimizer(config: ConfigDict, num_steps: int) -> tuple[Any, Callable]:
    """The optimizer that a part of the configuration describes, and its learning rate at each step."""
    kwargs = config.to_dict()
    schedule = train.make_schedule(
        kwargs.pop("schedule"), learning_rate=kwargs.pop("learning_rate"), warmup_steps=kwargs.pop("warmup_steps"),
        num_steps=num_steps,
    )
    return train.make_optimizer(**kwargs, learning_rate=schedule), schedule


def check_values(config: ConfigDict) -> None:
    """Raises ValueError, which names the option and its value, for numbers with which no training could run."""
    check_count("config.seed", config.seed, 0)
    if config.seed >= 2**32:
        raise ValueError(f"config.seed={config.seed} must be below 2^32: give a smaller whole number")
    for name in ("num_steps", "log_every", "keep_checkpoints", "accumulate"):
        check_count(f"config.{name}", config[name])
    for name in ("evaluate_every", "checkpoint_every"):
        if config[name] is not None:  # None: at the end only
            check_count(f"config.{name}", config[name])
    check_count("config.data.batch_size", config.data.batch_size)
    check_count("config.data.crop", config.data.crop, 0)
    check_count("config.data.image_size", config.data.image_size, 0)
    check_count("config.parallel.fsdp", config.parallel.fsdp)
    check_fraction("config.ema_decay", config.ema_decay or 0, ": give 0 for no average, or a decay such as 0.999")
    for part in ("optimizer", "discriminator_optimizer"):
        if part in config:
            check_not_negative(f"config.{part}.learning_rate", config[part].learning_rate)
            check_count(f"config.{part}.warmup_steps", config[part].warmup_steps, 0)


def check_goal(workdir: str | Path, num_steps: int) -> None:
    """Raises ValueError where the run has gone beyond `num_steps` already."""
    last = max(manifest.find_steps(runs.expand(workdir) / "checkpoints"), default=0)
    if last > num_steps:
        raise ValueError(f"the run in {workdir} is at step {last} already, beyond config.num_steps={num_steps}: give a "
                         "larger number, or another working directory")


def trace(step: Callable, state: train.TrainState, batches: data.DeviceBatches) -> None:
    """Raises what the model or the objective has against the first batch; computes nothing, and takes no batch."""
    position = batches.get_state()
    batch = next(batches)
    batches.set_state(position)
    if step.axis_name is not None:  # as `pmap` takes them: a leading dimension of devices
        step, devices = jax.pmap(step, axis_name=step.axis_name), jax.local_device_count()
        state = jax.tree.map(lambda x: jax.ShapeDtypeStruct((devices, *x.shape), x.dtype), state)
        batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch)
    jax.eval_shape(step, state, batch)


def first_lines(recipe: Recipe, config: ConfigDict, params: Any, start: int) -> str:
    """What a training prints before its first step."""
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    devices = f"{jax.device_count()} {jax.devices()[0].platform} device{'s' * (jax.device_count() > 1)}"
    if jax.process_count() > 1:
        devices += f" of {jax.process_count()} processes"
    begin = f"resuming at step {start} of {config.num_steps}" if start else f"{config.num_steps} steps"
    train_set, test_set = recipe.train_set, recipe.test_set
    size = "x".join(map(str, train_set.example_shape))
    of_data = f"{train_set.name}: {len(train_set)} training and {len(test_set)} held-out examples of {size}"
    first = "; ".join([of_data, *recipe.notes, f"{count / 1e6:.2f} M parameters", devices, begin])
    left_out = evaluate.left_out(train_set.example_shape) if isinstance(recipe.model, models.Reconstructing) else []
    return "\n".join([first, f"largest parts by parameters: {train.largest_parts(params)}", *left_out])
