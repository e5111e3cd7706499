"""Two processes on this machine that train as one, and what they tell of it."""

import contextlib
import faulthandler
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from experiments.common import processes
from experiments.common.training import Recipe, axis_name, run_training
from experiments.configs.base import training
from jaxgen import data, runs, train
from jaxgen.core.types import Variables
from tests.experiments import forked

SECONDS = 280  # after which both are killed


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def run(target: Callable, arguments: Callable[[int], tuple], directory: Path, environment: dict[str, str]) -> list:
    """[(exit status, stdout, stderr)] of `target(*arguments(index))` in process 0 and 1, which end or are killed."""
    directory.mkdir(parents=True, exist_ok=True)
    files = [[directory / f"{name}{index}" for name in ("out", "err")] for index in (0, 1)]
    processes = [forked.context.Process(target=target, args=(*arguments(index), environment, files[index]))
                 for index in (0, 1)]
    end = time.monotonic() + SECONDS
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(max(end - time.monotonic(), 0.1))
        statuses = [process.exitcode for process in processes]
    finally:
        for process in processes:
            process.kill()
    texts = [[file.read_text() if file.exists() else "" for file in pair] for pair in files]
    if None in statuses:
        raise TimeoutError(f"two processes take more than {SECONDS} s: exit statuses {statuses}\n{texts}")
    return [(status, *text) for status, text in zip(statuses, texts, strict=True)]


def configure(num_steps: int, **changes) -> ConfigDict:
    config = training(num_steps=num_steps, log_every=1, evaluate_every=100, checkpoint_every=2)
    config.optimizer.update({"schedule": "constant", "learning_rate": 1e-2})
    config.data.update({"batch_size": 8, "crop": 1})
    config.model = {"name": "toy"}
    for name, value in changes.items():
        config.update_from_flattened_dict({name: value})
    return config


def train_toy(workdir: Path, num_steps: int, *, poison=None, first_stage=False, at_step=lambda step: None, **changes):
    """The toy of `tests.train` through the loop of the scripts.

    Args:
        poison: an example's number, whose batch has a loss that is not finite; an epoch is five steps.
        first_stage: take the model's state from arrays that were put on a device, as a checkpoint's are.
        at_step: called in the logger with each step.
    """
    from tests.helpers import toy

    config = configure(num_steps, **changes)
    axis = axis_name(config)
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 3, 1), np.uint8)
    dataset = data.Dataset.from_arrays(images)

    def loss_fn(params, state, batch, key):
        image = batch["image"].reshape(-1, toy.WIDTH)
        loss, aux = toy.make_loss(axis, noise=0.1)(params, state, {**batch, "image": image}, key)
        return (loss if poison is None else loss + jnp.where(jnp.any(batch["id"] == poison), jnp.nan, 0)), aux

    def evaluate(logger, variables, step):
        at_step(step)
        logger.images(step, "kernel", np.tanh(np.asarray(variables.params["encoder"]["kernel"]))[None, :, :, None])
        return {"mean": jax.jit(lambda v, x: jnp.mean(v.params["encoder"]["kernel"]) + x)(variables, jnp.zeros(()))}

    state = {"mean": jnp.zeros(toy.CODE)}

    class Toy:
        def init(self, key, example_shape):
            params = toy.make_params()
            params["encoder"]["kernel"] += 0.1 * jax.random.normal(key, params["encoder"]["kernel"].shape)
            return Variables(params, state)

    recipe = Recipe(model=Toy(), sizes={}, train_set=dataset, test_set=dataset, loss_fn=loss_fn, watch=evaluate,
                    state=jax.device_put(state, jax.local_devices()[0]) if first_stage else None, notes=("toy",))
    return run_training(lambda config, workdir: recipe, config, workdir)


def share_parameters(directory: Path, index: int) -> list:
    """The parameters after two steps, a checkpoint and two more, where each process holds half of each array."""
    from tests.helpers import toy

    optimizer, mesh, batches = optax.adam(1e-2), train.make_mesh(fsdp=2), toy.Batches()
    step = train.compile_step(toy.make_step(optimizer), mesh, min_size=0)
    for start in (0, 2):
        state = train.shard_state(toy.make_state(optimizer), mesh, min_size=0)
        with runs.Checkpointer(directory) as checkpointer:
            state, at = train.resume(state, None, checkpointer)
            assert at == start and not state.params["decoder"]["bias"].is_fully_replicated
            for _ in range(2):  # a part of each batch, of JAX's own arrays
                part = {name: jnp.split(jnp.asarray(value), 2)[index] for name, value in next(batches).items()}
                state, _ = step(state, part)
            checkpointer.save(start + 2, state)
    return [leaf.tolist() for leaf in jax.tree.leaves(train.gather(state.params))]


def lessons(directory: Path, index: int, port: int, environment: dict[str, str], files: list[Path]) -> None:
    """Everything that the quick tests ask of two processes; each gives its answers in `directory/INDEX.json`."""
    os.environ.clear()
    os.environ.update(environment, JAX_COORDINATOR_BIND_ADDRESS=f"127.0.0.1:{port}")
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    faulthandler.enable()  # where Python was, should XLA abort
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, index)
    answers = {}

    @contextlib.contextmanager
    def answer(name):
        try:
            yield
        except Exception as error:
            answers[name] = f"{type(error).__name__}: {error}"

    for name, options in {"jit": {"first_stage": True}, "pmap": {"parallel.mode": "pmap"}}.items():
        with answer(name):
            train_toy(directory / name, 2, **options)
            train_toy(directory / name, 4, **options)
    with answer("one"):
        train_toy(directory / "one", 4)
    with answer("poison"):
        train_toy(directory / "poison", 5, poison=5)
    for mode in ("jit", "pmap"):
        with answer(f"seeds {mode}"):
            train_toy(directory / f"seeds {mode}", 2, **{"seed": index, "parallel.mode": mode})
    with answer("shared"):
        train_toy(directory / ("jit" if index == 0 else "none"), 4)
    with answer("signal"):
        def stop(step):
            if step == 2 and index == 1:
                os.kill(os.getpid(), signal.SIGTERM)

        result = train_toy(directory / "signal", 9, at_step=stop, evaluate_every=1)
        answers["signal"] = [result.step, result.stopped_by]
    with answer("fsdp"):
        answers["fsdp"] = share_parameters(directory / "fsdp", index)
    config = configure(2, seed=index)
    with answer("configurations"):
        processes._check_same(config)
    (directory / f"{index}.json").write_text(json.dumps(answers))


def script(name: str, arguments: list[str], environment: dict[str, str], files: list[Path]) -> None:
    """`python -m experiments.NAME`."""
    forked._run(name, arguments, environment, files)
