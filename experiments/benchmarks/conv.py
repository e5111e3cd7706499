"""Times one convolution, forward and both gradients: ours, native JAX and PyTorch, alternated in one run.

Both JAX programs are compiled with the options that training has on CPU (`jaxgen.core.cpu`).

The floor counts the operations of the direct sum over the matrix-product ceiling; tiles need up to four times fewer,
so the share can pass 100%. PyTorch's threads wait for each other: on a busy machine its time grows more than ours, and
one core each (`taskset -c 0 ... --threads 1`) is the fairer comparison.
"""

import argparse
import json
import math
import statistics
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.benchmarks.machine import describe
from jaxgen.conv import conv
from jaxgen.core.cpu import compiler_options

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
LAYOUT = ("NHWC", "HWIO", "NHWC")


def native(x, kernel, stride):
    """The compiler's own convolution."""
    return lax.conv_general_dilated(x, kernel, (stride, stride), _pads(kernel.shape[0]), dimension_numbers=LAYOUT)


def ours(x, kernel, stride):
    """The convolution of `jaxgen.models`."""
    return conv(x, kernel, strides=stride, padding=_pads(kernel.shape[0]))


def _pads(size):
    return ((size - 1) // 2, (size - 1) // 2), ((size - 1) // 2, (size - 1) // 2)


def _jax_step(function, stride, arrays):
    x, kernel, dy = (jnp.asarray(a) for a in arrays)

    @partial(jax.jit, compiler_options=compiler_options())
    def step(x, kernel, dy):
        y, backward = jax.vjp(partial(function, stride=stride), x, kernel)
        return y, backward(dy)

    def run():
        jax.block_until_ready(step(x, kernel, dy))

    return run


def _torch_step(torch, layout, stride, arrays):
    x, kernel, dy = arrays
    memory = torch.channels_last if layout == "nhwc" else torch.contiguous_format
    x = torch.tensor(x).permute(0, 3, 1, 2).contiguous(memory_format=memory).requires_grad_()
    weight = torch.tensor(kernel).permute(3, 2, 0, 1).contiguous(memory_format=memory).requires_grad_()
    dy = torch.tensor(dy).permute(0, 3, 1, 2).contiguous(memory_format=memory)
    padding = (kernel.shape[0] - 1) // 2

    def run():
        y = torch.nn.functional.conv2d(x, weight, stride=stride, padding=padding)
        torch.autograd.grad(y, (x, weight), dy)

    return run


def _torch(threads):
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads)
    return torch


def alternate(steps, rounds):
    """Milliseconds of each of `steps` in `rounds` rounds; each round runs them all in turn.

    The second of two runs is timed: after one of another library the first one finds that library's threads spinning
    in wait for more work, and its memory taken.
    """
    times = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            step()
            start = time.perf_counter()
            step()
            times[name].append(1e3 * (time.perf_counter() - start))
    return times


def ceiling(rounds=9, size=2048):
    """The best measured rate of a float32 matrix product, in operations per second."""
    a = jnp.ones((size, size))
    product = jax.jit(jnp.dot, compiler_options=compiler_options())
    times = alternate({"product": lambda: product(a, a).block_until_ready()}, rounds)["product"]
    return 2 * size**3 / (1e-3 * min(times))


def measure(shape, rate, *, torch, rounds):
    """One row: medians in milliseconds, ratios, and the share of the matrix-product ceiling."""
    batch, height, width, cin, cout, size, stride = shape
    generator = np.random.default_rng(0)
    x = generator.standard_normal((batch, height, width, cin), np.float32)
    kernel = generator.standard_normal((size, size, cin, cout), np.float32) / math.sqrt(size * size * cin)
    out = jax.eval_shape(partial(native, stride=stride), x, kernel).shape
    arrays = (x, kernel, generator.standard_normal(out, np.float32))
    steps = {"ours": _jax_step(ours, stride, arrays), "native": _jax_step(native, stride, arrays)}
    if torch is not None:
        steps |= {f"torch_{layout}": _torch_step(torch, layout, stride, arrays) for layout in ("nchw", "nhwc")}
    times = alternate(steps, rounds)
    row = {"shape": list(shape)} | {name: statistics.median(values) for name, values in times.items()}
    row |= {f"{name}_min": min(values) for name, values in times.items()}
    row["native_over_ours"] = row["native"] / row["ours"]
    if torch is not None:
        best = min("torch_nchw", "torch_nhwc", key=row.get)
        row |= {"torch": row[best], "torch_min": row[f"{best}_min"], "ours_over_torch": row["ours"] / row[best],
                "ours_over_torch_min": row["ours_min"] / row[f"{best}_min"]}
    operations = 3 * 2 * math.prod(out) * size * size * cin
    row["floor"] = 1e3 * operations / rate
    row["share"] = row["floor"] / row["ours"]
    return row


def _line(row):
    batch, height, width, cin, cout, size, stride = row["shape"]
    name = f"[{batch},{height},{width},{cin}]->{cout}, {size}" + (f"/{stride}" if stride > 1 else "")
    numbers = [row["floor"], row["ours"], row["native"], row.get("torch", math.nan)]
    ratios = [row["native_over_ours"], row.get("ours_over_torch", math.nan), row.get("ours_over_torch_min", math.nan)]
    return "| " + " | ".join([name, *(f"{n:.1f}" for n in numbers), *(f"{r:.2f}" for r in ratios),
                              f"{row['share']:.0%}"]) + " |"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m experiments.benchmark conv`."""
    parser.add_argument("--rounds", type=int, default=15, help="alternated rounds per shape")
    parser.add_argument("--threads", type=int, default=2, help="PyTorch's threads; JAX takes the machine's cores")
    parser.add_argument("--more", action="store_true", help="strided, large and small shapes as well")
    parser.add_argument("--json", type=Path, help="write the rows here")


def run(args: argparse.Namespace) -> dict:
    """Prints the table and returns what `--json` writes."""
    torch, rate = _torch(args.threads), ceiling()
    print(f"float32, forward + both gradients; matrix-product ceiling {rate / 1e9:.0f} GFLOP/s; milliseconds, medians; "
          f"{describe()}")
    print("| shape, kernel/stride | floor | ours | native JAX | torch | native/ours | ours/torch | by minima | share |")
    print("|---|---|---|---|---|---|---|---|---|")
    rows = []
    for shape in SHAPES + (MORE_SHAPES if args.more else ()):
        rows.append(measure(shape, rate, torch=torch, rounds=args.rounds))
        print(_line(rows[-1]), flush=True)
    result = {"ceiling": rate, "rows": rows}
    for key in ("ours_over_torch", "ours_over_torch_min", "native_over_ours"):
        if all(key in row for row in rows):
            result[f"geometric_mean_{key}"] = statistics.geometric_mean(row[key] for row in rows[: len(SHAPES)])
            print(f"geometric mean {key} over the first {len(SHAPES)}: {result[f'geometric_mean_{key}']:.2f}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2), encoding="utf-8")
    return result
