"""Times MaskGIT's decoding of a few steps against autoregressive decoding, by networks of one size.

A step of MaskGIT passes all N tokens through the network. Autoregressive decoding does so N times; with a cache it
passes each token once, one after the other, which is N calls of one token: that loses to MaskGIT where a call's cost
hardly depends on its tokens (an accelerator that is far from full) and wins where arithmetic takes the time.
"""

import argparse
from pathlib import Path

from experiments.benchmarks import steps

MODULE = "experiments.benchmarks.prior"


def prepare(case: dict) -> dict:
    """{"compile", and "N tokens" for each N of the case}: one batch of tokens, from nothing to the last one."""
    import jax
    import jax.numpy as jnp

    from jaxgen import nn
    from jaxgen import tokens as tk
    from jaxgen.core.cpu import compiler_options

    masked, codes, batch = case["steps"] is not None, case["codes"], case["batch"]
    key, compiled, operations = jax.random.key(0), {}, {}

    def prepared(length):
        network = nn.Transformer(
            num_tokens=codes + masked, num_outputs=codes, features=case["features"], depth=case["depth"],
            heads=case["heads"], max_length=length, causal=not masked, num_classes=10)
        time = jnp.ones(batch) if masked else None
        classes = jnp.arange(batch) % 10
        params = jax.jit(network.init)(key, jnp.zeros((batch, length), jnp.int32), time=time, classes=classes)

        def decode(params, key):
            def logits(tokens, t, cond):
                return network.apply(params, tokens, time=t, classes=cond)

            def following(tokens, cache, index, cond):
                return network.apply(params, tokens, classes=cond, cache=cache, index=index)

            def whole(before, tokens, index, cond):  # the "cache" is the sequence so far
                tokens = jax.lax.dynamic_update_slice(tokens, before, (0, jnp.maximum(index - 1, 0)))
                logits = network.apply(params, tokens, classes=cond)
                return jax.lax.dynamic_slice_in_dim(logits, index, 1, axis=1), tokens

            if masked:
                return tk.sample_tokens(key, logits, tk.maskgit(), tk.mask_times(case["steps"]), (batch, length),
                                        mask_id=codes, cond=classes)
            next_fn, cache = (following, network.init_cache(batch)) if case["cached"] else (
                whole, jnp.zeros((batch, length), jnp.int32))
            return tk.autoregressive_sample(key, next_fn, cache, (batch, length), cond=classes)

        return jax.jit(decode, compiler_options=compiler_options()), params

    def run(name):
        function, params = compiled[name]
        jax.block_until_ready(function(params, key))

    def compile_all():
        for length in case["lengths"]:
            function, params = prepared(length)
            compiled[f"{length} tokens"] = function.lower(params, key).compile(), params

    for length in case["lengths"]:
        operations[f"{length} tokens"] = lambda name=f"{length} tokens": run(name)
    return {"compile": compile_all, **operations}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m experiments.benchmark prior`."""
    parser.add_argument("--lengths", type=int, nargs="+", default=[49, 64], help="tokens of a sequence")
    parser.add_argument("--steps", type=int, nargs="+", default=[8, 12], help="steps of MaskGIT's decoding")
    parser.add_argument("--batch", type=int, default=64, help="sequences")
    parser.add_argument("--codes", type=int, default=512, help="codes to choose from")
    parser.add_argument("--features", type=int, default=128, help="of the transformers")
    parser.add_argument("--depth", type=int, default=4, help="blocks of the transformers")
    parser.add_argument("--heads", type=int, default=4, help="of the transformers")
    parser.add_argument("--rounds", type=int, default=7, help="alternated rounds")
    parser.add_argument("--json", type=Path, help="write the rows here")


def run(args: argparse.Namespace) -> list[dict]:
    """Prints the table and how much faster MaskGIT is; returns what `--json` writes."""
    common = {name: getattr(args, name) for name in ("lengths", "batch", "codes", "features", "depth", "heads")}
    cases = {"autoregressive, cached": {**common, "steps": None, "cached": True},
             "autoregressive": {**common, "steps": None, "cached": False}}
    cases |= {f"MaskGIT, {count} steps": {**common, "steps": count} for count in args.steps}
    rows = steps.compare(
        MODULE, cases, [f"{length} tokens" for length in args.lengths], rounds=args.rounds, json_file=args.json,
        column="decoding", title=f"{args.batch} sequences, {args.depth} blocks of {args.features} features, "
                                 f"{args.codes} codes",
    )
    times = {(row["operation"], row["library"]): row for row in rows}
    for operation, name in times:
        kinds = ("autoregressive", "autoregressive, cached")
        if name.startswith("MaskGIT") and all((operation, kind) in times for kind in kinds):
            ratios = (times[operation, kind]["median"] / times[operation, name]["median"] for kind in kinds)
            print("{}, {}: {:.2f} times as fast as autoregressive, {:.2f} times as with a cache".format(
                operation, name, *ratios))
    return rows
