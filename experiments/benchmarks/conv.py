"""Times one convolution, forward and both gradients: ours, native JAX and PyTorch, alternated in one run.

Each library runs in a process of its own, and both JAX programs are compiled with the options that training has on CPU
(`jaxgen.core.cpu`). The floor counts the operations of the direct sum over the matrix-product ceiling; tiles need up to
four times fewer, so the share can pass 100%.
"""

import argparse
import importlib.util
import json
import math
import statistics
import time
from functools import partial

from experiments.benchmarks import steps
from experiments.benchmarks.measure import Worker
from experiments.common.machine import describe

MODULE = "experiments.benchmarks.conv"
# (batch, height, width, channels in, channels out, kernel, stride)
SHAPES = (
    (32, 32, 32, 64, 64, 3, 1),
    (32, 16, 16, 128, 128, 3, 1),
    (32, 8, 8, 256, 256, 3, 1),
    (64, 32, 32, 32, 32, 3, 1),
    (128, 28, 28, 32, 32, 3, 1),
    (32, 32, 32, 3, 64, 3, 1),
    (32, 32, 32, 64, 3, 3, 1),
    (32, 16, 16, 128, 128, 1, 1),
    (64, 14, 14, 64, 64, 3, 1),
    (64, 7, 7, 128, 128, 3, 1),
)
MORE_SHAPES = (
    (32, 32, 32, 64, 64, 3, 2),
    (32, 16, 16, 128, 128, 3, 2),
    (32, 32, 32, 64, 128, 4, 2),
    (32, 32, 32, 3, 64, 4, 2),
    (32, 32, 32, 64, 128, 1, 1),
    (16, 64, 64, 64, 64, 3, 1),
    (4, 128, 128, 64, 64, 3, 1),
    (1, 32, 32, 64, 64, 3, 1),
    (4, 8, 8, 256, 256, 3, 1),
)
TORCH = ("torch_nchw", "torch_nhwc")
WARM_SECONDS, RUNS = 1.0, 5


def prepare(case: dict) -> dict:
    """{"compile", and each of the case's shapes by its label} of the case's library."""
    import numpy as np

    steps = {}
    for shape in map(tuple, case["shapes"]):
        generator = np.random.default_rng(0)
        batch, height, width, cin, cout, size, stride = shape
        x = generator.standard_normal((batch, height, width, cin), np.float32)
        kernel = generator.standard_normal((size, size, cin, cout), np.float32) / math.sqrt(size * size * cin)
        arrays = x, kernel, generator.standard_normal(output_shape(shape), np.float32)
        make = partial(_torch_step, case["threads"]) if case["library"] in TORCH else _jax_step
        steps[label(shape)] = make(case["library"], stride, arrays)

    def compile_all():
        for step in steps.values():
            step()

    return {"compile": compile_all, **steps}


