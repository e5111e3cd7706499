"""Settings that do not apply or are out of their bounds are refused with what would be right."""

import numpy as np
import pytest

from jaxgen import generate, models
from tests.generate.cases import DESCRIPTIONS, case


@pytest.mark.parametrize(("name", "changes", "message"), [
    ("pixels", {"guidance_low": 5.0, "guidance_high": 2.0}, "nothing would be guided"),
    ("pixels", {"noise_grid": "trailing"}, "kind 'edm': use 'karras'"),
    ("pixels", {"noise_grid": "kerras"}, "Did you mean 'karras'"),
    ("pixels", {"solver": "heunn"}, "Did you mean 'heun'"),
    ("pixels", {"temperature": 0.5}, "temperature=0.5 does not apply to this model: its settings are guidance, "),
    ("latents", {"temperature": 0.5}, "temperature=0.5 does not apply"),
    ("latents", {"noise_grid": "trailing"}, "kind 'edm': use 'karras'"),
    ("masked", {"temperature": 0.0}, "temperature must be positive, got 0"),
    ("masked", {"remask": 1.5}, r"remask must be a fraction in \[0, 1\], got 1.5"),
    ("masked", {"remask": 0.5, "solver": "confidence"}, "belongs to solver 'ancestral'"),
    ("masked", {"coarse_to_fine": True}, "level after level, belongs to solver 'confidence', not 'ancestral'"),
    ("masked", {"solver": "maskgut"}, "Did you mean 'maskgit'"),
    ("masked", {"choice_temperature": -1.0, "solver": "maskgit"}, "choice_temperature must not be below 0"),
    ("masked", {"noise_grid": "karras"}, "does not apply to this model: its settings are choice_temperature"),
    ("autoregressive", {"temperature": 0.0}, "temperature must be positive, got 0"),
    ("autoregressive", {"top_p": 1.5}, r"top_p must be a fraction in \[0, 1\], got 1.5"),
    ("autoregressive", {"top_k": -1}, "top_k must not be below 0, got -1"),
    ("autoregressive", {"steps": 5}, "steps=5 does not apply to this model: its settings are guidance, temperature, "
                                     "top_k, top_p"),
    ("text", {"remask": 0.1}, "remask=0.1 does not apply"),
])
def test_a_setting_out_of_bounds_is_refused(name, changes, message):
    with pytest.raises(ValueError, match=message):
        generate.make_sampler(case(name).model, changes)


@pytest.mark.parametrize("name", DESCRIPTIONS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_guidance_that_is_not_finite_is_refused(name, value):
    with pytest.raises(ValueError, match=f"guidance must be finite, got {value}"):
        generate.make_sampler(case(name).model, {"guidance": float(value)})


@pytest.mark.parametrize(("name", "setting"), [("masked", "temperature"), ("autoregressive", "top_p"),
                                               ("pixels", "sigma_max")])
def test_a_number_that_is_nan_is_refused(name, setting):
    with pytest.raises(ValueError, match=f"{setting} must be"):
        generate.make_sampler(case(name).model, {setting: float("nan")})


def test_guidance_may_reach_up_to_infinity():
    assert generate.make_sampler(case("pixels").model, {"guidance_high": float("inf")}).work.evaluations() == 35


def test_settings_left_out_are_the_defaults():
    settings = generate.make_sampler(case("masked").model, {"steps": 3}).settings
    assert settings["steps"] == 3 and settings["solver"] == "ancestral" and settings["choice_temperature"] == 4.5


@pytest.mark.parametrize(("grid", "first"), [("karras", 80.0), ("exponential", 80.0), ("uniform", None),
                                             ("trailing", None)])
def test_every_grid_falls_to_zero_from_its_first_level(grid, first):
    schedule = models.build_schedule("linear", steps=1000)
    sigmas = np.asarray(generate.make_sigmas(schedule, {"noise_grid": grid, "steps": 5, "sigma_min": 0.002,
                                                        "sigma_max": 80.0}))
    assert sigmas.shape == (6,) and sigmas[-1] == 0 and (np.diff(sigmas) < 0).all()
    assert first is None or sigmas[0] == pytest.approx(first)
