"""Times training steps and forward passes of the U-Net against diffusers' UNet2DModel with the same layers.

A step is the loss of predicted noise at random times, gradients and an Adam update, float32. Each library runs in a
process of its own, one after the other in turn, so that neither's threads disturb the other and a machine's moods meet
both alike.
"""

import argparse

from experiments.benchmarks import steps

MODULE = "experiments.benchmarks.unet"


def prepare(case: dict) -> dict:
    """{"compile", "step", "forward"} of the case's library; our "compile" gives the step, which `roofline` reads."""
    return {"jaxgen": _ours, "diffusers": _peer}[case["library"]](case)


def network(case: dict):
    """Our U-Net of the case, with attention at the second level and in the middle."""
    from jaxgen.nn import UNet

    down = ["attention" if level == 1 else "plain" for level in range(len(case["channels"]))]
    return UNet(channels=tuple(case["channels"]), layers=case["layers"], down=tuple(down), head_dim=8)


def denoising(network, shape: tuple[int, ...]):
    """(the diffusion model of a network, its loss of predicted noise at random times) as DDPM has them."""
    from functools import partial

    from jaxgen import diffusion, models, objectives

    model = models.DiffusionModel(network=network, sample_shape=shape, kind="eps", schedule=diffusion.linear())
    return model, partial(
        objectives.diffusion_loss, denoise=model.denoise, weighting=diffusion.uniform_weighting("eps"),
        draw_sigmas=lambda key, count: model.schedule.ratio(diffusion.uniform_times(key, count, end=999.0)),
    )


def peer_network(case: dict):
    """diffusers' U-Net with the same layers."""
    from diffusers import UNet2DModel

    levels = range(len(case["channels"]))
    down = tuple("AttnDownBlock2D" if level == 1 else "DownBlock2D" for level in levels)
    up = tuple("AttnUpBlock2D" if level == 1 else "UpBlock2D" for level in reversed(levels))
    return UNet2DModel(
        sample_size=case["size"], in_channels=3, out_channels=3, block_out_channels=tuple(case["channels"]),
        layers_per_block=case["layers"], down_block_types=down, up_block_types=up, attention_head_dim=8,
    )


def _ours(case: dict) -> dict:
    import jax
    import jax.numpy as jnp

    from jaxgen import train
    from jaxgen.core.cpu import compiler_options

    shape = (case["size"], case["size"], 3)
    model, loss_fn = denoising(network(case), shape)
    optimizer = train.make_optimizer("adam", learning_rate=1e-4)
    step = jax.jit(train.make_train_step(loss_fn, optimizer, run_key=jax.random.key(0)), donate_argnums=0,
                   compiler_options=compiler_options())
    variables = jax.jit(model.init, static_argnums=1)(jax.random.key(0), shape)
    batch = {"image": jax.random.uniform(jax.random.key(1), (case["batch"], *shape), minval=-1)}
    params = jax.tree.map(jnp.copy, variables.params["network"])
    holder = {"state": train.init_state(*variables, optimizer)}
    forward = jax.jit(lambda p, x, t: network(case).apply({"params": p}, x, t), compiler_options=compiler_options())
    inputs = (params, batch["image"], jnp.full(case["batch"], 500.0))

    def compile_both():
        holder["step"] = step.lower(holder["state"], batch).compile()
        holder["forward"] = forward.lower(*inputs).compile()
        return holder["step"]

    def run():
        holder["state"], metrics = holder["step"](holder["state"], batch)
        jax.block_until_ready((holder["state"], metrics))

    return {"compile": compile_both, "step": run,
            "forward": lambda: jax.block_until_ready(holder["forward"](*inputs))}


def _peer(case: dict) -> dict:
    import torch

    torch.set_num_threads(case["threads"])
    model = peer_network(case).train()
    layout = torch.channels_last if case["layout"] == "nhwc" else torch.contiguous_format
    model = model.to(memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    betas = torch.linspace(1e-4, 2e-2, 1000)
    alphas_cumprod = torch.cumprod(1 - betas, 0)
    images = (2 * torch.rand(case["batch"], 3, case["size"], case["size"]) - 1).contiguous(memory_format=layout)

    def step():
        times = torch.randint(0, 1000, (case["batch"],))
        abar = alphas_cumprod[times][:, None, None, None]
        noise = torch.randn_like(images)
        noisy = abar.sqrt() * images + (1 - abar).sqrt() * noise
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(noisy, times).sample, noise).backward()
        optimizer.step()

    def forward():
        with torch.no_grad():
            model(images, torch.full((case["batch"],), 500))

    return {"compile": lambda: None, "step": step, "forward": forward}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m experiments.benchmark unet`."""
    steps.add_arguments(parser)
    parser.add_argument("--batch", type=int, default=16, help="images per step")
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 128, 128], help="features of each level")
    parser.add_argument("--layers", type=int, default=2, help="residual blocks per level")


def sizes(args: argparse.Namespace) -> dict:
    """What all libraries' cases share."""
    return {"size": args.size, "batch": args.batch, "channels": args.channels, "layers": args.layers,
            "threads": args.threads}


def run(args: argparse.Namespace) -> list[dict]:
    """Prints the table and returns what `--json` writes."""
    cases = {"jaxgen": {"library": "jaxgen"}, "diffusers, NCHW": {"library": "diffusers", "layout": "nchw"},
             "diffusers, NHWC": {"library": "diffusers", "layout": "nhwc"}}
    return steps.compare(
        MODULE, {name: {**sizes(args), **case} for name, case in cases.items()}, ["step", "forward"],
        rounds=args.rounds,
        title=f"{args.batch} images of {args.size}x{args.size}x3, levels of {args.channels} channels",
        json_file=args.json,
    )
