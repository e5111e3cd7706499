"""What every family promises: its protocols, frozen fields by keyword, equality, and the same results in any batch."""

import dataclasses
import functools
import inspect
import pickle
from math import prod

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgen import models
from jaxgen.core.types import Variables
from jaxgen.diffusion import linear
from jaxgen.models import base
from jaxgen.nn import ConvClassifier, DiT, Transformer
from jaxgen.quantize import vq
from tests.helpers.parameters import drawn

SHAPE, KEY = (4, 4, 1), jax.random.key(0)
X = np.random.default_rng(1).uniform(-1, 1, (4, *SHAPE)).astype(np.float32)
TEXT = np.random.default_rng(2).integers(0, 257, (4, 16)).astype(np.int32)


class Down(nn.Module):
    """Blocks of 2x2 pixels to vectors, in place of convolutions that take long to compile."""

    width: int

    @nn.compact
    def __call__(self, x):
        b, h, w, c = x.shape
        x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, 4 * c)
        return nn.Dense(self.width)(x)


class Up(nn.Module):
    """Vectors to blocks of 2x2 pixels."""

    width: int

    @nn.compact
    def __call__(self, z):
        b, h, w, _ = z.shape
        x = nn.Dense(4 * self.width)(z).reshape(b, h, w, 2, 2, self.width)
        return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, self.width)


def vqvae():
    return models.VQVAE(encoder=Down(3), decoder=Up(1), quantizer=vq(7))


def vqvae2():
    return models.VQVAE2(bottom_encoder=Down(3), top_encoder=Down(2), top_decoder=Up(3), decoder=Up(1),
                         top_quantizer=vq(5), bottom_quantizer=vq(7), latent_channels=2)


def kl_autoencoder():
    return models.KLAutoencoder(encoder=Down(6), decoder=Up(1), scale=0.5)


def classifier():
    return models.Classifier(network=ConvClassifier(num_classes=3, channels=(4,)))


def diffusion(kind="edm", shape=SHAPE, **options):
    network = DiT(patch_size=2, features=8, depth=1, heads=2, out_channels=shape[-1], num_classes=3)
    return models.DiffusionModel(network=network, sample_shape=shape, kind=kind, conditions=models.Classes(3),
                                 **options)


def latent_diffusion():
    return models.LatentDiffusion(model=diffusion(shape=(2, 2, 3)), autoencoder=kl_autoencoder())


def masked_prior(tokenizer=vqvae, shape=(2, 2), codes=7):
    network = Transformer(num_tokens=codes + 1, num_outputs=codes, features=8, depth=1, heads=2, num_classes=3,
                          max_length=16)
    return models.TokenPrior(model=models.MaskedModel(network=network, conditions=models.Classes(3)),
                             tokenizer=tokenizer(), sample_shape=shape)


def autoregressive_prior(tokenizer=vqvae, shape=(2, 2), codes=7):
    network = Transformer(num_tokens=codes, num_outputs=codes, features=8, depth=1, heads=2, num_classes=3,
                          causal=True, max_length=16)
    return models.TokenPrior(model=models.AutoregressiveModel(network=network, conditions=models.Classes(3)),
                             tokenizer=tokenizer(), sample_shape=shape)


RECONSTRUCTING, AUTOENCODER, TOKENIZER = base.Reconstructing, base.Autoencoder, base.Tokenizer
PROTOCOLS = (RECONSTRUCTING, AUTOENCODER, TOKENIZER, base.Classifying, base.Denoising, base.TokenGenerating,
             base.SecondStage)
FAMILIES = {
    vqvae: (RECONSTRUCTING, AUTOENCODER, TOKENIZER),
    vqvae2: (RECONSTRUCTING,),
    kl_autoencoder: (RECONSTRUCTING, AUTOENCODER),
    classifier: (base.Classifying,),
    diffusion: (base.Denoising,),
    latent_diffusion: (base.Denoising, AUTOENCODER, base.SecondStage),
    masked_prior: (base.TokenGenerating, TOKENIZER, base.SecondStage),
    autoregressive_prior: (base.TokenGenerating, TOKENIZER, base.SecondStage),
    models.ByteTokenizer: (TOKENIZER,),
}
every_family = pytest.mark.parametrize("make", FAMILIES, ids=lambda make: make.__name__)


