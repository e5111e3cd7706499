"""What every solver promises, in one table: JAX's transformations, devices, precision, and how often it evaluates."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from jaxgen import diffusion as d
from tests.diffusion.oracle import ALL, DETERMINISTIC, VARIANTS, mixture, wave

STEPS = 5
NAMES = [name for name in ALL if name not in VARIANTS]
X = np.float64([[4.0, -7.0]])


def by_single_operations(solver, grid, x=X, noises=None):
    """The sample, the levels of its evaluations, and the streams of the noise that it asks for."""
    evaluations, streams = [], set()

    def denoiser(x, sigma, cond):
        evaluations.append(float(sigma))
        return 0.9 * wave(x, sigma)

    def noise(step, stream):
        streams.add(int(stream))
        return np.full(x.shape, 0.1) if noises is None else noises[int(stream)][int(step)]

    with jax.disable_jit():
        return np.asarray(d.integrate(denoiser, solver, grid, x, noise)), evaluations, streams


@jax.jit
def two_grids():
    return jnp.stack([d.karras_sigmas(STEPS, 0.02, 10.0), d.uniform_sigmas(d.flow(), STEPS)])


@functools.partial(jax.jit, static_argnums=2)
def noises_of_one(key, ids, stream):
    return jax.vmap(lambda step: d.sample_noise(key, (2,), ids, step, stream, jnp.float64))(jnp.arange(STEPS))


@pytest.mark.parametrize("name", NAMES)
def test_every_solver_works_sharded_mapped_scanned_and_differentiated_in_float64(name):
    """One compilation of all of them: a gradient through `shard_map` of a scan over grids of a map over keys."""
    solver, traces = ALL[name], []

    def samples(theta, x, ids, grids, keys):
        def one(sigmas, key):
            denoiser = lambda x, sigma, cond: theta * wave(x, sigma)  # noqa: E731
            return d.sample(denoiser, solver, sigmas, x, key, sample_ids=ids)

        many = jax.lax.map(lambda sigmas: jax.vmap(lambda key: one(sigmas, key))(keys), grids)
        return jax.lax.psum(jnp.sum(many), "data"), many

    def total(theta, x, ids, grids, keys):
        traces.append(name)
        data, same, across = PartitionSpec("data"), PartitionSpec(), PartitionSpec(None, None, "data")
        return jax.shard_map(
            samples, mesh=Mesh(jax.devices()[:2], "data"), in_specs=(same, data, data, same, same),
            out_specs=(same, across), check_vma=True,
        )(theta, x, ids, grids, keys)

    total = jax.jit(jax.value_and_grad(total, has_aux=True))
    with jax.enable_x64(True):
        grids = two_grids()
        keys, ids = jax.random.split(jax.random.key(3)), np.arange(4)
        x = 10 * np.random.default_rng(0).normal(size=(4, 2))
        (_, many), slope = total(0.9, x, ids, grids, keys)
        above, below = (float(total(0.9 + e, x, ids, grids, keys)[0][0]) for e in (1e-5, -1e-5))
        # One sample by itself, on one device, by other kernels.
        noises = [np.asarray(noises_of_one(keys[1], ids[2:3], stream)) for stream in range(solver.draws)]
        alone, *_ = by_single_operations(solver, grids[0], x[2:3], noises)
    assert many.dtype == jnp.float64 and np.isfinite(many).all()
    assert float(slope) == pytest.approx((above - below) / 2e-5, rel=1e-8)
    np.testing.assert_allclose(alone[0], many[0, 1, 2], rtol=1e-9)
    assert len(traces) == 1
    if name in DETERMINISTIC:
        np.testing.assert_array_equal(many[:, 0], many[:, 1])
    elif name != "consistency":
        assert np.abs(many[:, 0] - many[:, 1]).min() > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_stays_bfloat16_outside_and_float32_between_steps(name):
    seen = []

    def denoiser(x, sigma, cond=None):
        seen.append(x.dtype)
        return mixture(x, sigma).astype(jnp.bfloat16)

    low = jax.ShapeDtypeStruct((4, 3), jnp.bfloat16)
    out = jax.eval_shape(lambda x, s: d.sample(denoiser, ALL[name], s, x, jax.random.key(0)), low, jnp.ones(4))
    assert out.dtype == jnp.bfloat16 and set(seen) == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("name", ALL)
def test_no_buffer_stands_twice_in_a_new_carry_so_that_it_can_be_donated(name):
    leaves = jax.tree.leaves(ALL[name].init(jnp.ones((4, 3))))
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


@pytest.mark.parametrize("name", ["unipc_2", "lms_4"])
def test_a_loop_of_ones_own_may_donate_the_carry(name):
    solver, grid = ALL[name], d.karras_sigmas(STEPS, 0.02, 10.0)
    x = 10 * jnp.asarray(np.random.default_rng(0).normal(size=(4, 2)), jnp.float32)
    wanted = d.sample(mixture, solver, grid, x, jax.random.key(0))
    step = jax.jit(lambda c, s, s_next: solver.step(mixture, c, s, s_next, None), donate_argnums=0)
    carry = solver.init(x)
    for i in range(STEPS):
        carry = step(carry, grid[i], grid[i + 1])
    np.testing.assert_allclose(carry.x, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_a_solver_says_how_often_it_evaluates_and_how_many_noises_it_draws_per_step(name):
    with jax.enable_x64(True):
        _, evaluations, streams = by_single_operations(ALL[name], jnp.asarray([10.0, 1.0, 0.1, 0.02, 0.0]))
    extra = 1 if name == "pndm" else 0  # for its first step
    assert len(evaluations) == ALL[name].nfe * 3 + 1 + extra
    assert min(evaluations) > 0.0199  # the last level above 0: none is asked at 0
    assert streams == set(range(ALL[name].draws))


def test_repaint_draws_from_streams_below_its_draws():
    solver = d.repaint(d.ddim(1.0), np.zeros((1, 2)), np.ones((1, 2), bool), resample=3)
    with jax.enable_x64(True):
        _, _, streams = by_single_operations(solver, jnp.asarray([10.0, 1.0, 0.1, 0.02, 0.0]))
    assert len(streams) > 1 and max(streams) < solver.draws


@pytest.mark.parametrize("name", [name for name in ALL if name != "consistency"])
def test_one_step_into_zero_is_the_denoiser_itself(name):
    """Of solvers with noise too, unless it comes first and goes to a higher level."""
    with jax.enable_x64(True):
        one, evaluations, _ = by_single_operations(ALL[name], jnp.asarray([10.0, 0.0]))
    exact = 0.9 * np.sin(X / 11)
    if name == "heun_churn":
        assert evaluations[0] > 10 and np.abs(one - exact).max() < 0.2
    else:
        np.testing.assert_allclose(one, exact, rtol=1e-12)


def test_one_jitted_step_into_zero_is_the_denoiser_itself_in_float32():
    names = [name for name in NAMES if name not in ("consistency", "heun_churn")]  # as above

    @jax.jit
    def ends(sigmas, x):
        denoiser = lambda x, sigma, cond: 0.9 * wave(x, sigma)  # noqa: E731
        return {name: d.sample(denoiser, ALL[name], sigmas, x, jax.random.key(0)) for name in names}

    for name, end in jax.device_get(ends(np.float32([10, 0]), np.float32(X))).items():
        np.testing.assert_allclose(end, 0.9 * np.sin(X / 11), rtol=1e-6, err_msg=name)