def output_shape(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Of the convolution with (size - 1) // 2 zeros on each side."""
    batch, height, width, _, cout, size, stride = shape
    padding = 2 * ((size - 1) // 2)
    return (batch, *((n + padding - size) // stride + 1 for n in (height, width)), cout)


def _jax_step(library, stride, arrays):
    import jax
    import jax.numpy as jnp

    from jaxgen.conv import conv
    from jaxgen.core.cpu import compiler_options

    x, kernel, dy = (jnp.asarray(a) for a in arrays)
    pads = ((kernel.shape[0] - 1) // 2,) * 2, ((kernel.shape[0] - 1) // 2,) * 2

    def native(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (stride, stride), pads,
                                            dimension_numbers=("NHWC", "HWIO", "NHWC"))

    function = partial(conv, strides=stride, padding=pads) if library == "ours" else native

    @partial(jax.jit, compiler_options=compiler_options())
    def step(x, kernel, dy):
        y, backward = jax.vjp(function, x, kernel)
        return y, backward(dy)

    return lambda: jax.block_until_ready(step(x, kernel, dy))


def _torch_step(threads, library, stride, arrays):
    import torch

    torch.set_num_threads(threads)
    x, kernel, dy = arrays
    memory = torch.channels_last if library == "torch_nhwc" else torch.contiguous_format
    x = torch.tensor(x).permute(0, 3, 1, 2).contiguous(memory_format=memory).requires_grad_()
    weight = torch.tensor(kernel).permute(3, 2, 0, 1).contiguous(memory_format=memory).requires_grad_()
    dy = torch.tensor(dy).permute(0, 3, 1, 2).contiguous(memory_format=memory)
    padding = (kernel.shape[0] - 1) // 2

    def run():
        y = torch.nn.functional.conv2d(x, weight, stride=stride, padding=padding)
        torch.autograd.grad(y, (x, weight), dy)

    return run


def alternate(workers: dict[str, Worker], operation: str, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each library in `rounds` rounds; each round lets every one of them run warm, and times RUNS runs.

    Next to another library's threads, which spin for a while in wait for more work, the system puts both threads of a
    short program on one core, and takes a few dozen milliseconds to part them: nothing that a user's program meets.
    """
    times = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            start = time.perf_counter()
            while time.perf_counter() - start < WARM_SECONDS:
                worker.seconds(operation)
            times[name] += [1e3 * worker.seconds(operation) for _ in range(RUNS)]
    return times


def ceiling(rounds: int = 9, size: int = 2048) -> float:
    """The best measured rate of a float32 matrix product, in operations per second."""
    import jax
    import jax.numpy as jnp

    from jaxgen.core.cpu import compiler_options

    a, times = jnp.ones((size, size)), []
    product = jax.jit(jnp.dot, compiler_options=compiler_options())
    for _ in range(rounds + 1):
        start = time.perf_counter()
        product(a, a).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


def row_of(shape: tuple[int, ...], rate: float, times: dict[str, list[float]]) -> dict:
    """Medians and least times in milliseconds, ratios, and the share of the matrix-product ceiling."""
    row = {"shape": list(shape)} | {name: statistics.median(values) for name, values in times.items()}
    row |= {f"{name}_min": min(values) for name, values in times.items()}
    row["native_over_ours"] = row["native"] / row["ours"]
    if TORCH[0] in times:
        best = min(TORCH, key=row.get)
        row |= {"torch": row[best], "torch_min": row[f"{best}_min"], "ours_over_torch": row["ours"] / row[best],
                "ours_over_torch_min": row["ours_min"] / row[f"{best}_min"]}
    _, _, _, cin, _, size, _ = shape
    row["floor"] = 1e3 * 3 * 2 * math.prod(output_shape(shape)) * size * size * cin / rate
    row["share"] = row["floor"] / row["ours"]
    return row


def label(shape: tuple[int, ...]) -> str:
    """[batch,height,width,channels]->channels, kernel/stride."""
    batch, height, width, cin, cout, size, stride = shape
    return f"[{batch},{height},{width},{cin}]->{cout}, {size}" + (f"/{stride}" if stride > 1 else "")


def _line(row):
    numbers = [row["floor"], row["ours"], row["native"], row.get("torch", math.nan)]
    ratios = [row["native_over_ours"], row.get("ours_over_torch", math.nan), row.get("ours_over_torch_min", math.nan)]
    return "| " + " | ".join([label(row["shape"]), *(f"{n:.1f}" for n in numbers), *(f"{r:.2f}" for r in ratios),
                              f"{row['share']:.0%}"]) + " |"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m experiments.benchmark conv`."""
    steps.add_timing(parser, rounds=5)
    parser.add_argument("--more", action="store_true", help="strided, large and small shapes as well")


def run(args: argparse.Namespace) -> dict:
    """Prints the table and returns what `--json` writes."""
    rate, shapes = ceiling(), SHAPES + (MORE_SHAPES if args.more else ())
    print(f"float32, forward + both gradients; matrix-product ceiling {rate / 1e9:.0f} GFLOP/s; milliseconds, medians; "
          f"{describe()}")
    print("| shape, kernel/stride | floor | ours | native JAX | torch | native/ours | ours/torch | by minima | share |")
    print("|---|---|---|---|---|---|---|---|---|")
    libraries = ("ours", "native", *(TORCH if importlib.util.find_spec("torch") else ()))
    workers = {name: Worker(MODULE, {"library": name, "shapes": shapes, "threads": args.threads}) for name in libraries}
    rows = []
    for worker in workers.values():
        worker.seconds("compile")
    for shape in shapes:
        rows.append(row_of(shape, rate, alternate(workers, label(shape), args.rounds)))
        print(_line(rows[-1]), flush=True)
    for worker in workers.values():
        worker.close()
    result = {"ceiling": rate, "rows": rows}
    for key in ("ours_over_torch", "ours_over_torch_min", "native_over_ours"):
        if all(key in row for row in rows):
            result[f"geometric_mean_{key}"] = statistics.geometric_mean(row[key] for row in rows[: len(SHAPES)])
            print(f"geometric mean {key} over the first {len(SHAPES)}: {result[f'geometric_mean_{key}']:.2f}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2), encoding="utf-8")
    return result
