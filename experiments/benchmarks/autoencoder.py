"""Times whole training steps of the VQ autoencoder against diffusers' VQModel with the same layers.

A step is forward, loss, gradients and an Adam update, float32. Each library runs in a process of its own, one after the
other in turn, so that neither's threads disturb the other and a machine's moods meet both alike.
"""

import argparse

from experiments.benchmarks import steps

MODULE = "experiments.benchmarks.autoencoder"


def prepare(case: dict) -> dict:
    """{"compile": make the program ready, "step": one training step run to its end} of the case's library.

    Ours gives the compiled step, which `roofline` reads.
    """
    return {"jaxgen": _ours, "diffusers": _peer}[case["library"]](case)


def network(case: dict, image_channels: int = 3):
    """Our autoencoder of the case."""
    from jaxgen import models

    levels = {"channels": case["channels"][0], "multipliers": [c // case["channels"][0] for c in case["channels"]]}
    return models.build(
        "vqvae", latent_channels=case["latent_channels"], example_channels=image_channels,
        encoder={**levels, "num_res_blocks": case["blocks"]},
        decoder={**levels, "num_res_blocks": case["blocks"] + 1},
        quantizer={"name": "vq", "num_codes": case["codes"]},
    )


def _ours(case: dict) -> dict:
    from functools import partial

    import jax

    from jaxgen import objectives, train
    from jaxgen.core.cpu import compiler_options

    model = network(case)
    loss_fn = partial(objectives.vqvae_loss, forward=model.forward)
    optimizer = train.make_optimizer("adam", learning_rate=1e-4)
    step = jax.jit(train.make_train_step(loss_fn, optimizer, run_key=jax.random.key(0)), donate_argnums=0,
                   compiler_options=compiler_options())
    variables = jax.jit(model.init, static_argnums=1)(jax.random.key(0), (case["size"], case["size"], 3))
    holder = {"state": train.init_state(*variables, optimizer)}
    batch = {"image": jax.random.uniform(jax.random.key(1), (case["batch"], case["size"], case["size"], 3), minval=-1)}

    def compile_step():
        holder["step"] = step.lower(holder["state"], batch).compile()
        return holder["step"]

    def run():
        holder["state"], metrics = holder["step"](holder["state"], batch)
        jax.block_until_ready((holder["state"], metrics))

    return {"compile": compile_step, "step": run}


def _peer(case: dict) -> dict:
    import torch
    from diffusers import VQModel

    torch.set_num_threads(case["threads"])
    levels = len(case["channels"])
    model = VQModel(
        in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels, block_out_channels=tuple(case["channels"]),
        layers_per_block=case["blocks"], latent_channels=case["latent_channels"], num_vq_embeddings=case["codes"],
        vq_embed_dim=case["latent_channels"],
    ).train()
    layout = torch.channels_last if case["layout"] == "nhwc" else torch.contiguous_format
    model = model.to(memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    images = (2 * torch.rand(case["batch"], 3, case["size"], case["size"]) - 1).contiguous(memory_format=layout)

    def run():
        optimizer.zero_grad()
        output = model(images)
        loss = torch.nn.functional.mse_loss(output.sample, images) + output.commit_loss.mean()
        loss.backward()
        optimizer.step()

    return {"compile": lambda: None, "step": run}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m experiments.benchmark autoencoder`."""
    steps.add_arguments(parser)
    parser.add_argument("--batch", type=int, default=32, help="images per step")
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 128], help="features of each level")


def sizes(args: argparse.Namespace) -> dict:
    """What all libraries' cases share."""
    return {"size": args.size, "batch": args.batch, "channels": args.channels, "blocks": 2, "latent_channels": 64,
            "codes": 512, "threads": args.threads}


def run(args: argparse.Namespace) -> list[dict]:
    """Prints the table and returns what `--json` writes."""
    cases = {"jaxgen": {"library": "jaxgen"}, "diffusers, NCHW": {"library": "diffusers", "layout": "nchw"},
             "diffusers, NHWC": {"library": "diffusers", "layout": "nhwc"}}
    return steps.compare(
        MODULE, {name: {**sizes(args), **case} for name, case in cases.items()}, ["step"], rounds=args.rounds,
        title=f"{args.batch} images of {args.size}x{args.size}x3, levels of {args.channels} channels",
        json_file=args.json,
    )
