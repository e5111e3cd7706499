"""Times training steps of transformers against PyTorch's of the same sizes: a DiT, and a causal one over tokens.

The DiT's peer is diffusers' DiTTransformer2DModel, the causal one's transformers' GPT2LMHeadModel with PyTorch's own
attention. A step is the loss, gradients and an Adam update, float32. Each library runs in a process of its own, one
after the other in turn.
"""

import argparse
from pathlib import Path

from experiments.benchmarks import steps

MODULE = "experiments.benchmarks.transformer"
CLASSES = 10


def prepare(case: dict) -> dict:
    """{"compile", "DiT step", "DiT forward", "causal step", "causal forward"} of the case's library."""
    return {"jaxgen": _ours, "torch": _peer}[case["library"]](case)


def _ours(case: dict) -> dict:
    from functools import partial

    import jax

    trainings, forwards = _our_programs(case)
    compiled = {}

    def compile_all():
        for name, each in trainings.items():
            compiled[name] = each["program"].lower(each["state"], each["batch"]).compile()
        for name, (program, inputs) in forwards.items():
            compiled[name] = program.lower(*inputs).compile()

    def step(name):
        each = trainings[name]
        each["state"], metrics = compiled[name](each["state"], each["batch"])
        jax.block_until_ready((each["state"], metrics))

    def forward(name):
        jax.block_until_ready(compiled[name](*forwards[name][1]))

    return {"compile": compile_all, **{name: partial(step, name) for name in trainings},
            **{name: partial(forward, name) for name in forwards}}


def _our_programs(case: dict) -> tuple[dict, dict]:
    """({step: its program, state and batch}, {forward pass: (program, inputs)})."""
    from functools import partial

    import jax
    import jax.numpy as jnp

    from jaxgen import diffusion, models, nn, objectives, train
    from jaxgen.core.cpu import compiler_options

    sizes = {name: case[name] for name in ("features", "depth", "heads")}
    batch, shape, key = case["batch"], (case["size"], case["size"], case["channels"]), jax.random.key(0)
    optimizer = train.make_optimizer("adam", learning_rate=1e-4)
    jit = partial(jax.jit, compiler_options=compiler_options())
    classes = jnp.arange(batch) % CLASSES

    network = nn.DiT(patch_size=2, num_classes=CLASSES, **sizes)
    model = models.DiffusionModel(network=network, sample_shape=shape, kind="eps", schedule=diffusion.linear(),
                                  conditions=models.Classes(CLASSES))
    denoising = partial(
        objectives.diffusion_loss, denoise=model.denoise, weighting=diffusion.uniform_weighting("eps"),
        draw_sigmas=lambda key, count: model.schedule.ratio(diffusion.uniform_times(key, count, end=999.0)),
        conditions=objectives.Conditions(model.conditions.entries, model.null, 0.1),
    )
    images = {"image": jax.random.uniform(key, (batch, *shape), minval=-1), "label": classes}
    causal = nn.Transformer(num_tokens=case["vocabulary"], causal=True, max_length=case["length"], **sizes)
    tokens = jax.random.randint(key, (batch, case["length"]), 0, case["vocabulary"])

    def predict(params, state, batch, key):
        logits = causal.apply(params, batch["tokens"])
        nats = -jnp.take_along_axis(jax.nn.log_softmax(logits), batch["tokens"][..., None], -1)
        return nats.mean(), ({}, state)

    def training(loss_fn, variables, batch):
        state = train.init_state(*variables, optimizer)
        step = jit(train.make_train_step(loss_fn, optimizer, run_key=key), donate_argnums=0)
        return {"program": step, "state": state, "batch": batch}

    variables = jax.jit(model.init, static_argnums=1)(key, shape)
    params = jax.tree.map(jnp.copy, variables.params["network"])
    causal_params = jax.jit(causal.init)(key, tokens)
    trainings = {"DiT step": training(denoising, variables, images),
                 "causal step": training(predict, (jax.tree.map(jnp.copy, causal_params), {}), {"tokens": tokens})}
    time = jnp.full(batch, 500.0)
    forwards = {
        "DiT forward": (jit(lambda p, x, t, c: network.apply({"params": p}, x, t, classes=c)),
                        (params, images["image"], time, classes)),
        "causal forward": (jit(causal.apply), (causal_params, tokens)),
    }
    return trainings, forwards


