"""Vectors by NumPy, and results of jitted functions as NumPy arrays: eager operations compile a program each."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core.types import Variables


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def run(function, *arguments):
    return jax.device_get(jax.jit(function)(*arguments))


def start(quantizer, dim):
    return run(lambda key: quantizer.init(key, dim), jax.random.key(0))


def trained(quantizer, variables, batches, levels=()):
    """The indices, the state and the codes after each of the steps on these batches, in one program.

    The codes are all of them; of a quantizer of `levels` (one number) sums of the same code of each.
    """

    def step(state, inputs):
        number, z = inputs
        output, state = quantizer.apply(
            Variables(variables.params, state), z, train=True, key=jax.random.fold_in(jax.random.key(0), number))
        numbers = jnp.broadcast_to(jnp.arange(quantizer.num_codes), (*levels, quantizer.num_codes)).T
        codes = quantizer.lookup(Variables(variables.params, state), numbers)
        return state, (output.indices, state, codes)

    return run(lambda state: jax.lax.scan(step, state, (np.arange(len(batches)), batches))[1], variables.state)
