"""Every quantizer and combinator, once each, for the contract tests."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from jaxgen.core.types import Variables
from jaxgen.quantize import Quantizer, dropout, fsq, grouped, gumbel, lfq, noisy, projected, residual, simvq, vq
from tests.quantize.inputs import normal, start


class Case(NamedTuple):
    """A quantizer under test.

    Attributes:
        make: `axis_name -> Quantizer`.
        dim: components of its vectors.
        draws: whether training needs a key.
        idempotent: whether quantizing a code gives that code.
        noisy: whether noise by position is added to the vectors in training.
        reduces: whether training sums over the mapped axis that it is given, or draws by the place along it.
        passes: whether training passes some vectors unquantized.
    """

    make: Callable[[str | None], Quantizer]
    dim: int
    draws: bool = False
    idempotent: bool = True
    noisy: bool = False
    reduces: bool = False
    passes: bool = False


CASES = {
    "vq": Case(lambda axis: vq(12), 4),
    "vq_rotation": Case(lambda axis: vq(12, estimator="rotation", block_size=5), 4),
    "vq_ema": Case(lambda axis: vq(12, ema_decay=0.9, axis_name=axis), 4, reduces=True),
    "vq_ema_kmeans_revival": Case(
        lambda axis: vq(12, ema_decay=0.5, kmeans_iterations=3, revive_below=0.4, axis_name=axis),
        4, draws=True, reduces=True,
    ),
    "vq_cosine_kmeans_revival": Case(
        lambda axis: vq(12, metric="cosine", kmeans_iterations=3, revive_below=0.999, axis_name=axis),
        4, draws=True, reduces=True,
    ),
    "vq_rate": Case(
        lambda axis: vq(12, ema_decay=0.9, revive_below=0.4, rate_weight=0.05, axis_name=axis),
        4, draws=True, idempotent=False, reduces=True,
    ),
    "fsq": Case(lambda axis: fsq([4, 3, 7, 2]), 4, idempotent=False),
    "lfq": Case(lambda axis: lfq(4, temperature=0.7, axis_name=axis), 4, reduces=True),
    "bsq": Case(lambda axis: lfq(4, spherical=True, temperature=0.7, axis_name=axis), 4, reduces=True),
    "gumbel": Case(lambda axis: gumbel(12, axis_name=axis), 4, draws=True, idempotent=False, noisy=True, reduces=True),
    "simvq": Case(lambda axis: simvq(12), 4),
    "residual_vq": Case(
        lambda axis: residual(vq(8, ema_decay=0.5, kmeans_iterations=2, revive_below=0.4, axis_name=axis), 3),
        4, draws=True, idempotent=False, reduces=True,
    ),
    "grouped_vq": Case(
        lambda axis: grouped(vq(8, kmeans_iterations=2, revive_below=0.999, axis_name=axis), 2),
        4, draws=True, reduces=True,
    ),
    "projected_fsq": Case(lambda axis: projected(fsq([5, 5, 5]), 3), 4, idempotent=False),
    "projected_grouped_gumbel": Case(
        lambda axis: projected(grouped(gumbel(6, axis_name=axis), 2), 4),
        6, draws=True, idempotent=False, noisy=True, reduces=True,
    ),
    "noisy_vq": Case(lambda axis: noisy(vq(12, ema_decay=0.9, axis_name=axis), 0.3, axis_name=axis), 4, draws=True,
                     reduces=True),
    "dropout_vq": Case(lambda axis: dropout(vq(12), 0.5, axis_name=axis), 4, draws=True, reduces=True, passes=True),
}

KEY = jax.random.key(7)
ALL = np.ones((4, 6), bool)


@functools.cache
def prepared(name):
    """The quantizer with variables that training has touched, its jitted functions, and vectors."""
    case = CASES[name]
    quantizer = case.make(None)
    z = normal(2, 4, 6, case.dim)
    evaluate = jax.jit(quantizer.apply)
    train = jax.jit(functools.partial(quantizer.apply, train=True))
    _, state = jax.device_get(train(fresh(name), z, key=KEY))
    return quantizer, Variables(fresh(name).params, state), z, evaluate, train


@functools.cache
def fresh(name):
    return start(CASES[name].make(None), CASES[name].dim)


def assert_trees_close(actual, expected, rtol=1e-5, atol=1e-6):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == e.dtype
        np.testing.assert_allclose(a, e, rtol=rtol, atol=atol)
