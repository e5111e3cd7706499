"""Time and peak memory of quantizers, compared with vector-quantize-pytorch where it is installed.

For each quantizer and codebook size: the training step (forward, gradient in the vectors and the parameters, codebook
update), the indices by themselves, and the memory that one training step adds at its peak. Every case runs in a
process of its own; times are medians of runs that alternate between the libraries.
"""

import argparse
import importlib.util
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path

from experiments.benchmarks.measure import Worker, WorkerError, available_memory
from experiments.common.machine import describe

PEER = "vector-quantize-pytorch"
LEVELS = {512: [8, 8, 8], 16_384: [16, 8, 8, 16], 262_144: [8, 8, 8, 8, 8, 8]}
QUANTIZERS = ("vq", "vq_ema", "simvq", "fsq", "lfq", "gumbel")
WITHOUT_PEER = ("gumbel",)
_GUMBEL_CODES = 65_536  # above it, the [vectors, codes] matrix that gumbel needs by its nature takes gigabytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's options."""
    parser.add_argument("--codes", type=int, nargs="+", default=[512, 16_384, 262_144], help="codebook sizes")
    parser.add_argument("--vectors", type=int, default=1024, help="vectors per step")
    parser.add_argument("--dim", type=int, default=18, help="components of a vector (fsq and lfq have their own)")
    parser.add_argument("--quantizers", nargs="+", default=list(QUANTIZERS), choices=QUANTIZERS)
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each case")
    parser.add_argument("--json", type=Path, help="also write the results to this file")


def run(args: argparse.Namespace) -> None:
    """Measures, prints a table and, with `--json`, writes it."""
    peer = importlib.util.find_spec("vector_quantize_pytorch") is not None
    if not peer:
        print(f"{PEER} is not installed: measuring jaxgen only.")
    print(f"{args.vectors} vectors of {args.dim} components; medians of {args.repeats} alternating runs")
    print(f"{describe()}\n")
    print(f"{'quantizer':<10}{'codes':>9}  {'library':<25}{'step ms':>10}{'indices ms':>12}{'peak MB':>10}", flush=True)
    rows = []
    for quantizer in args.quantizers:
        for codes in args.codes:
            if quantizer == "gumbel" and codes > _GUMBEL_CODES:
                continue
            libraries = ["jaxgen", PEER] if peer and quantizer not in WITHOUT_PEER else ["jaxgen"]
            for row in _measure(quantizer, codes, libraries, args):
                rows.append(row)
                print(_line(row), flush=True)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        result = {"vectors": args.vectors, "dim": args.dim, "results": rows}
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _line(row: dict) -> str:
    start = f"{row['quantizer']:<10}{row['codes']:>9}  {row['library']:<25}"
    if "error" in row:
        return f"{start}{row['error'].splitlines()[0][:60]}"
    return f"{start}{row['step_ms']:>10.1f}{row['indices_ms']:>12.1f}{row['peak_mb']:>10.0f}"


def _measure(quantizer: str, codes: int, libraries: list[str], args: argparse.Namespace) -> list[dict]:
    rows = {name: {"quantizer": quantizer, "codes": codes, "library": name} for name in libraries}
    workers = {}
    limit = available_memory()
    try:
        for name, row in rows.items():
            case = {"library": name, "quantizer": quantizer, "codes": codes, "vectors": args.vectors, "dim": args.dim}
            try:
                worker = Worker(__name__, case, memory_limit=limit and int(0.6 * limit))
                row["peak_mb"] = worker.peak_bytes("step") / 1e6
                worker.seconds("indices")
                workers[name] = worker
            except WorkerError as error:
                row["error"] = str(error)
        times = {name: {"step": [], "indices": []} for name in workers}
        for _ in range(args.repeats):
            for operation in ("step", "indices"):
                for name, worker in workers.items():
                    times[name][operation].append(1e3 * worker.seconds(operation))
        for name, runs in times.items():
            rows[name] |= {f"{operation}_ms": statistics.median(values) for operation, values in runs.items()}
    finally:
        for worker in workers.values():
            worker.close()
    return list(rows.values())


