"""Vectors by NumPy, and results of jitted functions as NumPy arrays: eager operations compile a program each."""

import jax
import numpy as np


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def run(function, *arguments):
    return jax.device_get(jax.jit(function)(*arguments))


def start(quantizer, dim):
    return run(lambda key: quantizer.init(key, dim), jax.random.key(0))
