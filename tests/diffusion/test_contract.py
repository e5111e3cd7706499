"""What is handed in by mistake is refused in the project's own words, and what is legitimate passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion as d
from tests.diffusion.oracle import gaussian

KEY = jax.random.key(11)
GRID = np.float32([20.0, 3.0, 0.5, 0.0])
X = 20 * jax.random.normal(KEY, (4, 8, 8, 1))
D = gaussian()
BYTES = np.zeros((2, 8, 8, 1), np.uint8)
FLOATS = jnp.zeros((2, 8, 8, 1))
KEEP = jnp.ones((2, 8, 8, 1), bool)
ONES = jnp.ones(2)


def run(denoiser=D, solver=d.euler(), sigmas=GRID, x=X, key=KEY, **options):  # noqa: B008
    return d.sample(denoiser, solver, sigmas, x, key, **options)


TAKES_IMAGES = {
    "sample": lambda x: run(x=x),
    "integrate": lambda x: d.integrate(D, d.euler(), GRID, x, None),
    "sdedit": lambda x: d.sdedit(D, d.euler(), GRID, x, KEY, strength=0.5),
    "add_noise": lambda x: d.add_noise(KEY, x, 1.0),
    "invert": lambda x: d.invert(D, d.heun(), GRID, x),
    "inpaint": lambda x: d.inpaint(x, KEEP),
    "repaint": lambda x: d.repaint(d.euler(), x, KEEP),
    "variational_bound": lambda x: d.variational_bound(KEY, D, GRID, x),
    "log_prob": lambda x: d.log_prob(D, GRID, x, key=KEY),
    "denoising_loss": lambda x: d.denoising_loss(KEY, D, x, ONES),
    "precondition": lambda x: d.precondition(lambda xt, t, c: xt, kind="edm")(x, 1.0),
    "threshold": lambda x: d.threshold()(D)(x, 1.0),
    "clip": lambda x: d.clip()(D)(x, 1.0),
    "dps": lambda x: d.dps(lambda x0: x0, x, 1.0),
    "slerp": lambda x: d.slerp(x, FLOATS, 0.5),
    "slerp_second": lambda x: d.slerp(FLOATS, x, 0.5),
    "to_pair": lambda x: d.to_pair(FLOATS, x, 0.6, 0.8, kind="eps"),
    "from_pair": lambda x: d.from_pair(x, FLOATS, 0.6, 0.8, kind="v"),
    "convert": lambda x: d.convert(x, FLOATS, 0.6, 0.8, source="v", target="eps"),
}


@pytest.mark.parametrize("name", TAKES_IMAGES)
def test_bytes_and_whole_numbers_are_refused_where_images_belong(name):
    with pytest.raises(ValueError, match=r"uint8.*jaxgen\.data\.to_float"):
        TAKES_IMAGES[name](BYTES)
    with pytest.raises(ValueError, match="must hold floating-point numbers.*int32"):
        jax.eval_shape(TAKES_IMAGES[name], jnp.zeros(BYTES.shape, jnp.int32))  # while tracing too


MISTAKES = {
    "solver not called": (lambda: run(solver=d.heun), r"call it first, heun\(\)"),
    "solver's name": (lambda: run(solver="heun"), r"get_solver\('heun'\)"),
    "solver left out": (lambda: run(solver=GRID), "solver must be a Solver"),
    "invert by name": (lambda: d.invert(D, "heun", GRID, FLOATS), r"get_solver\('heun'\)"),
    "repaint by maker": (lambda: d.repaint(d.heun, FLOATS, KEEP), r"call it first, heun\(\)"),
    "two arguments": (lambda: run(lambda x, sigma: x), "called with three arguments.*help.jaxgen.diffusion"),
    "no function": (lambda: run({"params": 1}), "denoiser must be a function, got dict"),
    "a tuple": (lambda: run(lambda x, s, c: (x, x)), "must return one array.*got tuple: return its first entry"),
    "an object": (lambda: run(lambda x, s, c: {"sample": x}), "must return one array.*got dict"),
    "twice the channels": (lambda: run(lambda x, s, c: jnp.repeat(x, 2, -1)), "learns its variance"),
    "a channel too few": (lambda: run(lambda x, s, c: x[..., 0]), r"x's shape \(4, 8, 8, 1\), got \(4, 8, 8\)"),
    "whole numbers back": (lambda: run(lambda x, s, c: x.astype(int)), "what the denoiser returns.*int32"),
    "an indexed scalar": (lambda: run(lambda x, s, c: x / s[:, None, None, None]), "fails for a scalar sigma"),
    "a mapped scalar": (lambda: run(lambda x, s, c: jax.vmap(lambda x, s: x / s)(x, s)), "fails for a scalar sigma"),
    "log_prob's scalar": (lambda: d.log_prob(lambda x, s, c: x * s[0], GRID, FLOATS, key=KEY), "scalar sigma"),
    "bound's tuple": (lambda: d.variational_bound(KEY, lambda x, s, c: (x,), GRID, FLOATS), "must return one array"),
    "loss's arguments": (lambda: d.denoising_loss(KEY, lambda x, s: x, FLOATS, ONES), "called with three arguments"),
    "network's tuple": (lambda: run(d.precondition(lambda x, t, c: (x, None), kind="edm")), "the network must return"),
    "a guided tuple": (lambda: run(d.cfg(2.0, 0)(lambda x, s, c: (x, x)), cond=jnp.ones(4)), "must return one array"),
    "a clipped tuple": (lambda: run(d.clip()(lambda x, s, c: (x, x))), "must return one array"),
    "guided, two arguments": (lambda: d.cfg(2.0, 0)(lambda x, sigma: x), "called with three arguments"),
    "a weak one of two": (lambda: d.autoguide(lambda x, sigma: x, 2.0), "called with three arguments"),
    "a guided indexed scalar": (lambda: run(d.cfg(2.0, 0)(lambda x, s, c: x / s[:, None, None, None]),
                                            cond=jnp.ones(4)), "fails for a scalar sigma"),
    "guided without": (lambda: run(d.cfg(2.0, 0)(lambda x, s, c: x)), "give cond=, for example to sample; got None"),
    "guided by nothing": (lambda: run(d.cfg(2.0, {})(lambda x, s, c: x), cond={}), "give cond=, for example"),
    "null of another kind": (lambda: run(d.cfg(2.0, {"a": 0})(lambda x, s, c: x), cond={"b": jnp.ones(4)}),
                             "null_cond must be a pytree like cond"),
    "one condition for all": (lambda: run(d.cfg(2.0, 0)(lambda x, s, c: x), cond=jnp.ones(())),
                              r"one condition per sample, \[4, \.\.\.\]; got float32\[\]"),
    "null too long": (lambda: run(d.cfg(2.0, jnp.ones(3))(lambda x, s, c: x), cond=jnp.ones(4)),
                      r"null_cond.*float32\[3\] for float32\[4\]"),
    "seed": (lambda: run(key=0), r"got the integer 0: use jax.random.key\(0\)"),
    "keys": (lambda: run(key=jax.random.split(KEY, 4)), r"keys of shape \(4,\): give one of them"),
    "no key": (lambda: run(key=None), "key must be one key.*got NoneType"),
    "seed of a start": (lambda: d.prior_sample(1, (2, 3), 1.0), r"use jax.random.key\(1\)"),
    "seed of noise": (lambda: d.add_noise(1, FLOATS, 1.0), r"use jax.random.key\(1\)"),
    "seed of a loss": (lambda: d.denoising_loss(1, D, FLOATS, ONES), r"use jax.random.key\(1\)"),
    "seed of probes": (lambda: d.log_prob(D, GRID, FLOATS, key=1), r"use jax.random.key\(1\)"),
    "seed of times": (lambda: d.uniform_times(1, 3), r"use jax.random.key\(1\)"),
    "ids are fractions": (lambda: run(sample_ids=jnp.arange(4.0)), "sample_ids must be whole numbers, got .* float32"),
    "loss's ids": (lambda: d.denoising_loss(KEY, D, FLOATS, ONES, sample_ids=ONES), "sample_ids must be whole"),
    "x is a list": (lambda: run(x=[[20.0, 3.0]]), r"x must be an array \[B, \.\.\.\], got list"),
    "the type of solvers": (lambda: run(solver=d.Solver), "solver must be a Solver"),
    "x is a number": (lambda: run(x=jnp.float32(20)), r"x must be a batch \[B, ...\]"),
    "increasing": (lambda: run(sigmas=GRID[::-1]), "decrease strictly"),
    "nan in sigmas": (lambda: run(sigmas=GRID * np.nan), "finite"),
    "part of a step": (lambda: run(save_every=1.5), "save_every must be an integer of at least 1, got 1.5"),
    "no round": (lambda: d.repaint(d.euler(), FLOATS, KEEP, resample=0), "resample must be an integer of at least 1"),
    "no probe": (lambda: d.log_prob(D, GRID, FLOATS, key=KEY, probes=0), "probes must be an integer of at least 1"),
    "one level": (lambda: d.variational_bound(KEY, D, GRID, FLOATS, levels=1), "levels must be an integer of at lea"),
    "noise of nan": (lambda: d.add_noise(KEY, FLOATS, np.nan), "sigma must not be below 0, got nan"),
    "endless noise": (lambda: d.prior_sample(KEY, (2, 3), np.inf), "sigma must be finite, got inf"),
    "share of nan": (lambda: d.slerp(FLOATS, FLOATS, np.nan), "share must be finite, got nan"),
    "shares of three": (lambda: d.slerp(FLOATS, FLOATS, jnp.ones(3)), "share must be one number or one per sample"),
    "levels of three": (lambda: d.add_noise(KEY, FLOATS, jnp.ones(3)), "sigma must be one number or one per sample"),
    "diffusers' v": (lambda: d.precondition(D, kind="v_prediction", schedule=d.linear()), "Did you mean 'v'"),
    "diffusers' eps": (lambda: d.precondition(D, kind="epsilon", schedule=d.linear()), "Did you mean 'eps'"),
    "diffusers' x0": (lambda: d.precondition(D, kind="sample", schedule=d.linear()), "Did you mean 'x0'"),
    "diffusers' flow": (lambda: d.precondition(D, kind="flow_prediction"), "Did you mean 'flow'"),
    "a weight's": (lambda: d.uniform_weighting("v_prediction"), "Did you mean 'v'"),
    "flow is velocity": (lambda: d.to_pair(FLOATS, FLOATS, 0.6, 0.8, kind="flow"), "Did you mean 'velocity'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_said(name):
    call, message = MISTAKES[name]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()


def test_other_errors_of_a_denoiser_pass_as_they_are():
    def broken(x, sigma, cond):
        raise KeyError("weights")

    with pytest.raises(KeyError, match="weights"):
        run(broken)


@pytest.mark.parametrize("x", [
    jax.random.normal(KEY, (4, 4, 4, 1)), np.random.default_rng(0).normal(size=(4, 32, 32, 3)),
    jax.random.normal(KEY, (4, 8, 8, 1)).astype(jnp.bfloat16),
])
def test_noise_of_std_1_is_no_start_at_a_high_level(x):
    with pytest.raises(ValueError, match=r"x is noise of std (0\.9|1).*sigmas\[0\] = 20.*prior_sample"):
        jax.eval_shape(lambda: run(x=x))  # x is no argument, and known
    jax.eval_shape(lambda x: run(x=x), x)  # what is traced has no values yet


def test_every_legitimate_start_passes():
    data = 0.5 * jax.random.normal(KEY, (4, 8, 8, 1))
    noise = d.invert(D, d.heun(), GRID, data)
    starts = [
        d.prior_sample(KEY, data.shape, GRID[0]), d.add_noise(KEY, data, GRID[0]), noise,
        d.invert(D, d.heun(), GRID, 0.05 * data), d.invert(D, d.euler(), GRID, 0 * data + 0.3),
        d.slerp(noise, jnp.flip(noise, 0), 0.5), (noise + jnp.flip(noise, 0)) / 2, 0.2 * noise, 0 * noise,
        jnp.ones_like(noise), jax.random.normal(KEY, (3, 2)), noise * (jnp.arange(8) < 1)[:, None],
        noise.astype(jnp.bfloat16), np.asarray(noise), jnp.full_like(noise, jnp.nan),
    ]
    for x in starts:
        jax.eval_shape(lambda x=x: run(x=x))  # x is no argument, and known
    jax.eval_shape(lambda: run(x=2 * data, sigmas=GRID[1:]))


def test_numpy_integers_lists_older_keys_and_own_solvers_are_taken():
    class Own:
        init, step = staticmethod(d.euler().init), staticmethod(d.euler().step)

    expected = run()
    np.testing.assert_array_equal(run(solver=Own()), expected)
    np.testing.assert_array_equal(run(sigmas=GRID.tolist(), sample_ids=[0, 1, 2, 3]), expected)
    np.testing.assert_array_equal(run(key=jax.random.PRNGKey(0)), expected)
    assert run(save_every=np.int64(2))[1].shape == (2, *X.shape)
