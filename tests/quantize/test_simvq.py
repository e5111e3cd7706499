import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.distance import cdist

from jaxgen.core.types import Variables
from jaxgen.quantize import simvq

KEY = jax.random.key(0)


def test_codes_are_the_frozen_ones_times_the_map():
    quantizer = simvq(20, commitment=0.4)
    variables = quantizer.init(KEY, 3)
    matrix = jax.random.normal(jax.random.key(1), (3, 3))
    variables = Variables({"map": matrix}, variables.state)
    z = jax.random.normal(jax.random.key(2), (10, 3))
    codes = np.float64(variables.state["codebook"]) @ np.float64(matrix)
    output, state = quantizer.apply(variables, z, train=True)
    indices = cdist(z, codes).argmin(axis=1)
    np.testing.assert_array_equal(output.indices, indices)
    np.testing.assert_allclose(output.quantized, codes[indices], rtol=1e-5, atol=1e-6)
    square = np.mean((np.float64(z) - codes[indices]) ** 2, axis=-1)
    np.testing.assert_allclose(output.losses["codebook"], square, rtol=1e-5)
    np.testing.assert_allclose(output.losses["commitment"], 0.4 * square, rtol=1e-5)
    np.testing.assert_array_equal(state["codebook"], variables.state["codebook"])


def test_one_gradient_step_moves_every_code_even_those_that_no_vector_chose():
    quantizer = simvq(50)
    variables = quantizer.init(KEY, 4)
    z = jax.random.normal(jax.random.key(2), (3, 4))

    def loss(params):
        return jnp.mean(quantizer.apply(Variables(params, variables.state), z, train=True)[0].losses["codebook"])

    moved = Variables(jax.tree.map(lambda p, g: p - g, variables.params, jax.grad(loss)(variables.params)),
                      variables.state)
    before, after = (quantizer.lookup(v, jnp.arange(50)) for v in (variables, moved))
    assert np.abs(after - before).max(axis=-1).min() > 1e-3
    frozen = jax.grad(lambda state: jnp.sum(quantizer.apply(Variables(variables.params, state), z)[0].quantized))(
        variables.state
    )
    assert not np.any(frozen["codebook"])
