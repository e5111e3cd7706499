"""Times attention by itself, forward and with gradients, against PyTorch's and `jax.nn.dot_product_attention`, float32.

A shape is batch x tokens x heads x features of a head. Each library runs in a process of its own, one after the other
in turn, and JAX's programs are compiled with the options that training has on CPU (`jaxgen.core.cpu`).
"""

import argparse

from experiments.benchmarks import steps

MODULE = "experiments.benchmarks.attention"
SHAPES = ("16x256x16x8", "16x256x4x32", "64x49x4x32", "16x64x16x8", "4x1024x4x16", "1x4096x2x64")


def prepare(case: dict) -> dict:
    """{"compile", and "SHAPE, forward" and "SHAPE, gradients" for each shape} of the case's library."""
    import numpy as np

    generator = np.random.default_rng(0)
    arrays = {shape: [generator.standard_normal([int(n) for n in shape.split("x")], np.float32) for _ in range(4)]
              for shape in case["shapes"]}
    return (_torch if case["library"] == "torch" else _jax)(case, arrays)


def _jax(case: dict, arrays: dict) -> dict:
    import jax

    from jaxgen.attention import attend
    from jaxgen.core.cpu import compiler_options

    function = attend if case["library"] == "jaxgen" else jax.nn.dot_product_attention
    arrays = {shape: jax.device_put(each) for shape, each in arrays.items()}

    def gradients(q, k, v, dy):
        y, backward = jax.vjp(function, q, k, v)
        return y, backward(dy)

    programs = {"forward": lambda q, k, v, dy: function(q, k, v), "gradients": gradients}
    compiled = {}

    def compile_all():
        for shape, each in arrays.items():
            for name, program in programs.items():
                lowered = jax.jit(program, compiler_options=compiler_options()).lower(*each)
                compiled[f"{shape}, {name}"] = lowered.compile(), each

    def run(name):
        program, inputs = compiled[name]
        jax.block_until_ready(program(*inputs))

    names = (f"{shape}, {name}" for shape in arrays for name in programs)
    return {"compile": compile_all, **{name: lambda name=name: run(name) for name in names}}


def _torch(case: dict, arrays: dict) -> dict:
    import torch

    torch.set_num_threads(case["threads"])

    def mixed(q, k, v):
        heads_first = (x.transpose(1, 2) for x in (q, k, v))
        return torch.nn.functional.scaled_dot_product_attention(*heads_first).transpose(1, 2)

    def forward(q, k, v, dy):
        with torch.no_grad():
            mixed(q, k, v)

    def gradients(q, k, v, dy):
        torch.autograd.grad(mixed(q, k, v), (q, k, v), dy)

    operations = {}
    for shape, each in arrays.items():
        *inputs, dy = map(torch.tensor, each)
        inputs = [*(x.requires_grad_() for x in inputs), dy]
        for name, program in (("forward", forward), ("gradients", gradients)):
            operations[f"{shape}, {name}"] = lambda program=program, inputs=inputs: program(*inputs)
    return {"compile": lambda: None, **operations}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m experiments.benchmark attention`."""
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), help="batch x tokens x heads x features each")
    steps.add_timing(parser, rounds=9)


def run(args: argparse.Namespace) -> list[dict]:
    """Prints the table and returns what `--json` writes."""
    common = {"shapes": args.shapes, "threads": args.threads}
    cases = {name: {**common, "library": name} for name in ("jaxgen", "torch", "jax.nn")}
    operations = [f"{shape}, {name}" for shape in args.shapes for name in ("forward", "gradients")]
    return steps.compare(MODULE, cases, operations, rounds=args.rounds, json_file=args.json,
                         title="attention, float32, batch x tokens x heads x features")
