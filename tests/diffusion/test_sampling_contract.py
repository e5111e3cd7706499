"""What sampling, inversion, editing, likelihoods and the loss keep to, in every mode, as one table."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from jaxgen import diffusion as d
from tests.diffusion.oracle import gaussian

KEY = jax.random.key(3)
GRID = np.float32([5.0, 2.0, 0.7, 0.2])
X = jax.random.normal(KEY, (4, 2, 3))
COND = jnp.array([1.0, -1.0, 0.5, 2.0])
IDS = jnp.array([5, 2, 9, 4])
HALF = jnp.arange(3) < 2


def denoiser(x, sigma, cond):
    return jnp.tanh(gaussian(cond.reshape(-1, 1, 1), 0.9)(x, sigma))


def inpaint(x, cond, ids):
    known = jnp.full(x.shape, 0.25, x.dtype)
    keep = jnp.broadcast_to(HALF, (1, 1, 3))
    return d.sample(denoiser, d.repaint(d.euler(), known, keep, resample=2), GRID, 5 * x, KEY, cond=cond,
                    sample_ids=ids, post_step=d.inpaint(known, keep))


# name: function of x [B, 2, 3], cond [B] and ids [B], whose result has the batch first
CASES = {
    "sample": lambda x, cond, ids: d.sample(denoiser, d.heun(0.2), GRID, 5 * x, KEY, cond=cond, sample_ids=ids),
    "trajectory": lambda x, cond, ids: jnp.moveaxis(
        d.sample(denoiser, d.dpmpp_2m(), GRID, 5 * x, KEY, cond=cond, sample_ids=ids, save_every=2)[1], 1, 0),
    "sdedit": lambda x, cond, ids: d.sdedit(denoiser, d.euler(), GRID, x, KEY, strength=0.7, cond=cond, sample_ids=ids),
    "inpaint": inpaint,
    "invert": lambda x, cond, ids: d.invert(denoiser, d.heun(), GRID, x, cond=cond),
    "log_prob": lambda x, cond, ids: d.log_prob(denoiser, GRID, x, cond=cond),
    "log_prob_probes": lambda x, cond, ids: d.log_prob(denoiser, GRID, x, key=KEY, cond=cond, sample_ids=ids),
    "variational_bound": lambda x, cond, ids: d.variational_bound(KEY, denoiser, GRID, x, cond=cond, levels=8,
                                                                  sample_ids=ids).total,
    "denoising_loss": lambda x, cond, ids: d.denoising_loss(
        KEY, denoiser, x, 0.5 + jnp.abs(cond).astype(x.dtype), cond=cond, sample_ids=ids),
    "add_noise": lambda x, cond, ids: d.add_noise(KEY, x, jnp.abs(cond), sample_ids=ids),
    "slerp": lambda x, cond, ids: d.slerp(x, jnp.flip(x, axis=2) + 1, jnp.abs(cond) / 2),
}
LOGARITHMS = ("log_prob", "log_prob_probes", "variational_bound", "denoising_loss")
EVERY = pytest.mark.parametrize("name", CASES)


def value_and_gradient(name):
    def run(x, cond, ids):
        def total(x):
            out = CASES[name](x, cond, ids)
            return jnp.sum(jnp.sin(out)), out

        gradient, out = jax.grad(total, has_aux=True)(x)
        return out, gradient

    return run


@functools.cache
def compiled(name):
    return jax.jit(value_and_gradient(name))


def assert_close(found, wanted):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), found, wanted)


@EVERY
def test_values_and_gradients_are_those_of_single_samples_in_a_vmap_in_a_scan_in_a_shard_map(name):
    def by_themselves(*batch):
        singles = jax.tree.map(lambda a: a.reshape(-1, 1, 1, *a.shape[1:]), batch)
        found = jax.lax.scan(lambda c, a: (c, jax.vmap(value_and_gradient(name))(*a)), None, singles)[1]
        return jax.tree.map(lambda a: a[:, 0, 0], found)

    data = PartitionSpec("data")
    sharded = jax.shard_map(by_themselves, mesh=Mesh(jax.devices()[:2], "data"), in_specs=data, out_specs=data,
                            check_vma=True)
    assert_close(jax.jit(sharded)(X, COND, IDS), compiled(name)(X, COND, IDS))


@pytest.mark.parametrize("name", ["sample", "invert", "log_prob", "variational_bound"])
def test_a_start_that_all_devices_share_may_meet_conditions_and_ids_that_differ(name):
    same = jnp.broadcast_to(X[:2], (2, *X[:2].shape)).reshape(X.shape)
    whole, _ = compiled(name)(same, COND, IDS)
    data, all_of_it = PartitionSpec("data"), PartitionSpec()
    sharded = jax.shard_map(CASES[name], mesh=Mesh(jax.devices()[:2], "data"), in_specs=(all_of_it, data, data),
                            out_specs=data, check_vma=True)
    assert_close(jax.jit(sharded)(X[:2], COND, IDS), whole)


@EVERY
def test_results_have_the_dtype_of_x_and_logarithms_at_least_float32(name):
    def dtype(x):
        return jax.eval_shape(CASES[name], x, COND.astype(x.dtype), IDS).dtype

    assert dtype(X) == jnp.float32
    assert dtype(X.astype(jnp.bfloat16)) == (jnp.float32 if name in LOGARITHMS else jnp.bfloat16)
    with jax.enable_x64(True):
        assert dtype(X) == jnp.float32
        assert dtype(np.asarray(X, np.float64)) == jnp.float64


@EVERY
def test_a_nan_is_seen_in_its_own_sample(name):
    run = compiled(name)
    out, plain = run(X.at[1, 0, 2].set(jnp.nan), COND, IDS)[0], run(X, COND, IDS)[0]
    assert np.isnan(out[1]).any()
    np.testing.assert_array_equal(np.delete(out, 1, 0), np.delete(plain, 1, 0))


def test_a_nan_of_the_network_or_of_a_level_stays_visible():
    broken = lambda x, sigma, cond: jnp.where(sigma < 1, jnp.nan, x)  # noqa: E731
    run = jax.jit(lambda x, sigmas: d.sample(broken, d.euler(), sigmas, x, KEY))
    assert np.isnan(run(X, GRID)).all()
    assert np.isnan(run(X, GRID.copy() * np.float32([1, np.nan, 1, 1]))).all()