def prepare(case: dict) -> dict[str, Callable[[], object]]:
    """The operations "step" and "indices" of one case, compiled where that applies."""
    return (_prepare_jaxgen if case["library"] == "jaxgen" else _prepare_peer)(**case)


def _levels(codes: int) -> list[int]:
    if codes in LEVELS:
        return LEVELS[codes]
    raise ValueError(f"fsq has levels here for {sorted(LEVELS)} codes, not for {codes}.")


def _bits(codes: int) -> int:
    if codes != 2 ** round(math.log2(codes)):
        raise ValueError(f"lfq needs a power of two, not {codes} codes.")
    return round(math.log2(codes))


def _dim_of(quantizer: str, codes: int, dim: int) -> int:
    return {"fsq": lambda: len(_levels(codes)), "lfq": lambda: _bits(codes)}.get(quantizer, lambda: dim)()


def _prepare_jaxgen(library: str, quantizer: str, codes: int, vectors: int, dim: int) -> dict:
    import jax
    import jax.numpy as jnp

    from jaxgen import quantize

    made = {
        "vq": lambda: quantize.vq(codes),
        "vq_ema": lambda: quantize.vq(codes, ema_decay=0.99),
        "simvq": lambda: quantize.simvq(codes),
        "fsq": lambda: quantize.fsq(_levels(codes)),
        "lfq": lambda: quantize.lfq(_bits(codes)),
        "gumbel": lambda: quantize.gumbel(codes),
    }[quantizer]()
    key = jax.random.key(0)
    dim = _dim_of(quantizer, codes, dim)
    variables = jax.block_until_ready(made.init(key, dim))
    z = jax.block_until_ready(jax.random.normal(key, (vectors, dim)))

    def step(params, state, z):
        def loss(params, z):
            output, new_state = made.apply(quantize.Variables(params, state), z, train=True, key=key)
            return jnp.mean(jnp.square(output.quantized)) + sum(map(jnp.mean, output.losses.values())), new_state

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, z)

    compiled_step = jax.jit(step).lower(*variables, z).compile()
    compiled_indices = jax.jit(lambda v, z: made.apply(v, z)[0].indices).lower(variables, z).compile()
    return {
        "step": lambda: jax.block_until_ready(compiled_step(*variables, z)),
        "indices": lambda: jax.block_until_ready(compiled_indices(variables, z)),
    }


def _prepare_peer(library: str, quantizer: str, codes: int, vectors: int, dim: int) -> dict:
    import torch
    import vector_quantize_pytorch as peer

    dim = _dim_of(quantizer, codes, dim)
    shared = {"dim": dim, "codebook_size": codes}
    made = {
        "vq": lambda: peer.VectorQuantize(
            **shared, learnable_codebook=True, ema_update=False, commitment_weight=0.25, rotation_trick=False
        ),
        "vq_ema": lambda: peer.VectorQuantize(**shared, decay=0.99, commitment_weight=0.25, rotation_trick=False),
        "simvq": lambda: peer.SimVQ(**shared, rotation_trick=False),
        "fsq": lambda: peer.FSQ(_levels(codes)),
        "lfq": lambda: peer.LFQ(**shared, entropy_loss_weight=0.1, commitment_loss_weight=0.25),
    }[quantizer]()
    z = torch.randn(1, vectors, dim)

    def step():
        made.train()
        made.zero_grad()
        leaf = z.clone().requires_grad_()
        quantized, _, *losses = made(leaf)
        (quantized.square().mean() + sum(loss.sum() for loss in losses)).backward()

    def indices():
        made.eval()
        with torch.no_grad():
            made(z)

    return {"step": step, "indices": indices}
