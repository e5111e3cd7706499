from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.distance import cdist

from jaxgen.core.types import Variables
from jaxgen.quantize import simvq
from tests.quantize.inputs import normal, run, start


def test_codes_are_the_frozen_ones_times_the_map():
    quantizer = simvq(20, commitment=0.4)
    matrix, z = normal(1, 3, 3), normal(2, 10, 3)
    variables = Variables({"map": matrix}, start(quantizer, 3).state)
    codes = np.float64(variables.state["codebook"]) @ np.float64(matrix)
    output, state = run(partial(quantizer.apply, train=True), variables, z)
    indices = cdist(z, codes).argmin(axis=1)
    np.testing.assert_array_equal(output.indices, indices)
    np.testing.assert_allclose(output.quantized, codes[indices], rtol=1e-5, atol=1e-6)
    square = np.mean((np.float64(z) - codes[indices]) ** 2, axis=-1)
    np.testing.assert_allclose(output.losses["codebook"], square, rtol=1e-5)
    np.testing.assert_allclose(output.losses["commitment"], 0.4 * square, rtol=1e-5)
    np.testing.assert_array_equal(state["codebook"], variables.state["codebook"])


def test_one_gradient_step_moves_every_code_even_those_that_no_vector_chose():
    quantizer = simvq(50)
    z = normal(2, 3, 4)

    def step(variables):
        def loss(params, state):
            output, _ = quantizer.apply(Variables(params, state), z, train=True)
            return jnp.mean(output.losses["codebook"]) + jnp.sum(output.quantized)

        params, state = variables
        of_params, of_state = jax.grad(loss, argnums=(0, 1))(params, state)
        moved = Variables(jax.tree.map(lambda p, g: p - g, params, of_params), state)
        return [quantizer.lookup(v, jnp.arange(50)) for v in (variables, moved)], of_state

    (before, after), frozen = run(step, start(quantizer, 4))
    assert np.abs(after - before).max(axis=-1).min() > 1e-3
    assert not np.any(frozen["codebook"])
