"""Schedules in the format of diffusers: what each entry means, and what is refused."""

import json

import numpy as np
import pytest

from jaxgen.diffusion import Discrete
from jaxgen.interop import load_schedule

DDIM = {"_class_name": "DDIMScheduler", "_diffusers_version": "0.6.0"}
STABLE_DIFFUSION = {
    "_class_name": "PNDMScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
    "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
    "trained_betas": None, "clip_sample": False,
}
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}


def load(directory, config):
    (directory / "scheduler_config.json").write_text(json.dumps(config))
    return load_schedule(directory)


@pytest.mark.parametrize(("config", "steps", "values"), [
    (DDIM, [0, 499, 999], [0.9999, 0.078587242882, 4.0358297654e-5]),
    (STABLE_DIFFUSION, [0, 499, 999], [0.99915, 0.2776696505, 0.0046600985]),
    ({**DDIM, "beta_schedule": "squaredcos_cap_v2"}, [0, 499], [1 - 4.1284224822e-5, 0.49384359044]),
    ({**DDIM, "trained_betas": [0.1, 0.2, 0.5]}, [0, 1, 2], [0.9, 0.72, 0.36]),
    ({**DDIM, "num_train_timesteps": 2, "beta_start": 0.1, "beta_end": 0.3}, [0, 1], [0.9, 0.63]),
    ({"_class_name": "HeunDiscreteScheduler", "num_train_timesteps": 2}, [0, 1], [0.99915, 0.99915 * 0.988]),
    ({"_class_name": "KDPM2AncestralDiscreteScheduler", "num_train_timesteps": 2}, [0, 1], [0.99915, 0.99915 * 0.988]),
    ({"_class_name": "DEISMultistepScheduler", "num_train_timesteps": 2}, [0, 1], [0.9999, 0.9999 * 0.98]),
    ({"_class_name": "SASolverScheduler", "num_train_timesteps": 2}, [0, 1], [0.9999, 0.9999 * 0.98]),
    ({"_class_name": "LCMScheduler"}, [0, 499, 999], [0.99915, 0.2776696505, 0.0046600985]),
])
def test_tables_have_their_published_values(config, steps, values, tmp_path):
    schedule, kind = load(tmp_path, config)
    assert isinstance(schedule, Discrete) and kind == "eps"
    np.testing.assert_allclose(schedule.alphas_cumprod[np.array(steps)], values, rtol=1e-6)


def test_the_rescaled_table_ends_in_zero(tmp_path):
    schedule, kind = load(tmp_path, {
        **STABLE_DIFFUSION, "_class_name": "DDIMScheduler", "rescale_betas_zero_snr": True,
        "prediction_type": "v_prediction",
    })
    assert kind == "v" and schedule.alphas_cumprod[999] == 0
    np.testing.assert_allclose(np.sqrt(schedule.alphas_cumprod[0]), 0.99957490965, rtol=1e-6)


def test_a_flow_has_its_shift(tmp_path):
    schedule, kind = load(tmp_path, FLOW)
    assert kind == "flow"
    np.testing.assert_allclose(schedule.sigma(np.array([0.25, 0.5])), [0.5, 0.75], rtol=1e-6)
    assert load(tmp_path, {"_class_name": FLOW["_class_name"]}).schedule.shift == 1


def test_a_pipelines_schedule_is_in_its_sub_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither .*scheduler_config\.json nor .*scheduler/scheduler_config"):
        load_schedule(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        load_schedule(tmp_path / "nowhere")
    (tmp_path / "scheduler").mkdir()
    load(tmp_path / "scheduler", {**DDIM, "prediction_type": "sample"})
    assert load_schedule(tmp_path).kind == "x0"


@pytest.mark.parametrize(("config", "message"), [
    ({}, "unknown _class_name of the scheduler None"),
    ({"_class_name": "DDIMSchedular"}, "Did you mean 'DDIMScheduler'"),
    ({**DDIM, "beta_schedule": "sigmoid"}, "unknown beta_schedule 'sigmoid': expected one of 'linear', "),
    ({**DDIM, "prediction_type": "epsilom"}, "unknown prediction_type.*Did you mean 'epsilon'"),
    ({**DDIM, "_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"},
     "EulerDiscreteScheduler with timestep_type='continuous' cannot be loaded: only 'discrete'"),
    ({**DDIM, "_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": True}, "use_flow_sigmas=True cannot"),
    ({**FLOW, "use_dynamic_shifting": True}, "use_dynamic_shifting=True cannot be loaded: only False"),
    ({**DDIM, "trained_betas": [0.1, 2.0]}, r"betas must be a vector \[T\] in \(0, 1\]"),
])
def test_what_is_not_supported_is_named(config, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load(tmp_path, config)


@pytest.mark.parametrize(("entries", "message"), [
    ({"num_train_timesteps": "1000"}, "num_train_timesteps='1000', but"), ({"beta_start": "x"}, "beta_start='x', but"),
    ({"beta_end": float("nan")}, "beta_end=nan, but beta_end must be a number above 0"),
    ({"prediction_type": ["epsilon"]}, r"prediction_type=\['epsilon'\], but prediction_type must be a name"),
    ({"_class_name": ["DDIMScheduler"]}, "_class_name must be a name"), ({"trained_betas": []}, "trained_betas="),
    ({"num_train_timesteps": None}, "steps=None, but"),
])
def test_entries_of_another_type_are_named_with_their_file(entries, message, tmp_path):
    with pytest.raises(ValueError, match=rf"scheduler_config\.json: .*{message}"):
        load(tmp_path, {**DDIM, **entries})


def test_a_file_that_is_no_configuration_is_named(tmp_path):
    for content, message in (("{", "is no JSON"), ("[1]", r"must hold an object \{...\}, got list")):
        (tmp_path / "scheduler_config.json").write_text(content)
        with pytest.raises(ValueError, match=f"scheduler_config.json {message}"):
            load_schedule(tmp_path)