def members(protocol):
    """The protocol's methods, with those of the protocols that it extends."""
    return [(name, function) for part in reversed(protocol.__mro__) for name, function in vars(part).items()
            if inspect.isfunction(function) and not name.startswith("_")]


def test_every_model_that_can_be_built_is_looked_at():
    made = {type(make()) for make in FAMILIES}
    assert made == set(models.build.__globals__["MODELS"].values())


@every_family
def test_a_family_can_do_what_is_said_and_nothing_else(make):
    assert [protocol for protocol in PROTOCOLS if isinstance(make(), protocol)] == [
        protocol for protocol in PROTOCOLS if protocol in FAMILIES[make]]


@pytest.mark.parametrize(("make", "protocol"), [
    (masked_prior, base.MaskedTokens), (autoregressive_prior, base.NextTokens)])
def test_a_model_of_tokens_is_of_one_kind(make, protocol):
    assert [p for p in (base.MaskedTokens, base.NextTokens) if isinstance(make().model, p)] == [protocol]


@every_family
def test_each_method_is_documented_and_takes_what_its_protocol_says(make):
    for protocol in (base.Model, *FAMILIES[make]):
        for name, promised in members(protocol):
            method = getattr(type(make()), name)
            assert inspect.getdoc(method), f"{type(make()).__name__}.{name}"
            ours, theirs = (list(inspect.signature(f).parameters.values()) for f in (method, promised))
            assert [(p.kind, p.default) for p in ours] == [(p.kind, p.default) for p in theirs], name
            assert [p.name for p in ours if p.kind is p.KEYWORD_ONLY] == [
                p.name for p in theirs if p.kind is p.KEYWORD_ONLY]


@pytest.mark.parametrize("make", [masked_prior, autoregressive_prior], ids=lambda make: make.__name__)
def test_each_method_of_a_model_of_tokens_is_documented(make):
    model = make().model
    for protocol in (base.MaskedTokens, base.NextTokens):
        if isinstance(model, protocol):
            for name, _ in members(protocol):
                assert inspect.getdoc(getattr(type(model), name)), name


@every_family
def test_fields_are_given_by_keyword_and_stay_as_they_are(make):
    fields = dataclasses.fields(model := make())
    assert all(field.kw_only for field in fields)
    for field in fields:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(model, field.name, None)


@pytest.mark.parametrize("make", [*FAMILIES, functools.partial(diffusion, "eps", schedule=linear(steps=10))],
                         ids=lambda make: getattr(make, "__name__", "discrete"))
def test_equal_models_are_one_argument_of_jit_and_come_back_from_pickle(make):
    first, second, traced = make(), make(), []

    @functools.partial(jax.jit, static_argnums=0)
    def run(model, x):
        traced.append(model)
        return x

    assert first is not second and first == second and hash(first) == hash(second)
    run(first, X), run(second, X)
    assert len(traced) == 1
    assert pickle.loads(pickle.dumps(first)) == first


@every_family
def test_a_model_of_another_field_is_another_one(make):
    others = [other() for other in FAMILIES if other is not make]
    assert all(make() != other for other in others)


@pytest.mark.parametrize(("model", "change"), [
    (vqvae(), {"quantizer": vq(8)}), (kl_autoencoder(), {"scale": 2.0}), (diffusion(), {"sigma_data": 1.0}),
    (diffusion("eps", schedule=linear(steps=10)), {"schedule": linear(steps=11)}),
    (masked_prior(), {"sample_shape": (1, 4)})])
def test_a_changed_field_makes_another_model(model, change):
    assert dataclasses.replace(model, **change) != model


@every_family
def test_init_gives_variables_of_float32_and_of_the_key_only(make):
    model = make()
    init = jax.jit(model.init, static_argnums=1)
    keys = (jax.random.key(seed, impl="unsafe_rbg") for seed in (0, 0, 1))  # whose draws compile in a third of the time
    first, again, other = jax.device_get([init(key, SHAPE) for key in keys])
    assert isinstance(first, Variables)
    chex.assert_trees_all_equal(first, again)
    leaves = jax.tree.leaves(first.params)
    assert {leaf.dtype for leaf in leaves} <= {jnp.dtype("float32")}
    assert not leaves or any(np.any(a != b) for a, b in zip(leaves, jax.tree.leaves(other.params), strict=True))


def in_shape(x, shape):
    """The first numbers of each example, in another shape."""
    return x.reshape(len(x), -1)[:, :prod(shape)].reshape(-1, *shape)


