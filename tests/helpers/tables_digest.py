"""The digest of the tables that networks of whole numbers make: `python -m tests.helpers.tables_digest FILE SIZE`.

It imports jax and the codec only, so that a process with other options of XLA starts soon.
"""

import hashlib
import json
import sys

import jax
import numpy as np

from jaxgen.codec import softmax_frequencies
from jaxgen.codec.integer_transformer import IntegerTransformer, Sizes
from jaxgen.codec.networks import IntegerMasked, IntegerNext

PARTS = ("weights", "tables")


def save(path, networks, tokens):
    """Networks by "causal" and "masked", and tokens [B, N] of both."""
    arrays = {f"{name}|{part}|{key}": value for name, network in networks.items() for part in PARTS
              for key, value in getattr(network, part).items()}
    sizes = json.dumps({name: network.sizes for name, network in networks.items()})
    np.savez(path, **arrays, tokens=tokens, sizes=np.frombuffer(sizes.encode(), np.uint8))


def digest_of(path, size):
    """Of the tables of both networks, the causal one token by token, in batches of `size`."""
    with np.load(path) as archive:
        arrays = dict(archive.items())
    tokens, networks = arrays.pop("tokens"), {}
    for name, (*numbers, shifts) in json.loads(arrays.pop("sizes").tobytes()).items():
        own = {part: {key.removeprefix(f"{name}|{part}|"): value for key, value in arrays.items()
                      if key.startswith(f"{name}|{part}|")} for part in PARTS}
        networks[name] = IntegerTransformer(sizes=Sizes(*numbers, tuple(map(tuple, shifts))), unit=1.0, **own)
    causal, masked = IntegerNext(network=networks["causal"]), IntegerMasked(network=networks["masked"])
    known, result = np.arange(tokens.shape[1]) % 3 == 0, hashlib.sha256()
    logits = []
    for start in range(0, len(tokens), size):
        part = tokens[start:start + size]
        state, last, parts = causal.start(len(part), part.shape[1]), np.zeros(len(part), np.int64), []
        for index in range(part.shape[1]):
            now, state = causal.next(state, last, index)
            parts.append(now)
            last = part[:, index]
        logits.append(np.concatenate([np.stack(parts, 1), masked.logits(part, known, 1)], -1))
    for row in np.concatenate(logits):
        result.update(softmax_frequencies(row).astype("<i4").tobytes())
    return result.hexdigest()


if __name__ == "__main__":
    print(jax.config.jax_enable_x64, len(jax.devices()), digest_of(sys.argv[1], int(sys.argv[2])))
