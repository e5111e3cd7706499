"""The house takes new families: two that the library does not know train, come back, sample, edit and are measured."""

import shutil
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common.training import Recipe, run_training
from experiments.common.watching import watch_reconstructions, watch_samples
from experiments.configs import base
from jaxgen import data, diffusion, generate, models, objectives, runs
from jaxgen.core.types import Variables
from jaxgen.evaluate import efficiency
from jaxgen.evaluate.energy import Counter
from jaxgen.runs import _efficiency
from jaxgen.show import read_records

SHAPE, PATCH, WIDTH = (8, 8, 1), 4, 4
CLASSES = models.Classes(2)


@dataclass(frozen=True, kw_only=True)
class PatchAutoencoder:
    """Patches of 4x4 pixels to four numbers and back, linearly."""

    num_codes = None

    def init(self, key, example_shape):
        down, up = (0.3 * jax.random.normal(k, (PATCH * PATCH, WIDTH)) for k in jax.random.split(key))
        return Variables({"down": down, "up": up.T}, {})

    def forward(self, variables, x, *, train=False, key=None):
        return self.from_latents(variables, self.to_latents(variables, x)), {}, variables.state

    def to_latents(self, variables, x, *, key=None, sample_ids=None):
        count, height, width, _ = x.shape
        patches = x.reshape(count, height // PATCH, PATCH, width // PATCH, PATCH).swapaxes(2, 3)
        return patches.reshape(*patches.shape[:3], -1) @ variables.params["down"]

    def from_latents(self, variables, z):
        patches = (z @ variables.params["up"]).reshape(*z.shape[:3], PATCH, PATCH).swapaxes(2, 3)
        return patches.reshape(len(z), z.shape[1] * PATCH, z.shape[2] * PATCH, 1)


@dataclass(frozen=True, kw_only=True)
class MeanDiffusion:
    """The denoiser of examples that are normal around a mean of their class."""

    sample_shape: tuple[int, ...] = SHAPE
    conditions, schedule = models.Classes(2), None

    def init(self, key, example_shape):
        return Variables({"mean": jnp.zeros((3, *self.sample_shape)), "log_std": jnp.zeros(())}, {})

    def denoise(self, params, x, sigma, cond=None, *, key=None):
        mean, variance = params["mean"][(cond or self.null(len(x)))["classes"]], jnp.exp(2 * params["log_std"])
        sigma = jnp.reshape(sigma, (-1, *(1,) * (x.ndim - 1)))
        return (variance * x + sigma**2 * mean) / (variance + sigma**2)

    def encode(self, params, cond):
        return dict(cond or {})

    def null(self, count):
        return self.conditions.null(count)


def latent_family():
    return models.LatentDiffusion(model=MeanDiffusion(sample_shape=(2, 2, WIDTH)), autoencoder=PatchAutoencoder())


FAMILIES = {"patches": PatchAutoencoder, "means": MeanDiffusion, "latent means": latent_family}


def build(name, **description):
    return FAMILIES[name]()


def dataset(count):
    """Bright images of class 1 and dark ones of class 0."""
    labels = np.arange(count) % 2
    noise = np.random.default_rng(0).integers(0, 100, (count, *SHAPE))
    return data.Dataset.from_arrays((noise + 150 * labels[:, None, None, None]).astype(np.uint8), labels)


def recipe(config, workdir):
    train_set, test_set = dataset(64), dataset(32)
    model, state, sizes = build(config.model.name), None, {}
    diffusing = {"draw_sigmas": partial(diffusion.log_normal_sigmas, mean=-1.2, std=1.2),
                 "weighting": diffusion.edm_weighting()}
    if config.model.name == "patches":
        loss_fn = partial(objectives.vqvae_loss, forward=model.forward)
        return Recipe(model, {}, train_set, test_set, loss_fn, watch_reconstructions(model, test_set))
    diffusing |= {"denoise": model.denoise,
                  "conditions": objectives.Conditions(model.conditions.entries, model.null, 0.1)}
    loss_fn = partial(objectives.diffusion_loss, **diffusing)
    if isinstance(model, models.Autoencoder):
        loss_fn = partial(objectives.latent_diffusion_loss, to_latents=model.to_latents, **diffusing)
        first = runs.find_first_stage("autoencoder", config.autoencoder, workdir, able=models.Autoencoder,
                                      source="patches", build=build)
        sizes = {"autoencoder": first.description}
        state = first.second_state or {"autoencoder": first.variables, "std": jnp.float32(2)}
    return Recipe(model, sizes, train_set, test_set, loss_fn, watch_samples(model, loss_fn, config.sampling, test_set),
                  state=state)


def train(name, workdir, **changes):
    config = base.variant(base.diffusing(), "smoke", {"num_steps": 6, "optimizer.learning_rate": 0.1})
    config.logging.tensorboard = False
    config.sampling.update({"solver": "euler", "steps": 4, "guidance": 2.0})
    if name == "patches":
        del config.sampling
    config.update({"model": {"name": name}, **changes})
    run_training(recipe, config, workdir)
    return runs.load(workdir, build=build)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The run of each family, read back."""
    directory = tmp_path_factory.mktemp("runs")
    result = {name: train(name, directory / name) for name in ("patches", "means")}
    result["latent means"] = train("latent means", directory / "latent", autoencoder=str(directory / "patches"))
    return result


@pytest.fixture(params=FAMILIES)
def run(request, trained):
    return trained[request.param]


@pytest.fixture(params=["means", "latent means"])
def sampling(request, trained):
    return trained[request.param]


def images(count):
    return np.asarray(data.to_float(dataset(count).examples()))


def test_it_trains_and_comes_back_from_its_run(run):
    records = read_records(run.path / "metrics.jsonl")
    fresh = run.model.init(jax.random.key(0), SHAPE).params
    assert run.step == 6 and run.example_shape == SHAPE and run.spec == dataset(2).spec
    assert any(name.startswith("eval/") for record in records for name in record)
    assert any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (fresh, run.variables.params))))


def test_its_samples_are_examples_that_follow_seed_and_class_and_not_the_batch(sampling):
    samples = sampling.sample(4, classes=[0, 1])
    assert samples.shape == (4, *SHAPE) and np.isfinite(samples).all()
    np.testing.assert_allclose(sampling.sample(4, classes=[0, 1], batch=2), samples, atol=1e-5)
    assert np.abs(sampling.sample(4, classes=[0, 1], seed=1) - samples).max() > 1e-3
    assert np.abs(sampling.sample(4, classes=[1, 0]) - samples).max() > 1e-3


@pytest.mark.parametrize("name", ["patches", "latent means"])
def test_what_has_latents_reconstructs(trained, name):
    x = images(3)
    model, variables = PatchAutoencoder(), trained["patches"].variables
    expected = model.from_latents(variables, model.to_latents(variables, x))
    np.testing.assert_allclose(trained[name].reconstruct(x), expected, atol=1e-5)


@pytest.mark.parametrize(("name", "measures"), [
    ("patches", {"mse", "psnr"}), ("means", {"bits_per_dim", "bits_prior", "bits_diffusion", "bits_reconstruction"}),
    ("latent means", {"mse", "psnr", *(f"latent_error_{level}" for level in (0.1, 0.3, 1.0, 3.0, 10.0))}),
])
def test_it_is_measured_by_what_it_can_do(trained, name, measures):
    result = trained[name].evaluate(dataset(6))
    assert set(result) == measures and np.isfinite(list(result.values())).all()


@pytest.mark.parametrize(("name", "measured"), [
    ("patches", {"reconstruction"}), ("means", {"sample"}), ("latent means", {"sample", "reconstruction"}),
])
def test_what_it_can_do_has_a_cost(monkeypatch, trained, name, measured):
    monkeypatch.setattr(_efficiency, "energy_counters", lambda: ([Counter("package-0", lambda: 5.0)], []))
    monkeypatch.setattr(efficiency, "COUNTED", 0.0)
    found, _ = runs.efficiency(trained[name], batch=2, rounds=1)
    assert found["energy_of"] == ["package-0"] and all(f"joules_per_{one}" in found for one in measured)
    assert {key.removeprefix("seconds_per_") for key in found if key.startswith("seconds_per_")} == measured
    if "reconstruction" in measured:  # four patches of 16 pixels, to four numbers and back
        assert found["flops_per_reconstruction"] == pytest.approx(2 * 4 * 2 * 16 * 4, rel=0.05)
    if "sample" in measured:
        assert found["evaluations_per_sample"] == 8  # four steps of Euler's, guided
        assert found["flops_per_sample"] >= 8 * found["flops_per_evaluation"] > 0


def test_it_fills_in_and_keeps_what_the_mask_keeps(sampling):
    x, keep = images(2), np.zeros((2, *SHAPE), bool)
    keep[:, :4] = True
    result = sampling.inpaint(x, keep)
    expected = x if isinstance(sampling.model, MeanDiffusion) else sampling.reconstruct(generate.hide(x, keep))
    np.testing.assert_allclose(result[:, :4], expected[:, :4], atol=1e-5)
    assert np.abs(result[:, 4:] - expected[:, 4:]).max() > 1e-3


def test_it_edits_images_into_others(sampling):
    x = images(2)
    result = sampling.img2img(x, strength=0.5)
    assert result.shape == x.shape and np.abs(result - x).max() > 1e-3


@pytest.mark.parametrize(("name", "first"), [
    ("patches", "reconstruct"), ("means", "sample, inpaint, img2img"), ("latent means", "sample, inpaint, img2"),
])
def test_it_says_what_it_is_and_what_it_can_do(trained, name, first):
    run, words = trained[name], repr(trained[name])
    assert words.startswith(f"Run('{run.path}', step 6): a '{name}', examples of 8x8x1; can {first}")
    assert words.endswith("evaluate") and "\n" not in words
    for ability in words.rpartition("can ")[2].split(", "):  # each is a method that runs
        arguments = {"sample": (4,), "evaluate": (dataset(6),), "inpaint": (images(2), np.ones((2, *SHAPE), bool))}
        getattr(run, ability)(*arguments.get(ability, (images(2),)))


def test_images_of_another_shape_than_its_own_are_refused_with_the_fix(trained):
    patches, means = trained["patches"], trained["means"]
    for call, message in (
        (lambda x: patches.reconstruct(x[0]), r"x must be .*\[B, 8, 8, 1\], got shape \(8, 8, 1\): .*x\[None\]"),
        (lambda x: patches.reconstruct(x.repeat(3, -1)), r"got shape \(2, 8, 8, 3\): bring them"),
        (lambda x: patches.reconstruct(x[:, :5]), r"x has shape \(2, 5, 8, 1\), .* \(8, 8, 1\): .* Resize"),
        (lambda x: means.img2img(x[0]), r"x must be .*x\[None\]"),
        (lambda x: means.inpaint(x[:, :4], np.ones((2, 4, 8, 1), bool)), r"x has shape \(2, 4, 8, 1\), .* one size"),
    ):
        with pytest.raises(ValueError, match=message):
            call(images(2))
    assert patches.reconstruct(np.tile(images(2), (1, 2, 1, 1))).shape == (2, 16, 8, 1)  # which it divides


@pytest.mark.parametrize(("name", "method", "message"), [
    ("patches", lambda run: run.sample(2), "trained a 'patches', which has no samples of its own"),
    ("means", lambda run: run.reconstruct(images(1)), "a MeanDiffusion has no reconstructions"),
])
def test_what_it_cannot_do_is_said(trained, name, method, message):
    with pytest.raises(ValueError, match=message):
        method(trained[name])


def test_its_run_goes_on_with_its_own_first_stage(trained, tmp_path):
    shutil.copytree(trained["latent means"].path, tmp_path / "latent")
    config_changes = {"autoencoder": str(trained["patches"].path), "num_steps": 8}
    longer = train("latent means", tmp_path / "latent", **config_changes)
    assert longer.step == 8
    np.testing.assert_array_equal(longer.reconstruct(images(2)), trained["latent means"].reconstruct(images(2)))
