"""Vector quantization with a learned codebook.

    index = argmin_k |z - e_k|,   q = e_index
    losses (means over the D components):  codebook |sg(z) - e|^2,   commitment beta |z - sg(e)|^2

The codebook follows the gradient of the codebook loss or, with `ema_decay`, moving averages of the vectors that chose
each code (see `jaxgen.quantize.codebook`).

Reference: van den Oord et al. 2017, "Neural Discrete Representation Learning", arXiv:1711.00937; cosine metric:
Yu et al. 2022, "Vector-quantized Image Modeling with Improved VQGAN", arXiv:2110.04627.
"""

from jaxgen.core.checks import check_count, check_range, choose
from jaxgen.core.types import AxisName
from jaxgen.quantize._vector_quantizer import vector_quantizer
from jaxgen.quantize.codebook import EMA, USAGE_DECAY, Gradient, WithKMeans, WithRevival
from jaxgen.quantize.nearest import METRICS
from jaxgen.quantize.rate import WithRate
from jaxgen.quantize.types import Quantizer


def vq(
    num_codes: int,
    *,
    commitment: float = 0.25,
    estimator: str = "straight_through",
    metric: str = "euclidean",
    ema_decay: float | None = None,
    kmeans_iterations: int = 0,
    revive_below: float = 0.0,
    rate_weight: float = 0.0,
    block_size: int | None = None,
    axis_name: AxisName = None,
) -> Quantizer:
    """Vector quantization with a learned codebook of `num_codes` vectors.

    q = e_k, k = argmin_k |z - e_k|; losses as in the module's docstring: "commitment", and "codebook" without EMA.
    Codes whose usage (a moving average of the fraction of vectors assigned to them) falls below
    `revive_below / num_codes` are replaced by random vectors of the batch. Usage is a fraction, so the rule does not
    depend on batch size.
    With k-means or revival a gradient codebook is `params["codebook"] + state["offset"]`: a revived code moves by
    its offset, and the optimizer's parameters stay the optimizer's.

    Args:
        num_codes: K.
        commitment: beta, the weight of the loss that draws vectors to their codes.
        estimator: "straight_through" or "rotation".
        metric: "euclidean", or "cosine": vectors and codes are scaled to unit length, and losses and output are those
            of the scaled ones.
        ema_decay: g in [0, 1), for example 0.99; `None` trains the codebook by gradient.
        kmeans_iterations: k-means iterations that initialise the codebook from the first training batch; 0 disables it.
        revive_below: revive codes below this multiple of uniform use, for example 0.1; 0 revives none.
        rate_weight: what a bit is worth: by how much the mean squared distance may grow for it, as a fraction of the
            vectors' variance (see `jaxgen.quantize.rate`); for example .02. Codes become uneven and take fewer bits
            once they are entropy-coded, so revival should be rare, for example below .01. Levels of `residual` each
            count by the variance of what is left for them. 0: nearness decides.
        block_size: codes per block, see `nearest`.
        axis_name: mapped axis or axes over which the batch is split, under `pmap` or `shard_map`. Under `jit` with
            sharded arrays it stays `None`.

    Returns:
        A `Quantizer`. `apply` with `train=True` needs a key for k-means and revival, the same on all devices.

    Raises:
        ValueError: an argument outside its range, an unknown name, or in `apply` an `axis_name` that is not mapped.

    Reference: van den Oord et al., "Neural Discrete Representation Learning", 2017, arXiv:1711.00937.
    Rate: Chou, Lookabaugh & Gray, "Entropy-constrained vector quantization", 1989.

    Example:
        >>> import jax
        >>> quantizer = vq(512, ema_decay=0.99)
        >>> variables = quantizer.init(jax.random.key(0), 4)
        >>> output, state = quantizer.apply(variables, jax.numpy.ones((2, 8, 8, 4)), train=True)
        >>> output.quantized.shape, output.indices.shape, sorted(output.losses), sorted(state)
        ((2, 8, 8, 4), (2, 8, 8), ['commitment'], ['codebook', 'counts', 'sums'])
    """
    num_codes = check_count("num_codes", num_codes)
    kmeans_iterations = check_count("kmeans_iterations", kmeans_iterations, smallest=0)
    check_range("revive_below", revive_below, 0, 1)
    check_range("rate_weight", rate_weight, 0)
    choose("metric", metric, METRICS)
    if block_size is not None:
        block_size = check_count("block_size", block_size)
    if ema_decay is None:
        codebook = Gradient(num_codes, metric, bool(kmeans_iterations or revive_below), axis_name)
    else:
        check_range("ema_decay", ema_decay, 0, 1)
        codebook = EMA(num_codes, metric, ema_decay)
    decay = USAGE_DECAY if ema_decay is None else ema_decay
    if rate_weight:
        codebook = WithRate(codebook, rate_weight, decay)
    if revive_below:
        codebook = WithRevival(codebook, revive_below, decay)
    if kmeans_iterations:
        codebook = WithKMeans(codebook, kmeans_iterations, metric, block_size, axis_name)
    return vector_quantizer(codebook, commitment=commitment, estimator=estimator, metric=metric,
                            block_size=block_size, axis_name=axis_name)
