"""Times training steps of transformers against PyTorch's of the same sizes: a DiT, and a causal one over tokens.

The DiT's peer is diffusers' DiTTransformer2DModel, the causal one's transformers' GPT2LMHeadModel with PyTorch's own
attention. A step is the loss, gradients and an Adam update, float32. Each library runs in a process of its own, one
after the other in turn.
"""

import argparse

from experiments.benchmarks import steps

MODULE = "experiments.benchmarks.transformer"
CLASSES = 10


def prepare(case: dict) -> dict:
    """{"compile", "DiT step", "DiT forward", "causal step", "causal forward"} of the case's library."""
    return {"jaxgen": _ours, "torch": _peer}[case["library"]](case)


def _ours(case: dict) -> dict:
    from functools import partial

    import jax

    from jaxgen import train
    from jaxgen.core.cpu import compiler_options

    key, jit = jax.random.key(0), partial(jax.jit, compiler_options=compiler_options())
    optimizer = train.make_optimizer("adam", learning_rate=1e-4)
    compiled, states, inputs = {}, {}, {}
    parts = {"DiT": _dit(case, key), "causal": _causal(case, key)}

    def compile_all():
        for name, (loss_fn, variables, batch, apply, arguments) in parts.items():
            inputs[name] = batch, jax.tree.map(lambda x: x.copy(), (variables.params, *arguments))
            states[name] = train.init_state(*variables, optimizer)
            step = jit(train.make_train_step(loss_fn, optimizer, run_key=key), donate_argnums=0)
            compiled[f"{name} step"] = step.lower(states[name], batch).compile()
            compiled[f"{name} forward"] = jit(apply).lower(*inputs[name][1]).compile()

    def step(name):
        states[name], metrics = compiled[f"{name} step"](states[name], inputs[name][0])
        jax.block_until_ready((states[name], metrics))

    def forward(name):
        jax.block_until_ready(compiled[f"{name} forward"](*inputs[name][1]))

    return {"compile": compile_all, **{f"{name} step": partial(step, name) for name in parts},
            **{f"{name} forward": partial(forward, name) for name in parts}}


def _dit(case: dict, key) -> tuple:
    """(objective, variables, batch, forward pass, its arguments but the parameters)."""
    from functools import partial

    import jax
    import jax.numpy as jnp

    from jaxgen import diffusion, models, nn, objectives

    batch, shape = case["batch"], (case["size"], case["size"], case["channels"])
    network = nn.DiT(patch_size=2, num_classes=CLASSES, **_sizes(case))
    model = models.DiffusionModel(network=network, sample_shape=shape, kind="eps", schedule=diffusion.linear(),
                                  conditions=models.Classes(CLASSES))
    loss_fn = partial(
        objectives.diffusion_loss, denoise=model.denoise, weighting=diffusion.uniform_weighting("eps"),
        draw_sigmas=lambda key, count: model.schedule.ratio(diffusion.uniform_times(key, count, end=999.0)),
        conditions=objectives.Conditions(model.conditions.entries, model.null, 0.1),
    )
    images, classes = jax.random.uniform(key, (batch, *shape), minval=-1), jnp.arange(batch) % CLASSES
    variables = jax.jit(model.init, static_argnums=1)(key, shape)
    return (loss_fn, variables, {"image": images, "label": classes},
            lambda params, x, t, c: network.apply({"params": params["network"]}, x, t, classes=c),
            (images, jnp.full(batch, 500.0), classes))


def _causal(case: dict, key) -> tuple:
    """As `_dit`, of a transformer that predicts each token from those before it."""
    import jax
    import jax.numpy as jnp

    from jaxgen import nn
    from jaxgen.core.types import Variables

    network = nn.Transformer(num_tokens=case["vocabulary"], causal=True, max_length=case["length"], **_sizes(case))
    tokens = jax.random.randint(key, (case["batch"], case["length"]), 0, case["vocabulary"])

    def loss_fn(params, state, batch, key):
        logits = jax.nn.log_softmax(network.apply(params, batch["tokens"]))
        return -jnp.take_along_axis(logits, batch["tokens"][..., None], -1).mean(), ({}, state)

    return loss_fn, Variables(jax.jit(network.init)(key, tokens), {}), {"tokens": tokens}, network.apply, (tokens,)


def _sizes(case: dict) -> dict:
    return {name: case[name] for name in ("features", "depth", "heads")}


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
    steps.add_arguments(parser)
    parser.add_argument("--batch", type=int, default=16, help="examples per step")
    parser.add_argument("--features", type=int, default=256, help="of the residual stream")
    parser.add_argument("--depth", type=int, default=6, help="blocks")
    parser.add_argument("--heads", type=int, default=8, help="attention heads")
    parser.add_argument("--channels", type=int, default=4, help="of the DiT's latents")
    parser.add_argument("--length", type=int, default=256, help="tokens of the causal one's sequences")
    parser.add_argument("--vocabulary", type=int, default=512, help="tokens to choose from")


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
