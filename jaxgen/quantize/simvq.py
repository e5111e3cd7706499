"""SimVQ: a frozen random codebook times one learned linear map, so that every code moves with every gradient.

    e_k = c_k W,   c frozen;   index = argmin_k |z - e_k|,   q = e_index
    losses (means over the D components):  codebook |sg(z) - e|^2 (into W),   commitment beta |z - sg(e)|^2

Reference: Zhu et al. 2024, "Addressing Representation Collapse in Vector Quantized Models with One Linear Layer",
arXiv:2411.02038.
"""

from jaxgen.core.checks import check_count
from jaxgen.quantize._vector_quantizer import vector_quantizer
from jaxgen.quantize.codebook import Mapped
from jaxgen.quantize.types import Quantizer


def simvq(
    num_codes: int,
    *,
    commitment: float = 0.25,
    estimator: str = "straight_through",
    block_size: int | None = None,
) -> Quantizer:
    """Vector quantization whose codebook is a frozen one times a learned map.

    q = c_k W, k = argmin_k |z - c_k W|; `lookup` applies the map.

    Args:
        num_codes: K.
        commitment: beta, the weight of the loss that draws vectors to their codes.
        estimator: "straight_through" or "rotation".
        block_size: codes per block, see `nearest`.

    Returns:
        A `Quantizer` with params "map" `[D, D]`, the identity at first, and state "codebook" `[K, D]`, which never
        changes. Losses are "codebook" and "commitment".

    Raises:
        ValueError: an argument outside its range, or an unknown estimator.

    Reference: Zhu et al. 2024, arXiv:2411.02038.

    Example:
        >>> import jax
        >>> quantizer = simvq(512)
        >>> variables = quantizer.init(jax.random.key(0), 4)
        >>> variables.params["map"].shape, variables.state["codebook"].shape
        ((4, 4), (512, 4))
        >>> output, _ = quantizer.apply(variables, jax.numpy.ones((2, 8, 8, 4)), train=True)
        >>> output.indices.shape, sorted(output.losses)
        ((2, 8, 8), ['codebook', 'commitment'])
    """
    num_codes = check_count("num_codes", num_codes)
    if block_size is not None:
        block_size = check_count("block_size", block_size)
    return vector_quantizer(Mapped(num_codes), commitment=commitment, estimator=estimator, metric="euclidean",
                            block_size=block_size, axis_name=None)
