"""Schedules, conversions, preconditioning and grids against closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen import diffusion as d
from jaxgen.diffusion.schedules.conversions import KINDS

CONTINUOUS = {"trigonometric": d.trigonometric(), "sigmoid": d.sigmoid(), "edm": d.edm(), "flow": d.flow(shift=3.0)}
DISCRETE = {"linear": d.linear(), "scaled_linear": d.scaled_linear(), "cosine": d.cosine()}


def test_discrete_tables_have_the_pinned_values():
    np.testing.assert_allclose(
        d.linear().alpha(jnp.array([0, 499, 999])) ** 2, [0.9999, 0.078587242882, 4.0358297654e-5], rtol=1e-6
    )
    np.testing.assert_allclose(
        d.scaled_linear().alpha(jnp.array([0, 499, 999])) ** 2, [0.99915, 0.2776696505, 0.0046600985], rtol=1e-6
    )
    table = np.asarray(d.cosine().alphas_cumprod, np.float64)
    assert table[499] == pytest.approx(0.49384359044, rel=1e-6)
    assert 1 - table[0] == pytest.approx(4.1284224822e-5, rel=2e-3)  # float32 next to 1
    assert 1 - table[999] / table[998] == pytest.approx(0.999, rel=1e-6)


def test_zero_terminal_snr_keeps_the_first_entry_and_ends_in_exactly_zero():
    schedule = d.rescale_zero_terminal_snr(d.scaled_linear())
    assert float(schedule.alpha(0)) == pytest.approx(0.99957490965, rel=1e-6)
    assert float(schedule.alpha(999)) == 0.0 and float(schedule.sigma(999)) == 1.0
    assert schedule.zero_terminal_snr and not d.scaled_linear().zero_terminal_snr
    assert np.isfinite(schedule.logsnr(999)) and float(schedule.ratio(999)) == pytest.approx(d.MAX_RATIO, rel=1e-5)


@jax.jit
def inverses(schedule, t, ends):
    ratio = schedule.ratio(t)
    logsnr = schedule.logsnr(t)
    return {
        "alpha": schedule.alpha(t), "sigma": schedule.sigma(t), "logsnr": logsnr, "inverse": schedule.inverse(logsnr),
        "coefficients": schedule.coefficients(ratio), "time": schedule.time(ratio),
        "ends": (schedule.alpha(ends), schedule.sigma(ends), schedule.logsnr(ends), schedule.ratio(ends)),
    }


@pytest.mark.parametrize("name", [*CONTINUOUS, *DISCRETE])
def test_the_inverse_of_logsnr_is_time_and_both_ends_are_finite_with_the_noise_at_the_end(name):
    schedule = {**CONTINUOUS, **DISCRETE}[name]
    t = np.linspace(0.03, 0.97, 23, dtype=np.float32) * np.float32(schedule.end)
    values = inverses(schedule, t, np.float32([0.0, schedule.end]))
    np.testing.assert_allclose(values["inverse"], t, rtol=2e-4)
    assert (np.diff(values["logsnr"]) < 0).all()
    np.testing.assert_allclose(values["coefficients"], (values["alpha"], values["sigma"]), rtol=3e-5)
    assert np.isfinite(values["ends"]).all()
    ratio = values["ends"][3]
    assert ratio[0] < 0.03 and ratio[1] > 10


def test_a_discrete_schedule_gives_whole_indices_at_its_own_levels():
    for name, schedule in DISCRETE.items():
        t = np.arange(schedule.steps)
        np.testing.assert_array_equal(inverses(schedule, t, t[:2])["time"], t, err_msg=name)


def test_the_flow_shift_moves_a_quarter_to_a_half():
    np.testing.assert_allclose(d.flow(shift=3.0).sigma(jnp.array([0, 0.25, 0.5, 1])), [0, 0.5, 0.75, 1], rtol=1e-6)


def test_a_discretized_schedule_is_the_continuous_one_at_its_times():
    table = d.discretize(d.trigonometric(), steps=100)
    np.testing.assert_allclose(table.alphas_cumprod[:-1], np.cos(np.pi / 2 * np.arange(1, 100) / 100) ** 2, rtol=1e-4)
    assert table.zero_terminal_snr


def test_schedules_are_pytrees_whose_numbers_do_not_recompile():
    traces = []

    @jax.jit
    def ratio(schedule, t):
        traces.append(0)
        return schedule.ratio(t)

    for shift in (1.0, 2.0, 3.0):
        ratio(d.flow(shift=shift), 0.5)
    ratio(d.linear(), 3)
    ratio(d.linear(beta_end=0.03), 3)
    assert len(traces) == 2


@functools.partial(jax.jit, static_argnums=(3, 4))
def converted(alpha, sigma, pair, source, target):
    xt = alpha * pair[0] + sigma * pair[1]
    given_ = d.from_pair(*pair, alpha, sigma, kind=source)
    there = d.convert(given_, xt, alpha, sigma, source=source, target=target)
    back = d.convert(there, xt, alpha, sigma, source=target, target=source)
    return given_, there, d.from_pair(*pair, alpha, sigma, kind=target), back


@settings(max_examples=100, deadline=None)
@given(st.floats(0.0, 1.0), st.sampled_from(KINDS), st.sampled_from(KINDS))
def test_all_pairs_of_conversions_round_trip_and_are_finite_at_both_ends(t, source, target):
    alpha, sigma = np.float32(np.cos(np.pi / 2 * t)), np.float32(np.sin(np.pi / 2 * t))
    if t == 1.0:
        alpha = np.float32(0)
    pair = np.float32([[[0.3, -1.0]], [[-0.7, 0.4]]])
    given_, there, wanted, back = converted(alpha, sigma, pair, source, target)
    assert np.isfinite(there).all()
    if min(alpha, sigma) > 0.05:
        np.testing.assert_allclose(there, wanted, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(back, given_, rtol=1e-3, atol=1e-4)


def test_v_is_alpha_eps_minus_sigma_x0():
    v = d.from_pair(jnp.array([[2.0]]), jnp.array([[3.0]]), 0.8, 0.6, kind="v")
    assert float(v[0, 0]) == pytest.approx(0.8 * 3 - 0.6 * 2)


def test_edm_coefficients_are_the_pinned_ones():
    values = [float(c) for c in d.edm_coefficients(0.5)]
    assert values == pytest.approx([0.5, 0.35355339, 1.41421356, -0.17328680], rel=1e-6)
    denoiser = d.precondition(lambda x, t, c: 0 * x, kind="edm")
    np.testing.assert_allclose(denoiser(jnp.ones((2, 3)), 0.5), np.full((2, 3), 0.5), rtol=1e-6)
    assert np.isfinite(denoiser(jnp.ones((2, 3)), 0.0)).all()


def test_eps_prediction_with_zero_terminal_snr_is_refused():
    schedule = d.rescale_zero_terminal_snr(d.linear())
    with pytest.raises(ValueError, match="zero terminal SNR.*Predict 'v'"):
        d.precondition(lambda x, t, c: x, kind="eps", schedule=schedule)
    with pytest.raises(ValueError, match="Did you mean 'v'|expected one of"):
        d.precondition(lambda x, t, c: x, kind="vv", schedule=schedule)
    with pytest.raises(ValueError, match="trailing"):
        d.spaced_sigmas(schedule, 10, spacing="leading")


def test_the_karras_grid_has_the_pinned_values_and_ends_in_zero():
    expected = [80, 17.527831965, 2.5152189761, 0.16975275627, 0.002, 0]
    np.testing.assert_allclose(d.karras_sigmas(5), expected, rtol=1e-5)
    with jax.enable_x64(True):
        np.testing.assert_allclose(d.karras_sigmas(5), expected, rtol=1e-9)


@pytest.mark.parametrize("n", [1, 7, 60])
def test_every_grid_decreases_strictly_and_ends_in_zero_for_one_step_and_for_all(n):
    schedule = d.linear(steps=60, beta_end=0.2)
    grids = jax.jit(lambda: {
        "karras": d.karras_sigmas(n), "exponential": d.exponential_sigmas(n),
        "flow": d.uniform_sigmas(d.flow(shift=3.0), n), "trigonometric": d.uniform_sigmas(d.trigonometric(), n),
        **{s: d.spaced_sigmas(schedule, n, spacing=s) for s in ("leading", "trailing", "linspace")},
    })()
    for name, grid in grids.items():
        grid = np.asarray(grid)
        assert grid.shape == (n + 1,) and grid[-1] == 0 and (np.diff(grid) < 0).all(), name
        assert grid[0] > 1.3 or n > 1, name  # one step starts from the noise end in every spacing


def test_spacings_are_the_pinned_ones():
    spaced = {s: d.spaced_steps(1000, 10, spacing=s).tolist() for s in ("leading", "trailing", "linspace")}
    assert spaced["leading"] == list(range(900, -1, -100))
    assert spaced["trailing"] == list(range(999, 0, -100))
    assert spaced["linspace"] == list(range(999, -1, -111))
    assert d.spaced_steps(1000, 1000, spacing="leading").tolist() == list(range(999, -1, -1))


def test_bad_grids_and_schedules_are_refused():
    for make, message in (
        (lambda: d.karras_sigmas(0), "n must be"),
        (lambda: d.karras_sigmas(5, 1.0, 0.5), "sigma_min"),
        (lambda: d.spaced_steps(10, 11), "duplicates"),
        (lambda: d.spaced_steps(10, 5, spacing="leading", offset=3), "offset"),
        (lambda: d.spaced_steps(10, 5, spacing="trailin"), "Did you mean 'trailing'"),
        (lambda: d.spaced_sigmas(d.flow(), 5), "discrete"),
        (lambda: d.from_betas([0.1, 1.2]), "betas"),
        (lambda: d.from_alphas_cumprod([0.5, 0.6]), "decrease"),
        (lambda: d.flow(shift=0.0), "shift"),
        (lambda: d.truncate(d.karras_sigmas(4), 0.0), "strength"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


NAN, INF = float("nan"), float("inf")
WRONG = {
    "rho=0": (lambda: d.karras_sigmas(5, rho=0), "rho must be positive, got 0"),
    "rho<0": (lambda: d.karras_sigmas(5, rho=-7.0), "rho must be positive, got -7.0"),
    "rho nan": (lambda: d.karras_sigmas(5, rho=NAN), "rho must be positive, got nan"),
    "rho inf": (lambda: d.karras_sigmas(5, rho=INF), "rho must be finite"),
    "sigma_min nan": (lambda: d.karras_sigmas(5, NAN), "sigma_min must be positive, got nan"),
    "sigma_max inf": (lambda: d.karras_sigmas(5, 0.1, INF), "sigma_max must be finite"),
    "exponential inf": (lambda: d.exponential_sigmas(5, 0.1, INF), "sigma_max must be finite"),
    "exponential order": (lambda: d.exponential_sigmas(5, 2.0, 1.0), "expected 0 < sigma_min < sigma_max"),
    "n nan": (lambda: d.karras_sigmas(NAN), "n must be an integer of at least 1, got nan"),
    "n True": (lambda: d.exponential_sigmas(True), "n must be an integer of at least 1, got True"),
    "n 0": (lambda: d.uniform_sigmas(d.flow(), 0), "n must be an integer of at least 1, got 0"),
    "start nan": (lambda: d.uniform_sigmas(d.flow(), 5, start=NAN), "start must be finite"),
    "start 0": (lambda: d.uniform_sigmas(d.flow(), 5, start=0.0), "0 <= stop < start <= 1.0"),
    "start above": (lambda: d.uniform_sigmas(d.flow(), 5, start=2.0), "0 <= stop < start <= 1.0"),
    "stop above": (lambda: d.uniform_sigmas(d.flow(), 5, start=0.2, stop=0.5), "got start 0.2, stop 0.5"),
    "stop below": (lambda: d.uniform_sigmas(d.flow(), 5, stop=-1.0), "0 <= stop"),
    "no schedule": (lambda: d.uniform_sigmas("flow", 5), "schedule must be a Schedule.*got 'flow'"),
    "schedule not called": (lambda: d.discretize(d.flow), "call it first, flow()"),
    "rescale": (lambda: d.rescale_zero_terminal_snr(d.flow()), "such as linear\\(\\), got Flow"),
    "offset part": (lambda: d.spaced_steps(1000, 10, spacing="leading", offset=0.5), "offset must be an integer"),
    "T part": (lambda: d.spaced_steps(1000.5, 10), "steps must be an integer"),
    "truncate 2-D": (lambda: d.truncate(jnp.ones((2, 3)), 0.5), "sigmas must be a vector"),
    "truncate nan": (lambda: d.truncate(d.karras_sigmas(5), NAN), "strength must be in"),
    "shift inf": (lambda: d.flow(shift=INF), "shift must be finite"),
    "edm inf": (lambda: d.edm(sigma_max=INF), "sigma_max must be finite"),
    "sigmoid start": (lambda: d.sigmoid(start=NAN), "start must be finite"),
    "sigmoid flat": (lambda: d.sigmoid(start=100.0, stop=200.0), "what the sigmoid rises by .* must be positive"),
    "steps part": (lambda: d.linear(steps=10.5), "steps must be an integer of at least 1, got 10.5"),
    "steps float": (lambda: d.linear(steps=10.0), "steps must be an integer of at least 1, got 10.0"),
    "beta_end nan": (lambda: d.linear(beta_end=NAN), "beta_end must be positive, got nan"),
    "beta_start": (lambda: d.scaled_linear(beta_start=-1.0), "beta_start must be positive, got -1.0"),
    "beta_end above": (lambda: d.linear(beta_end=2.0), "beta_end must be a fraction"),
    "cosine offset": (lambda: d.cosine(offset=-1.0), "offset must not be below 0"),
    "max_beta": (lambda: d.cosine(max_beta=2.0), "max_beta must be a fraction"),
    "one beta": (lambda: d.from_betas([0.1, NAN, 0.2]), r"betas\[1\] = nan after 0.1"),
    "one alpha": (lambda: d.from_alphas_cumprod([0.9, 0.5, 0.5]), r"alphas_cumprod\[2\] = 0.5 after 0.5"),
    "solver's option": (lambda: d.get_solver("ddim", etta=0.5), "unknown option of ddim 'etta'.*Did you mean 'eta'"),
    "churn nan": (lambda: d.heun(NAN), "churn must not be below 0, got nan"),
    "noise_scale nan": (lambda: d.dpmpp_2m_sde(noise_scale=NAN), "noise_scale must not be below 0, got nan"),
    "eta inf": (lambda: d.dpmpp_3m_sde(INF), "eta must be finite"),
    "consistency": (lambda: d.consistency(-1.0), "sigma_min must not be below 0"),
    "lms order": (lambda: d.lms(2.0), "order must be an integer of at least 1, got 2.0"),
    "unipc order": (lambda: d.unipc(True), "order must be an integer of at least 1, got True"),
    "no solver": (lambda: d.in_flow_time(d.heun), "solver must be a Solver, such as heun"),
    "deis time": (lambda: d.deis(time=0.5), "time must be a function of the noise level"),
    "sa between": (lambda: d.sa_solver(lo=2.0, hi=1.0), "lo must not be above hi"),
    "sa order": (lambda: d.sa_solver(corrector_order=5), "corrector_order must be at most 4, got 5"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_setting_that_is_no_number_or_out_of_range_is_named(case):
    make, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        make()


def test_counts_are_integers_of_pythons_kind_or_numpys():
    for kind in (np.int64, np.int32, np.uint8):
        np.testing.assert_array_equal(d.karras_sigmas(kind(5)), d.karras_sigmas(5))
        np.testing.assert_array_equal(d.uniform_sigmas(d.flow(), kind(5)), d.uniform_sigmas(d.flow(), 5))
        np.testing.assert_array_equal(d.spaced_steps(np.int64(60), kind(5)), d.spaced_steps(60, 5))
        np.testing.assert_array_equal(d.linear(steps=kind(5)).alphas_cumprod, d.linear(steps=5).alphas_cumprod)
        assert [solver.order for solver in (d.lms(kind(3)), d.unipc(kind(2)), d.ipndm(kind(1)))] == [3, 3, 1]


def test_settings_of_a_grid_may_be_traced():
    grid = jax.jit(lambda low, high, rho: d.karras_sigmas(5, low, high, rho))(0.002, 80.0, 7.0)
    np.testing.assert_allclose(grid, d.karras_sigmas(5), rtol=1e-5)
    flow = jax.jit(lambda shift, start: d.uniform_sigmas(d.flow(shift=shift), 5, start=start))(3.0, 0.9)
    np.testing.assert_allclose(flow, d.uniform_sigmas(d.flow(shift=3.0), 5, start=0.9), rtol=1e-5)
    assert np.isfinite(jax.jit(lambda tau: d.sigmoid(tau=tau).ratio(0.5))(0.9))


@pytest.mark.parametrize("missing", ["alpha", "sigma", "time", "coefficients"])
def test_a_schedule_without_one_of_its_duties_cannot_be_made(missing):
    duties = {name: (lambda self, t: t) for name in ("alpha", "sigma", "time", "coefficients") if name != missing}
    with pytest.raises(TypeError, match=f"abstract.*{missing}"):
        type("Incomplete", (d.Schedule,), {"end": 1.0, **duties})()
    assert type("Complete", (d.Schedule,), {"end": 1.0, **duties, missing: lambda self, t: t})().end == 1.0
