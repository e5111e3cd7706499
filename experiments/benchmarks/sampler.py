"""Times the sampling loop against its network's evaluations without a loop, and diffusers' loop around its network.

"evaluations" calls the same compiled network as often as the solver does, on the same shapes, and nothing else: what
the loop takes beyond it is the solver's own cost.
"""

import argparse

from experiments.benchmarks import steps

MODULE = "experiments.benchmarks.sampler"


def prepare(case: dict) -> dict:
    """{"compile", "sample", "evaluations"} of the case's library."""
    return {"jaxgen": _ours, "diffusers": _peer}[case["library"]](case)


def _ours(case: dict) -> dict:
    import jax
    import jax.numpy as jnp

    from experiments.benchmarks.unet import network
    from jaxgen import diffusion, models
    from jaxgen.core.cpu import compiler_options

    shape = (case["size"], case["size"], 3)
    model = models.DiffusionModel(network=network(case), sample_shape=shape, kind="eps", schedule=diffusion.linear())
    params = jax.jit(model.init, static_argnums=1)(jax.random.key(0), shape).params
    sigmas = diffusion.spaced_sigmas(model.schedule, case["steps"])
    solver = diffusion.get_solver(case["solver"])
    x = diffusion.prior_sample(jax.random.key(1), (case["batch"], *shape), sigmas[0])
    count = solver.nfe * case["steps"] - (solver.nfe - 1)

    def denoiser(params):
        return lambda x, sigma, cond=None: model.denoise(params, x, sigma, cond)

    run = jax.jit(lambda p, s, x: diffusion.sample(denoiser(p), solver, s, x, jax.random.key(2)),
                  compiler_options=compiler_options())
    once = jax.jit(lambda p, x, s: denoiser(p)(x, s), compiler_options=compiler_options())
    holder = {}

    def compile_both():
        holder["sample"] = run.lower(params, sigmas, x).compile()
        holder["once"] = once.lower(params, x, jnp.float32(1.0)).compile()

    def evaluations():
        for _ in range(count):
            jax.block_until_ready(holder["once"](params, x, jnp.float32(1.0)))

    return {"compile": compile_both, "evaluations": evaluations,
            "sample": lambda: jax.block_until_ready(holder["sample"](params, sigmas, x))}


def _peer(case: dict) -> dict:
    import torch
    from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler

    from experiments.benchmarks.unet import peer_network

    torch.set_num_threads(case["threads"])
    model = peer_network(case).eval()
    kind = {"euler": EulerDiscreteScheduler, "heun": HeunDiscreteScheduler, "dpmpp_2m": DPMSolverMultistepScheduler}
    scheduler = kind[case["solver"]](timestep_spacing="trailing")
    noise = torch.randn(case["batch"], 3, case["size"], case["size"])

    @torch.no_grad()
    def sample():
        scheduler.set_timesteps(case["steps"])
        x = noise * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            x = scheduler.step(model(scheduler.scale_model_input(x, t), t).sample, t, x).prev_sample

    @torch.no_grad()
    def evaluations():
        scheduler.set_timesteps(case["steps"])
        for t in scheduler.timesteps:
            model(noise, t)

    return {"compile": lambda: None, "sample": sample, "evaluations": evaluations}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m experiments.benchmark sampler`."""
    steps.add_arguments(parser)
    parser.add_argument("--solver", default="dpmpp_2m", choices=("euler", "heun", "dpmpp_2m"))
    parser.add_argument("--steps", type=int, default=10, help="steps of the solver")
    parser.add_argument("--batch", type=int, default=8, help="images")
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 128], help="features of each level")
    parser.add_argument("--layers", type=int, default=1, help="residual blocks per level")


def run(args: argparse.Namespace) -> list[dict]:
    """Prints the table and what the loop costs over its evaluations; returns what `--json` writes."""
    common = {"size": args.size, "batch": args.batch, "channels": args.channels, "layers": args.layers,
              "steps": args.steps, "solver": args.solver, "threads": args.threads}
    cases = {name: {**common, "library": name} for name in ("jaxgen", "diffusers")}
    rows = steps.compare(
        MODULE, cases, ["sample", "evaluations"], rounds=args.rounds, json_file=args.json,
        title=f"{args.solver}, {args.steps} steps, {args.batch} images of {args.size}x{args.size}x3",
    )
    for name in cases:
        found = {row["operation"]: row for row in rows if row["library"] == name}
        if found:
            ratios = [found["sample"][key] / found["evaluations"][key] for key in ("median", "least")]
            print(f"{name}: the loop takes {ratios[0]:.3f} times its evaluations (least times: {ratios[1]:.3f})")
    return rows
