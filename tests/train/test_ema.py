import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.train import ema_rate, update_ema


def test_the_average_agrees_with_a_numpy_loop():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(60, 3)).astype(np.float32)
    average, expected = {"w": jnp.asarray(weights[0])}, weights[0].astype(np.float64)
    update = jax.jit(update_ema, static_argnums=2)
    for t in range(60):
        d = min(0.8, (1 + t) / (10 + t))
        expected = d * expected + (1 - d) * weights[t]
        average = update(average, {"w": weights[t]}, 0.8, jnp.int32(t))
    np.testing.assert_allclose(average["w"], expected, rtol=1e-5)


def test_the_rate_rises_to_the_decay_where_the_docstring_says():
    steps = np.arange(100)
    rates = np.array(jax.vmap(lambda t: ema_rate(0.9, t))(steps))
    assert rates[0] == np.float32(0.1)
    assert np.all(np.diff(rates) >= 0)
    reached = int((10 * 0.9 - 1) / (1 - 0.9))
    assert rates[reached] == np.float32(0.9) and rates[reached - 1] < 0.9


def test_the_first_weights_are_soon_forgotten():
    average = {"w": jnp.float32(1e3)}
    for t in range(100):
        average = update_ema(average, {"w": jnp.float32(1.0)}, 0.9999, t)
    fixed = 0.9999**100 * 999
    assert abs(float(average["w"]) - 1) < 1e-6 * fixed


def test_dtypes_stay_and_integers_are_copied():
    average = {"w": jnp.ones(2, jnp.bfloat16), "n": jnp.zeros((), jnp.int32)}
    new = update_ema(average, {"w": jnp.zeros(2, jnp.bfloat16), "n": jnp.int32(5)}, 0.5, 100)
    assert new["w"].dtype == jnp.bfloat16 and float(new["w"][0]) == 0.5
    assert int(new["n"]) == 5
