"""One library's training in `experiments.studies.time_to_quality`, in a process of its own (`benchmarks.measure`).

Both libraries read the directory that the study writes: weights in diffusers' format, and the data.
"""

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.benchmarks import unet
from jaxgen.core.batches import in_batches

TIMES = 1000  # of the U-Net's schedule, DDPM's
ALPHAS_CUMPROD = np.cumprod(1 - np.linspace(1e-4, 2e-2, TIMES)).astype(np.float32)
CHUNK = 50  # held-out images at a time


class Side(NamedTuple):
    """One library's training."""

    compile: Callable[[np.ndarray], Any]  # (a batch); nothing of PyTorch
    step: Callable[[np.ndarray], Any]  # (a batch [B, H, W, C] in [-1, 1]), run to its end
    predict: Callable[..., np.ndarray]  # (images, or noisy ones and their times [B]) -> reconstructions, or noise


def prepare(case: dict) -> dict:
    """{"evaluate": the held-out quality, "train": a part of the time} of the case's library.

    "train" compiles when it is called first, and returns what the training took so far, evaluations left out.
    """
    with np.load(Path(case["directory"]) / "data.npz") as file:
        arrays = dict(file)
    train, held_out = (arrays[name].astype(np.float32) / 127.5 - 1 for name in ("train", "held_out"))
    side = {"jaxgen": _ours, "PyTorch": _peer}[case["library"]](case, train.shape[1:])
    batches = batches_of(train, case["batch"], case["seed"])
    clock, calls = {"seconds": 0.0, "steps": 0}, itertools.count(1)

    def train_part():
        start, goal = time.perf_counter() - clock["seconds"], next(calls) * case["seconds"] / case["parts"]
        if "compile" not in clock:
            side.compile(train[:case["batch"]])
            clock["compile"] = time.perf_counter() - start
        while (now := time.perf_counter() - start) < goal:
            side.step(next(batches))
            clock["steps"] += 1
        clock["seconds"] = now
        return clock

    def evaluate():
        if case["task"] == "autoencoder":
            error = in_batches(side.predict, held_out, CHUNK) - held_out
            return float(np.mean(10 * np.log10(4 / np.mean(error**2, axis=(1, 2, 3)))))
        share = ALPHAS_CUMPROD[arrays["times"]][:, None, None, None]
        noisy = np.sqrt(share) * held_out + np.sqrt(1 - share) * arrays["noise"]
        found = in_batches(lambda part: side.predict(*part), (noisy, arrays["times"]), CHUNK)
        return float(np.mean((found - arrays["noise"])**2))

    return {"train": train_part, "evaluate": evaluate}


def batches_of(images: np.ndarray, size: int, seed: int) -> Iterator[np.ndarray]:
    """Batches without end, each image once in an epoch; what is left of one is dropped."""
    draw = np.random.default_rng(seed)
    while True:
        order = draw.permutation(len(images))
        for start in range(0, len(images) - size + 1, size):
            yield images[order[start : start + size]]


def _ours(case: dict, shape: tuple[int, ...]) -> Side:
    import jax

    from jaxgen import interop, objectives, train
    from jaxgen.core.cpu import compiler_options
    from jaxgen.core.types import Variables

    if case["task"] == "autoencoder":
        model, variables, _ = interop.load_autoencoder(case["directory"])
        loss_fn = functools.partial(objectives.vqvae_loss, forward=model.forward)

        def predict(params, x):
            return model.forward(Variables(params, {}), x)[0]
    else:
        loaded = interop.load_unet(case["directory"])
        _, loss_fn = unet.denoising(loaded.model, shape)
        variables = Variables({"network": loaded.params}, {})

        def predict(params, x, times):
            return loaded.model.apply({"params": params["network"]}, x, times)

    rate = train.make_schedule(learning_rate=case["learning_rate"], warmup_steps=case["warmup_steps"])
    optimizer = train.make_optimizer("adamw", learning_rate=rate, weight_decay=case["weight_decay"])
    options = {"compiler_options": compiler_options()}
    step = jax.jit(train.make_train_step(loss_fn, optimizer, run_key=jax.random.key(case["seed"])), donate_argnums=0,
                   **options)
    predict, holder = jax.jit(predict, **options), {"state": train.init_state(*variables, optimizer)}

    def compile_step(images):
        holder["step"] = step.lower(holder["state"], {"image": images}).compile()

    def run_step(images):
        holder["state"], _ = jax.block_until_ready(holder["step"](holder["state"], {"image": images}))

    return Side(compile_step, run_step, lambda *inputs: np.asarray(predict(holder["state"].params, *inputs)))


def _peer(case: dict, shape: tuple[int, ...]) -> Side:
    import torch
    from diffusers import UNet2DModel, VQModel

    torch.set_num_threads(case["threads"])
    torch.manual_seed(case["seed"])
    kind = {"autoencoder": VQModel, "unet": UNet2DModel}[case["task"]]
    shares, mse = torch.from_numpy(ALPHAS_CUMPROD), torch.nn.functional.mse_loss

    def load(layout):
        model = kind.from_pretrained(case["directory"], low_cpu_mem_usage=False).train().to(memory_format=layout)
        kept = ("bias", "quantize.embedding.weight")  # and norms, vectors too: as jaxgen.train.decayed has it
        decays = {name: p.ndim > 1 and not name.endswith(kept) for name, p in model.named_parameters()}
        groups = [{"params": [p for name, p in model.named_parameters() if decays[name] == decay],
                   "weight_decay": case["weight_decay"] * decay} for decay in (True, False)]
        optimizer = torch.optim.AdamW(groups, lr=case["learning_rate"], betas=(0.9, 0.999), eps=1e-8)
        warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: min((t + 1) / case["warmup_steps"], 1))

        def images_of(x):
            return torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=layout)

        def step(x):
            images = images_of(x)
            optimizer.zero_grad()
            if case["task"] == "autoencoder":
                output = model(images)
                loss = mse(output.sample, images) + output.commit_loss.mean()
            else:
                times, noise = torch.randint(0, TIMES, (len(images),)), torch.randn_like(images)
                share = shares[times][:, None, None, None]
                loss = mse(model(share.sqrt() * images + (1 - share).sqrt() * noise, times).sample, noise)
            loss.backward()
            optimizer.step()
            warm_up.step()

        def predict(x, *times):
            with torch.no_grad():
                return model(images_of(x), *map(torch.from_numpy, times)).sample.permute(0, 2, 3, 1).numpy()

        return Side(lambda images: None, step, predict)

    layouts = (torch.contiguous_format, torch.channels_last)
    return load(min(layouts, key=lambda layout: _second_step(load(layout).step, case["batch"], shape)))


def _second_step(step: Callable, batch: int, shape: tuple[int, ...]) -> float:
    """Seconds of the second step; the first one allocates."""
    for _ in range(2):
        start = time.perf_counter()
        step(np.zeros((batch, *shape), np.float32))
    return time.perf_counter() - start
