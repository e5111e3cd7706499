"""Where a training step's time goes: each kind of work, and the least time that the machine would need for it.

The floor of a kind is the larger of its operations at the machine's best measured rate of matrix products and its bytes
at its best measured bandwidth; what stays in a cache can be faster. Time is that of all threads together, from JAX's
profiler: a step on two cores has up to two seconds of it in one. On CPU large matrix products and convolutions hand
parts of their work to threads without telling the profiler: that is the last row.

    python -m experiments.benchmark roofline --config=diffusion_mnist
    python -m experiments.benchmark roofline --benchmark=autoencoder
"""

import argparse
import glob
import importlib
import json
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.benchmarks import hlo
from experiments.benchmarks.conv import ceiling
from experiments.common.machine import describe

SCRIPTS = {"vqvae": "train_vqvae", "vqvae2": "train_vqvae", "diffusion": "train_diffusion",
           "latent_diffusion": "train_latent_diffusion", "token_prior": "train_token_prior",
           "classifier": "train_classifier"}
BENCHMARKS = ("autoencoder", "unet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m experiments.benchmark roofline`."""
    parser.add_argument("--config", default="vqvae_mnist", help="a configuration's name, and after a colon its variant")
    parser.add_argument("--benchmark", choices=BENCHMARKS,
                        help="instead of a configuration's step that of a comparison with PyTorch")
    parser.add_argument("--first_stage", help="the run of a prior's tokenizer or of a latent model's autoencoder")
    parser.add_argument("--steps", type=int, default=5, help="steps in the profile")
    parser.add_argument("--longest", type=int, default=12, help="instructions to print")
    parser.add_argument("--json", type=Path, help="write the rows here")


def run(args: argparse.Namespace) -> dict:
    """Prints the tables and returns what `--json` writes."""
    name = args.benchmark or args.config
    step, text = prepare_benchmark(name) if args.benchmark else prepare(name, args.first_stage)
    rate, bandwidth = ceiling(), memory_bandwidth()
    for _ in range(2):
        step()
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for _ in range(args.steps):
        step()
    seconds, after = (time.perf_counter() - start) / args.steps, resource.getrusage(resource.RUSAGE_SELF)
    with tempfile.TemporaryDirectory() as directory:
        times, runs = profile(step, args.steps, directory)
    instructions = hlo.parse(text)
    rows = table(times, runs, instructions, rate, bandwidth)
    system, user, faults = (getattr(after, field) - getattr(before, field) for field in
                            ("ru_stime", "ru_utime", "ru_minflt"))
    total = (system + user) / args.steps
    without_name = total - sum(row["seconds"] for row in rows)
    rows.append({"kind": "without a name", "seconds": max(without_name, 0), "operations": 0, "size": 0, "floor": 0})
    print(f"{name}: a step of {1e3 * seconds:.1f} ms, {1e3 * total:.1f} ms of all threads; {describe()}")
    print(f"matrix products {rate / 1e9:.0f} GFLOP/s, memory {bandwidth / 1e9:.1f} GB/s; in a step "
          f"{1e3 * system / args.steps:.0f} ms of system time, {faults / args.steps:,.0f} page faults; peak memory "
          f"{after.ru_maxrss / 1024:,.0f} MB\n")
    print("| kind of work | ms | share | GFLOP | GB | floor ms | floor / time |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        reached = f"{row['floor'] / row['seconds']:.0%}" if row["floor"] else ""
        print(f"| {row['kind']} | {1e3 * row['seconds']:.1f} | {row['seconds'] / total:.0%} | "
              f"{row['operations'] / 1e9:.2f} | {row['size'] / 1e9:.2f} | {1e3 * row['floor']:.1f} | {reached} |")
    longest = [(name, value) for name, value in times.most_common() if name in instructions][:args.longest]
    print("\n| longest instructions | ms | kind | of |\n|---|---|---|---|")
    for name, value in longest:
        print(f"| {name} | {1e3 * value:.2f} | {instructions[name].kind} | {instructions[name].source[-70:]} |")
    result = {"config": name, "machine": describe(), "step": seconds, "rate": rate, "bandwidth": bandwidth,
              "rows": rows, "longest": longest}
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def prepare(
    asked: str, first_stage: str | None = None, changes: Mapping[str, Any] | None = None
) -> tuple[Callable, str]:
    """(a function that runs one training step to its end, the compiled program's text) of a configuration.

    Args:
        asked: its name, and after a colon its variant.
        first_stage: the run of a prior's tokenizer or of a latent model's autoencoder.
        changes: other values, by dotted names.
    """
    import jax

    from experiments.common import command_line, training

    _, config = command_line.find_config("config", asked, asked)
    for option in ("tokenizer", "autoencoder"):
        if first_stage and option in config:
            config[option] = first_stage
    config.update_from_flattened_dict(dict(changes or {}))
    recipe = importlib.import_module(f"experiments.{script_of(config)}").build(config, None)
    step, state, batches = training.make_step(recipe, config)
    batch = next(batches)
    compiled = training.compile_for(config, step).lower(state, batch).compile()
    holder = {"state": state}

    def once():
        holder["state"], metrics = compiled(holder["state"], batch)
        jax.block_until_ready((holder["state"], metrics))

    return once, compiled.as_text()


def prepare_benchmark(name: str) -> tuple[Callable, str]:
    """The same of our side of a comparison of steps, in its default sizes."""
    operations = importlib.import_module(f"experiments.benchmarks.{name}").prepare(
        {**default_sizes(name), "library": "jaxgen"})
    return operations["step"], operations["compile"]().as_text()


def default_sizes(name: str) -> dict[str, Any]:
    """What the cases of a comparison of steps share where no option is passed."""
    module, parser = importlib.import_module(f"experiments.benchmarks.{name}"), argparse.ArgumentParser()
    module.add_arguments(parser)
    return module.sizes(parser.parse_args([]))


def script_of(config: Mapping[str, Any]) -> str:
    """The script that trains what a configuration describes."""
    return "train_vqgan" if "adversarial" in config else SCRIPTS[config.model.name]


def profile(step: Callable, steps: int, directory: str) -> tuple[Counter, Counter]:
    """({instruction: seconds of a step}, {instruction: runs in a step}) by JAX's profiler, in all threads together."""
    import jax

    with jax.profiler.trace(directory):
        for _ in range(steps):
            step()
    times, runs = Counter(), Counter()
    for file in glob.glob(f"{directory}/**/*.xplane.pb", recursive=True):
        for plane in jax.profiler.ProfileData.from_file(file).planes:
            for line in plane.lines:
                # What has no name of an instruction waits for other threads.
                events = [(e.start_ns, e.duration_ns, dict(e.stats).get("hlo_op", "")) for e in line.events
                          if not line.name.startswith("python")]
                times.update(self_times(events))
                runs.update(name for _, _, name in events)
    return (Counter({name: value * 1e-9 / steps for name, value in times.items()}),
            Counter({name: value / steps for name, value in runs.items()}))


def self_times(events: list[tuple[float, float, str]]) -> Counter:
    """{name: time} of nested events (start, duration, name) of one thread, each without those inside it."""
    times, open_events = Counter(), []
    for start, duration, name in sorted(events, key=lambda event: (event[0], -event[1])):
        while open_events and open_events[-1][0] <= start:
            open_events.pop()
        if open_events:
            times[open_events[-1][1]] -= duration
        times[name] += duration
        open_events.append((start + duration, name))
    return times


def table(
    times: Counter, runs: Counter, instructions: dict[str, hlo.Instruction], rate: float, bandwidth: float
) -> list[dict]:
    """A row for each kind of work that takes time, the longest first."""
    rows = {}
    for name, value in times.items():
        if name not in instructions:  # waiting for other threads, or not this program's
            continue
        kind, operations, size, _ = instructions[name]
        row = rows.setdefault(kind, {"kind": kind, "seconds": 0.0, "operations": 0.0, "size": 0.0})
        row["seconds"] += value
        row["operations"] += operations * runs[name]
        row["size"] += size * runs[name]
    for row in rows.values():
        row["floor"] = max(row["operations"] / rate, row["size"] / bandwidth)
    return sorted(rows.values(), key=lambda row: -row["seconds"])


def memory_bandwidth(rounds: int = 9, size: int = 1 << 26) -> float:
    """The best measured rate of reading and writing a large array, in bytes per second."""
    import jax
    import jax.numpy as jnp

    x = jnp.zeros(size)
    add = jax.jit(lambda x: x + 1)
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        add(x).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * x.nbytes / min(times)
