"""Compiles and times the demo's training step, with the convolutions of `jaxgen.conv` and with the compiler's.

Compilation is timed in processes that start fresh, one of each kind in turn; tracing is not part of it.
"""

import argparse
import json
import statistics
from pathlib import Path

from experiments.benchmarks.measure import Worker
from experiments.common.machine import describe

MODULE = "experiments.benchmarks.demo"
CONVOLUTIONS = ("jaxgen", "native")


def prepare(case: dict) -> dict:
    """{"compile", "step"} of the demo with the case's convolutions."""
    from functools import partial

    import jax

    from experiments.configs import vqvae_mnist
    from jaxgen import models, objectives, train
    from jaxgen.core.cpu import compiler_options

    if case["convolutions"] == "native":
        use_native_convolutions()
    config = vqvae_mnist.get_config()
    model = models.build(**config.model.to_dict(), example_channels=1)
    optimizer = train.make_optimizer("adamw", learning_rate=1e-3)
    step = jax.jit(
        train.make_train_step(partial(objectives.vqvae_loss, forward=model.forward, num_codes=model.num_codes),
                              optimizer, run_key=jax.random.key(0), ema_decay=config.ema_decay),
        donate_argnums=0, compiler_options=compiler_options())
    variables = jax.jit(model.init, static_argnums=1)(jax.random.key(0), (28, 28, 1))
    holder = {"state": train.init_state(*variables, optimizer, ema=True)}
    batch = {"image": jax.random.uniform(jax.random.key(1), (config.data.batch_size, 28, 28, 1), minval=-1)}
    lowered = step.lower(holder["state"], batch)

    def compile_step():
        holder["step"] = lowered.compile()

    def run():
        holder["state"], metrics = holder["step"](holder["state"], batch)
        jax.block_until_ready((holder["state"], metrics))

    return {"compile": compile_step, "step": run}


def use_native_convolutions() -> None:
    """Has this process lower its convolutions on CPU to `lax.conv_general_dilated`, as on other platforms."""
    from jax.interpreters import mlir

    from jaxgen.conv import primitive

    for which, native in ((primitive.conv_p, primitive.native_conv),
                          (primitive.kernel_gradient_p, primitive.native_kernel_gradient)):
        mlir.register_lowering(which, mlir.lower_fun(native, multiple_results=False), platform="cpu")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m experiments.benchmark demo`."""
    parser.add_argument("--rounds", type=int, default=3, help="processes of each kind, in turn")
    parser.add_argument("--steps", type=int, default=15, help="training steps timed in each process")
    parser.add_argument("--json", type=Path, help="write the rows here")


def run(args: argparse.Namespace) -> list[dict]:
    """Prints the table and returns what `--json` writes."""
    seconds = {name: [] for name in CONVOLUTIONS}
    times = {name: [] for name in CONVOLUTIONS}
    for _ in range(args.rounds):
        for name in CONVOLUTIONS:
            with Worker(MODULE, {"convolutions": name}) as worker:
                seconds[name].append(worker.seconds("compile"))
                worker.seconds("step")
                times[name] += [worker.seconds("step") for _ in range(args.steps)]
    print(f"the demo's training step; {describe()}")
    print("| convolutions | compilation s, median | least | step ms, median | least |")
    print("|---|---|---|---|---|")
    rows = []
    for name in CONVOLUTIONS:
        row = {"convolutions": name, "compile": statistics.median(seconds[name]), "compile_least": min(seconds[name]),
               "step": statistics.median(times[name]), "step_least": min(times[name])}
        print(f"| {name} | {row['compile']:.1f} | {row['compile_least']:.1f} | {1e3 * row['step']:.0f} | "
              f"{1e3 * row['step_least']:.0f} |")
        rows.append(row)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return rows
