"""Every quantizer and combinator, once each, for the contract tests."""

from collections.abc import Callable
from typing import NamedTuple

from jaxgen.quantize import Quantizer, fsq, grouped, gumbel, lfq, projected, residual, simvq, vq


class Case(NamedTuple):
    """A quantizer under test.

    Attributes:
        make: `axis_name -> Quantizer`.
        dim: components of its vectors.
        draws: whether training needs a key.
        idempotent: whether quantizing a code gives that code.
    """

    make: Callable[[str | None], Quantizer]
    dim: int
    draws: bool = False
    idempotent: bool = True


CASES = {
    "vq": Case(lambda axis: vq(12), 4),
    "vq_rotation": Case(lambda axis: vq(12, estimator="rotation", block_size=5), 4),
    "vq_ema": Case(lambda axis: vq(12, ema_decay=0.9, axis_name=axis), 4),
    "vq_ema_kmeans_revival": Case(
        lambda axis: vq(12, ema_decay=0.5, kmeans_iterations=3, revive_below=0.4, axis_name=axis), 4, draws=True
    ),
    "vq_cosine_kmeans_revival": Case(
        lambda axis: vq(12, metric="cosine", kmeans_iterations=3, revive_below=0.999, axis_name=axis), 4, draws=True
    ),
    "fsq": Case(lambda axis: fsq([4, 3, 7, 2]), 4, idempotent=False),
    "lfq": Case(lambda axis: lfq(4, temperature=0.7, axis_name=axis), 4),
    "bsq": Case(lambda axis: lfq(4, spherical=True, temperature=0.7, axis_name=axis), 4),
    "gumbel": Case(lambda axis: gumbel(12, axis_name=axis), 4, draws=True, idempotent=False),
    "simvq": Case(lambda axis: simvq(12), 4),
    "residual_vq": Case(
        lambda axis: residual(vq(8, ema_decay=0.5, kmeans_iterations=2, revive_below=0.4, axis_name=axis), 3),
        4, draws=True, idempotent=False,
    ),
    "grouped_vq": Case(
        lambda axis: grouped(vq(8, kmeans_iterations=2, revive_below=0.999, axis_name=axis), 2), 4, draws=True
    ),
    "projected_fsq": Case(lambda axis: projected(fsq([5, 5, 5]), 3), 4, idempotent=False),
    "projected_grouped_gumbel": Case(
        lambda axis: projected(grouped(gumbel(6, axis_name=axis), 2), 4), 6, draws=True, idempotent=False
    ),
}
