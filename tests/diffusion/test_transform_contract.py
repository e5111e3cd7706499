"""What every denoiser transform and every kind of network keeps to, in every mode, as one table.

A batch's values and gradients are compared with those of its samples by themselves, computed in a vmap of a scan of a
shard_map that types what varies.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from jaxgen import diffusion as d
from tests.diffusion.oracle import gaussian

X = jax.random.normal(jax.random.key(0), (4, 3, 2)) * 2
COND = jnp.array([1.0, -1.0, 0.5, 2.0])
SIGMA = 0.7


def conditional(x, sigma, cond):
    return gaussian(cond.reshape(-1, 1, 1), 0.9)(x, sigma)


def network(xt, time, cond):
    return 0.3 * xt + jnp.sin(time + cond).reshape(-1, 1, 1).astype(xt.dtype)


def dps(scale, x, sigma, cond):
    return d.dps(lambda x0: x0**2, jnp.zeros_like(x), 0.5, scale=scale)(conditional)(x, sigma, cond)


# name: (settings, two values of each; function of settings, x, sigma and cond)
CASES = {
    "cfg": ((2.0, 5.0), lambda s, *a: d.cfg(s, 0.0)(conditional)(*a)),
    "cfg_rescaled": ((0.3, 0.7), lambda s, *a: d.cfg(3.0, 0.0, rescale=s)(conditional)(*a)),
    "cfg_apart": ((2.0, 5.0), lambda s, *a: d.cfg(s, 0.0, joint=False)(conditional)(*a)),
    "interval": ((2.0, 5.0), lambda s, *a: d.interval(d.cfg(s, 0.0), 0.1, s)(conditional)(*a)),
    "autoguide": ((1.5, 3.0), lambda s, *a: d.autoguide(gaussian(), s)(conditional)(*a)),
    "threshold": ((0.5, 0.8), lambda s, *a: d.threshold(s)(conditional)(*a)),
    "threshold_maximum": ((1.1, 1.2), lambda s, *a: d.threshold(0.9, maximum=s)(conditional)(*a)),
    "clip": ((0.3, 0.9), lambda s, *a: d.clip(-s, s)(conditional)(*a)),
    "dps": ((1.0, 2.0), dps),
    **{kind: ((1.0, 2.0), lambda s, x, *a, k=kind, n=schedule: d.precondition(network, kind=k, schedule=n)(s * x, *a))
       for kind, schedule in (("eps", d.linear()), ("x0", d.linear()), ("v", d.linear()), ("flow", d.flow()),
                              ("edm", None))},
}
EVERY = pytest.mark.parametrize("name", CASES)


def value_and_gradient(name):
    def run(setting, x, cond):
        def total(x):
            out = CASES[name][1](setting, x, SIGMA, cond)
            return jnp.sum(jnp.sin(out)), out

        gradient, out = jax.grad(total, has_aux=True)(x)
        return out, gradient

    return run


@functools.cache
def compiled(name):
    return jax.jit(value_and_gradient(name))


@EVERY
def test_values_and_gradients_are_those_of_single_samples_and_settings_do_not_recompile(name):
    def by_themselves(setting, *batch):
        singles = jax.tree.map(lambda a: a.reshape(-1, 1, 1, *a.shape[1:]), batch)
        single = jax.vmap(lambda *a: value_and_gradient(name)(setting, *a))
        return jax.tree.map(lambda a: a[:, 0, 0], jax.lax.scan(lambda c, a: (c, single(*a)), None, singles)[1])

    data = PartitionSpec("data")
    sharded = jax.jit(jax.shard_map(by_themselves, mesh=Mesh(jax.devices()[:2], "data"),
                                    in_specs=(PartitionSpec(), data, data), out_specs=data, check_vma=True))
    for setting in CASES[name][0]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), sharded(setting, X, COND),
                     compiled(name)(setting, X, COND))
    assert sharded._cache_size() == compiled(name)._cache_size() == 1


@EVERY
def test_the_result_has_the_dtype_of_the_denoiser_whatever_the_settings_are(name):
    settings, function = CASES[name]

    def dtype(x, setting):
        return jax.eval_shape(lambda s, x: function(s, x, jnp.asarray(SIGMA, x.dtype), COND.astype(x.dtype)), setting,
                              x).dtype

    # A denoiser of `precondition` is never narrower than float32.
    half = jnp.float32 if name in ("eps", "x0", "v", "flow", "edm") else jnp.bfloat16
    assert dtype(X.astype(jnp.bfloat16), jnp.float32(settings[0])) == half
    with jax.enable_x64(True):
        wide = jnp.asarray(X, jnp.float64)
        assert dtype(wide, np.float64(settings[0])) == jnp.float64
        if name not in ("eps", "x0", "v", "flow", "edm"):  # there the setting multiplies x
            assert dtype(X, np.float64(settings[0])) == jnp.float32


@EVERY
def test_a_nan_is_seen_in_its_own_sample_and_a_single_number_is_refused(name):
    settings, function = CASES[name]
    (out, _), (plain, _) = (compiled(name)(settings[0], x, COND) for x in (X.at[1, 0].set(jnp.nan), X))
    assert np.isnan(out[1]).any()
    np.testing.assert_array_equal(np.delete(out, 1, 0), np.delete(plain, 1, 0))
    with pytest.raises(ValueError, match=r"^(x|y) must be a batch \[B, ...\], got a single number"):
        function(settings[0], jnp.float32(1.0), SIGMA, COND)


@pytest.mark.parametrize("name", ["cfg", "cfg_apart", "autoguide", "dps"])
def test_a_scale_may_be_one_number_per_sample_and_no_other_shape(name):
    function, scales = CASES[name][1], jnp.array([1.0, 2.0, 3.0, 4.0])
    out = function(scales, X, SIGMA, COND)
    wanted = np.concatenate([function(s, X[i : i + 1], SIGMA, COND[i : i + 1]) for i, s in enumerate(scales)])
    np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"scale must be one number or one per sample, shape \(\) or \(4,\)"):
        function(scales[:3], X, SIGMA, COND)


@pytest.mark.parametrize("make", [
    lambda s: d.cfg(s, 0.0), lambda s: d.autoguide(conditional, s), lambda s: d.dps(lambda x: x, X, 0.5, scale=s),
    lambda s: d.cfg(2.0, 0.0, rescale=s), lambda s: d.threshold(s), lambda s: d.threshold(maximum=s),
    lambda s: d.clip(s, 1.0), lambda s: d.interval(d.clip(), s, 1.0), lambda s: d.dps(lambda x: x, X, s),
])
def test_a_setting_that_is_nan_is_refused(make):
    with pytest.raises(ValueError, match="nan"):
        make(float("nan"))


def test_a_scale_per_sequence_guides_logits_of_tokens():
    def logits_fn(tokens, t, cond):
        return jnp.sin(tokens[..., None] + cond[:, None, None] * jnp.arange(5.0))

    tokens, scales = jnp.arange(6).reshape(2, 3), jnp.array([1.0, 3.0])
    cond = jnp.array([0.5, 2.0])
    with_cond, without = logits_fn(tokens, None, cond), logits_fn(tokens, None, 0 * cond)
    out = d.cfg(scales, 0.0)(logits_fn)(tokens, jnp.ones(2), cond)
    np.testing.assert_allclose(out, without + np.reshape(scales, (2, 1, 1)) * (with_cond - without), rtol=1e-5)
