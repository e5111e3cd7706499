"""The one place from where combinators and models call a quantizer, and where it is held to its contract."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxgen.core.callables import check_call, keeps_types, name_of, shapes_of
from jaxgen.core.types import Variables
from jaxgen.quantize.types import QuantizeOutput, Quantizer


def apply_quantizer(
    quantizer: Quantizer, variables: Variables, z: Float[Array, "... D"], *, train: bool = False,
    key: Array | None = None, valid: Bool[Array, "..."] | None = None,
) -> tuple[QuantizeOutput, Any]:
    """`quantizer.apply`, with an error that says what of its result a quantizer's must not be.

    Only shapes, dtypes and structures are looked at, while tracing. The combinators and the models call every quantizer
    so; one of your own is tried by it without a model.

    Args:
        quantizer, variables, z, train, key, valid: see `Quantizer`.

    Returns:
        `(QuantizeOutput, state)`.

    Raises:
        ValueError: `apply` does not take these arguments, or returns something else; names it, what it returned and
            what was expected.

    Example:
        >>> import jax
        >>> from jaxgen.quantize import apply_quantizer, vq
        >>> variables = vq(16).init(jax.random.key(0), 4)
        >>> output, state = apply_quantizer(vq(16), variables, jnp.ones((3, 4)))
        >>> broken = vq(16)._replace(apply=lambda variables, z, *, train, key: z)
        >>> apply_quantizer(broken, variables, jnp.ones((3, 4)))
        Traceback (most recent call last):
        ValueError: the quantizer's <lambda> returned float32[3, 4] of z float32[3, 4]: return (QuantizeOutput, state)
    """
    who, options = f"the quantizer's {name_of(quantizer.apply)}", {"train": train, "key": key}
    if valid is not None:
        options["valid"] = valid
    how = f"apply(variables, z, {', '.join(f'{name}=...' for name in options)})"
    check_call(who, quantizer.apply, how, variables, z, **options)
    returned = quantizer.apply(variables, z, **options)
    fix = _fix(returned, variables, z)
    if fix:
        raise ValueError(f"{who} returned {shapes_of(returned)} of z {shapes_of(z)}: {fix}")
    return returned


def _fix(returned: Any, variables: Variables, z: Array) -> str | None:
    """What a quantizer should have returned, where it is not what it did return."""
    if isinstance(returned, QuantizeOutput):
        return "the state is missing, return (output, state), with variables.state where nothing changed"
    if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[0], QuantizeOutput)):
        return "return (QuantizeOutput, state)"
    (quantized, indices, losses), state = returned
    shape = np.shape(z)[:-1]
    if np.shape(quantized) != np.shape(z) or not jnp.issubdtype(jnp.result_type(quantized), jnp.floating):
        return f"quantized must hold floating-point numbers in z's shape, {np.shape(z)}"
    if np.shape(indices)[:len(shape)] != shape or not jnp.issubdtype(jnp.result_type(indices), jnp.integer):
        return f"indices must be int32, one for each vector, of shape {shape}, or of one more axis for several"
    if not isinstance(losses, Mapping):
        return "losses must be a dict, {} for none"
    for name, loss in losses.items():
        if np.shape(loss) != shape:
            return f"losses[{name!r}] must have a number for each vector, of shape {shape}: leave the mean to others"
    if not keeps_types(variables.state, state):
        return f"the state must keep the types that it had, {shapes_of(variables.state)}"
    return None