def _peer(case: dict) -> dict:
    import torch
    from diffusers import DiTTransformer2DModel
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.set_num_threads(case["threads"])
    batch = case["batch"]
    dit = DiTTransformer2DModel(
        num_attention_heads=case["heads"], attention_head_dim=case["features"] // case["heads"],
        in_channels=case["channels"], num_layers=case["depth"], sample_size=case["size"], patch_size=2,
        num_embeds_ada_norm=CLASSES).train()
    gpt = GPT2LMHeadModel(GPT2Config(
        vocab_size=case["vocabulary"], n_positions=case["length"], n_embd=case["features"], n_layer=case["depth"],
        n_head=case["heads"], resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, attn_implementation="sdpa")).train()
    optimizers = [torch.optim.Adam(model.parameters(), lr=1e-4) for model in (dit, gpt)]
    alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 2e-2, 1000), 0)
    images = 2 * torch.rand(batch, case["channels"], case["size"], case["size"]) - 1
    classes, tokens = torch.arange(batch) % CLASSES, torch.randint(0, case["vocabulary"], (batch, case["length"]))

    def dit_step():
        times = torch.randint(0, 1000, (batch,))
        abar = alphas_cumprod[times][:, None, None, None]
        noise = torch.randn_like(images)
        optimizers[0].zero_grad()
        predicted = dit(abar.sqrt() * images + (1 - abar).sqrt() * noise, times, class_labels=classes).sample
        torch.nn.functional.mse_loss(predicted, noise).backward()
        optimizers[0].step()

    def gpt_step():
        optimizers[1].zero_grad()
        gpt(tokens, labels=tokens).loss.backward()
        optimizers[1].step()

    def dit_forward():
        with torch.no_grad():
            dit(images, torch.full((batch,), 500), class_labels=classes)

    def gpt_forward():
        with torch.no_grad():
            gpt(tokens, use_cache=False)

    return {"compile": lambda: None, "DiT step": dit_step, "DiT forward": dit_forward, "causal step": gpt_step,
            "causal forward": gpt_forward}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m experiments.benchmark transformer`."""
    parser.add_argument("--batch", type=int, default=16, help="examples per step")
    parser.add_argument("--features", type=int, default=256, help="of the residual stream")
    parser.add_argument("--depth", type=int, default=6, help="blocks")
    parser.add_argument("--heads", type=int, default=8, help="attention heads")
    parser.add_argument("--size", type=int, default=32, help="height and width of the DiT's latents")
    parser.add_argument("--channels", type=int, default=4, help="of the DiT's latents")
    parser.add_argument("--length", type=int, default=256, help="tokens of the causal one's sequences")
    parser.add_argument("--vocabulary", type=int, default=512, help="tokens to choose from")
    parser.add_argument("--rounds", type=int, default=7, help="alternated rounds")
    parser.add_argument("--threads", type=int, default=2, help="PyTorch's threads; JAX takes the machine's cores")
    parser.add_argument("--json", type=Path, help="write the rows here")


def run(args: argparse.Namespace) -> list[dict]:
    """Prints the table and returns what `--json` writes."""
    names = ("batch", "features", "depth", "heads", "size", "channels", "length", "vocabulary", "threads")
    common = {name: getattr(args, name) for name in names}
    return steps.compare(
        MODULE, {name: {**common, "library": name} for name in ("jaxgen", "torch")},
        ["DiT step", "DiT forward", "causal step", "causal forward"], rounds=args.rounds, json_file=args.json,
        title=f"{args.batch} x {args.length} tokens (DiT: {(args.size // 2)**2}), {args.depth} blocks of "
              f"{args.features} features",
    )
