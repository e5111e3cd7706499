"""What samplers say of their work, next to calls of their networks that are counted while they run."""

import dataclasses
import functools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import generate, models
from jaxgen.core.cost import flops
from tests.generate.cases import DESCRIPTIONS, KEY, case, classes

COND, CODES = classes(0, 1, 2), 7
# What a network's place is taken by: what it answers is of its shape.
STAND_INS = {"denoise": lambda x, *_: x / 2, "logits": lambda tokens, *_: jnp.zeros((*tokens.shape, CODES)),
             "next_logits": lambda before, cache, *_: (jnp.zeros((*before.shape, CODES)), cache)}


def counting(model, calls):
    """The model, whose network is a stand-in that notes how many samples each call has."""
    inner = model if hasattr(model, "denoise") else model.model
    method = next(name for name in ("denoise", "next_logits", "logits") if hasattr(inner, name))

    def counted(self, params, x, *arguments, **_):
        jax.debug.callback(lambda: calls.update(samples=x.shape[0]))
        return STAND_INS[method](x, *arguments)

    fields = {field.name: getattr(inner, field.name) for field in dataclasses.fields(inner)}
    own = type("Counted", (type(inner),), {method: counted})(**fields)
    return own if inner is model else dataclasses.replace(model, model=own)


@pytest.mark.parametrize(("name", "settings", "expected"), [
    ("pixels", {"solver": "heun", "steps": 3, "guidance": 2.0}, 10),
    # Heun's method asks twice at each level but the first: here two levels of five are guided.
    ("pixels", {"solver": "heun", "steps": 5, "guidance": 2.0, "guidance_low": 1.0, "guidance_high": 20.0,
                "sigma_min": 0.4}, 9 + 4),
    ("pixels", {"solver": "pndm", "steps": 5}, 6),
    ("masked", {"steps": 3}, 3), ("autoregressive", {"guidance": 1.5}, 32),
])
def test_evaluations_are_the_networks_calls_for_each_sample(name, settings, expected):
    calls = Counter()
    sampler = generate.make_sampler(counting(case(name).model, calls), settings)
    jax.block_until_ready(sampler.draw(case(name).variables, KEY, np.arange(3), COND))
    jax.effects_barrier()
    assert sampler.work.evaluations() == calls["samples"] / 3 == expected


@pytest.mark.parametrize("name", ["pixels", "masked"])
def test_a_model_without_conditions_is_not_guided(name):
    plain = models.build(**{**DESCRIPTIONS[name], "conditions": {"name": "none"}})
    settings = {"steps": 4, "solver": "euler"} if name == "pixels" else {"steps": 4}
    assert generate.make_sampler(plain, {"guidance": 2.0, **settings}).work.evaluations() == 4


@pytest.mark.parametrize(("name", "settings"), [
    ("latents", {"solver": "euler"}), ("masked", {}), ("autoregressive", {})])
def test_operations_of_the_parts_make_up_those_of_the_whole(monkeypatch, name, settings):
    """Solvers' and draws' own arithmetic comes to the whole: a tenth, as the networks are tiny here."""
    # So that programs can be traced again; other tests' programs, and these for other tests, must not be found.
    monkeypatch.setattr(generate.sampler, "compiler_options", lambda: None)
    monkeypatch.setattr(generate.sampler, "_compiled", functools.lru_cache(generate.sampler._compiled.__wrapped__))
    sampler = generate.make_sampler(case(name).model, {"guidance": 2.0, **settings})
    variables, ids = case(name).variables, np.arange(3)
    encoded, x = jax.eval_shape(sampler.work.once, variables, COND, ids)
    assert x.shape == (3, *case(name).shape)
    parts = (sampler.work.evaluations() * flops(sampler.work.network, variables, encoded, ids)
             + flops(sampler.work.once, variables, COND, ids))
    assert parts < flops(sampler.draw, variables, KEY, ids, COND) < 1.15 * parts
