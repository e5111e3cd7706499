"""The contract of samplers, over every family that samples."""

import jax
import numpy as np
import pytest

from jaxgen import generate
from tests.generate.cases import DESCRIPTIONS, DIFFUSION, KEY, SETTINGS, case, classes, draw, sampler
from tests.helpers import compilations

FAMILIES = pytest.mark.parametrize("name", DESCRIPTIONS)
MIXED = classes(0, 2, 1, 2)


@FAMILIES
def test_samples_are_examples_of_the_model(name):
    samples, (_, _, shape) = draw(name, range(4), MIXED), case(name)
    assert samples.shape == (4, *shape)
    if name == "text":
        assert samples.dtype == np.int32 and samples.min() >= 0 and samples.max() < 257
    else:
        assert samples.dtype == np.float32 and np.isfinite(samples).all()


@FAMILIES
def test_a_sample_is_the_same_by_itself_without_guidance_and_among_others_with_guidance_by_one(name):
    together = draw(name, range(4), MIXED, guidance=1.0 + 1e-7)
    for i in (0, 3):
        alone = draw(name, [i], {"classes": MIXED["classes"][i : i + 1]}, guidance=1.0)
        np.testing.assert_allclose(alone[0], together[i], atol=2e-4, err_msg=f"sample {i}")


@FAMILIES
def test_a_sample_follows_its_id_and_not_its_place(name):
    swapped = draw(name, [3, 1, 2, 0], {"classes": MIXED["classes"][[3, 1, 2, 0]]})
    np.testing.assert_allclose(swapped[[3, 1, 2, 0]], draw(name, range(4), MIXED), atol=2e-4)
    same = draw(name, range(4), classes(1, 1, 1, 1))
    assert all(np.any(same[0] != other) for other in same[1:])


@FAMILIES
def test_samples_follow_the_key(name):
    assert np.any(draw(name, range(4), MIXED, jax.random.key(1)) != draw(name, range(4), MIXED))


@FAMILIES
def test_a_class_changes_only_its_own_sample(name):
    settings = {"guidance": 3.0}
    before = draw(name, range(4), MIXED, **settings)
    after = [draw(name, range(4), classes(c, 2, 1, 2), **settings) for c in (1, 2, 3)]
    for other in after:
        np.testing.assert_allclose(before[1:], other[1:], atol=2e-4)
    assert any(np.any(before[0] != other[0]) for other in after)


@FAMILIES
def test_other_seeds_classes_and_numbers_need_no_other_program(name):
    model, variables, _ = case(name)
    changes = [{"guidance": 3.0}, {"guidance": 2.0}]
    if name in DIFFUSION:
        changes += [{"guidance": 2.0, "sigma_max": 20.0}, {"guidance": 4.0, "guidance_high": 5.0}]
    else:
        changes += [{"guidance": 2.0, "temperature": 0.7}]
    samplers = [generate.make_sampler(model, {**SETTINGS[name], **change}) for change in changes]
    key, ids = jax.random.key(7), np.int32([5, 6, 7, 8])
    samplers[0].draw(variables, KEY, np.arange(4, dtype=np.int32), MIXED)
    assert compilations.count(
        lambda: [other.draw(variables, key, ids, classes(2, 2, 0, 1)) for other in samplers]) == 0


@FAMILIES
def test_all_samples_come_in_batches_of_one_size(name):
    _, variables, shape = case(name)
    cond = case(name).model.conditions.parse(5, classes=[2, 0])
    first, last = cond["classes"][:4], np.repeat(cond["classes"][4:], 4)
    expected = np.concatenate([draw(name, range(4), {"classes": first}), draw(name, [4] * 4, {"classes": last})[:1]])
    samples = generate.sample(sampler(name), variables, KEY, cond, 5, batch=4)
    assert isinstance(samples, np.ndarray) and samples.shape == (5, *shape)
    np.testing.assert_allclose(samples, expected, atol=2e-4)


@pytest.mark.parametrize(("name", "settings", "expected"), [
    ("pixels", {"solver": "heun", "steps": 3}, 5), ("pixels", {"solver": "euler", "steps": 3}, 3),
    ("latents", {"solver": "dpmpp_2m", "steps": 3}, 3), ("masked", {"steps": 3}, 3), ("autoregressive", {}, 16),
    ("text", {}, 6),
])
def test_evaluations_of_the_network_are_told(name, settings, expected):
    assert sampler(name, guidance=1.0, **settings).work.evaluations() == expected


@pytest.mark.parametrize("name", DIFFUSION)
def test_a_trajectory_ends_in_the_sample_and_changes_nothing(name):
    model, variables, shape = case(name)
    with_trajectory = generate.diffusion_sampler(model, {"steps": 3}, save_every=1)
    x, trajectory = with_trajectory.draw(variables, KEY, np.arange(4, dtype=np.int32), MIXED)
    alone = draw(name, [3], {"classes": MIXED["classes"][3:]}, guidance=1.0)
    np.testing.assert_allclose(x[3:], alone, atol=2e-4)
    assert trajectory.shape == (3, 4, *shape) and np.isfinite(trajectory).all()
    np.testing.assert_allclose(trajectory[-1], x, atol=2e-4)
    parts = list(generate.sample_batches(with_trajectory, variables, KEY, model.conditions.parse(5), 5, batch=4))
    assert [part.shape for _, part in parts] == [(3, 4, *shape), (3, 1, *shape)]


def test_what_does_not_sample_is_refused():
    with pytest.raises(ValueError, match="a VQVAE has no samples of its own"):
        generate.make_sampler(case("latents").model.autoencoder)