COND = np.array([2, 0, 1, 3])
SIGMA = np.float32([0.1, 1.0, 5.0, 20.0])
CALLS = {
    "forward": lambda model, v, x, i: model.forward(v, x)[0],
    "to_latents": lambda model, v, x, i: model.to_latents(v, x),
    "drawn to_latents": lambda model, v, x, i: model.to_latents(v, x, key=KEY, sample_ids=i),
    "from_latents": lambda model, v, x, i: model.from_latents(v, model.to_latents(v, x)),
    "to_tokens": lambda model, v, x, i: model.to_tokens(v, x),
    "from_tokens": lambda model, v, x, i: model.from_tokens(v, model.to_tokens(v, x)),
    "logits": lambda model, v, x, i: model.logits(v, x),
    "features": lambda model, v, x, i: model.features(v, x),
    "denoise": lambda model, v, x, i: model.denoise(
        v.params, in_shape(x, model.sample_shape), jnp.asarray(SIGMA)[i], {"classes": jnp.asarray(COND)[i]}),
    "token logits": lambda model, v, x, i: model.model.logits(
        v.params, model.to_tokens(v, x), *(i / 4,) * hasattr(model.model, "mask_id"),
        {"classes": jnp.asarray(COND)[i]}),
}
OF_PROTOCOL = {
    RECONSTRUCTING: ["forward"], AUTOENCODER: ["to_latents", "drawn to_latents", "from_latents"],
    TOKENIZER: ["to_tokens", "from_tokens"], base.Classifying: ["logits", "features"], base.Denoising: ["denoise"],
    base.TokenGenerating: ["token logits"], base.SecondStage: [],
}


@functools.cache
def variables(make):
    model = make()
    return model, drawn(model, SHAPE)


@every_family
def test_a_batch_of_one_and_vmap_give_what_a_batch_of_four_gives(make):
    """Of every method of the family's protocols that computes something of examples."""
    model, own = variables(make)
    x, i = TEXT if make is models.ByteTokenizer else X, np.arange(4)
    calls = [CALLS[name] for protocol in FAMILIES[make] for name in OF_PROTOCOL[protocol]]

    @jax.jit
    def run(own, x):
        whole = [call(model, own, x, i) for call in calls]
        alone = [call(model, own, x[2:3], i[2:3]) for call in calls]
        mapped = [jax.vmap(lambda x, i, call=call: call(model, own, x[None], i[None]))(x, i) for call in calls]
        return whole, jax.tree.map(lambda a: a[0], alone), jax.tree.map(lambda a: a[:, 0], mapped)

    if make is models.ByteTokenizer:
        run = run.__wrapped__  # which looks at the bytes
        whole, alone, mapped = ([call(model, own, rows, None) for call in calls] for rows in (x, x[2:3], x))
        alone = [a[0] for a in alone]
    else:
        whole, alone, mapped = jax.device_get(run(own, x))
    assert calls
    chex.assert_trees_all_close(alone, jax.tree.map(lambda a: a[2], whole), rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_close(mapped, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [vqvae, kl_autoencoder, latent_diffusion], ids=lambda make: make.__name__)
def test_keys_draw_latents_of_a_posterior_and_nothing_of_a_vqvae(make):
    model, own = variables(make)

    @jax.jit
    def run(own, key):
        keys = jax.random.split(key, 3)
        return jax.vmap(lambda key: model.to_latents(own, X, key=key))(keys), model.to_latents(own, X, key=keys[1])

    drawn, one = jax.device_get(run(own, KEY))
    chex.assert_trees_all_close(drawn[1], one, atol=1e-5)
    assert np.all(drawn[0] == drawn[1]) == (make is vqvae)


@pytest.mark.parametrize("make", [diffusion, latent_diffusion, masked_prior, autoregressive_prior],
                         ids=lambda make: make.__name__)
def test_what_samples_says_what_stands_for_no_condition(make):
    model, own = variables(make)
    assert model.conditions == models.Classes(3)
    np.testing.assert_array_equal(model.null(2)["classes"], [3, 3])
    np.testing.assert_array_equal(model.encode(own.params, {"classes": np.array([1])})["classes"], [1])
    assert model.sample_shape == {diffusion: SHAPE, latent_diffusion: (2, 2, 3)}.get(make, (2, 2))
