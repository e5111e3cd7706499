"""Samples of token priors: what the network is asked, what it draws, and tokens that could not be drawn."""

from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import generate, models
from jaxgen import tokens as tk
from jaxgen.core.types import Variables
from tests.generate.cases import KEY, case, classes, sampler


def test_tokens_are_those_of_the_network_without_its_cache():
    model, variables, _ = case("autoregressive")
    ids, cond = jnp.arange(3), classes(2, 0, 1)
    plain = sampler("autoregressive", temperature=0.7, guidance=1.0)
    _, tokens = generate.sample_token_ids(plain, variables, KEY, ids, cond)
    expected = jnp.zeros((3, 16), jnp.int32)

    @jax.jit
    def extended(before, i):
        logits = model.model.logits(variables.params, before, cond)[:, i]
        return before.at[:, i].set(tk.draw_tokens(KEY, logits, ids, i, temperature=0.7))

    for i in range(16):
        expected = extended(expected, i)
    np.testing.assert_array_equal(tokens, expected)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A masked model that says the same of every token, and notes what it is asked."""

    seen: list
    num_tokens: int = 7
    mask_id: int = 7
    levels: int = 1
    conditions = models.Unconditional()

    def encode(self, params, cond):
        return dict(cond or {})

    def null(self, count):
        return {}

    def logits(self, params, tokens, t, cond=None):
        jax.debug.callback(lambda *a: self.seen.append([np.asarray(x) for x in a]), tokens, t)
        return jnp.zeros((*tokens.shape, self.num_tokens))


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A tokenizer of images that are as bright as their tokens' mean."""

    num_tokens: int = 257

    def to_tokens(self, variables, x):
        raise NotImplementedError

    def from_tokens(self, variables, tokens):
        brightness = jnp.mean(tokens.reshape(len(tokens), -1, 1, 1, 1) / self.num_tokens, axis=1)
        return jnp.broadcast_to(brightness, (len(tokens), 2, 2, 1))

    def token_shape(self, example_shape):
        return (4,)


NOTHING = Variables({}, ({}, {}))
WATCHED = models.TokenPrior(model=Watched(seen=[]), tokenizer=Tokens(num_tokens=7), sample_shape=(4, 4))
IDS = np.arange(3, dtype=np.int32)


@pytest.mark.parametrize("solver", ["maskgit", "ancestral"])
def test_where_tokens_are_known_the_network_sees_the_share_of_masks_as_time(solver):
    keep = np.arange(16)[None] < np.array([[0], [9], [15]])
    WATCHED.model.seen.clear()
    generate.sample_token_ids(generate.make_sampler(WATCHED, {"solver": solver, "steps": 5}), NOTHING, KEY, IDS, {},
                              known=np.zeros((3, 16), np.int32), keep=keep)
    jax.effects_barrier()
    seen = WATCHED.model.seen
    assert len(seen) == 5 and (seen[0][1] == np.float32([16, 7, 1]) / 16).all()
    for tokens, t in seen:
        np.testing.assert_allclose(t, np.mean(tokens == 7, axis=1), rtol=1e-6)


def test_remasking_in_full_masks_every_token_again_at_the_step_where_it_is_certain():
    """From t = 0.6 to s = 0.4, where (1 - alpha(s)) / alpha(t) = 1; the program is that of the test above."""
    WATCHED.model.seen.clear()
    remasking = generate.make_sampler(WATCHED, {"solver": "ancestral", "steps": 5, "remask": 1.0})
    generate.sample_token_ids(remasking, NOTHING, KEY, IDS, {}, known=np.zeros((3, 16), np.int32),
                              keep=np.zeros((3, 16), bool))
    jax.effects_barrier()
    before, after = (tokens != 7 for tokens, _ in WATCHED.model.seen[2:4])
    assert before.sum() > 8 and after.sum() > 8 and not (before & after).any()


@pytest.mark.parametrize("solver", ["maskgit", "confidence", "ancestral"])
def test_every_solver_leaves_no_mask(solver):
    settings = {"steps": 5, "solver": solver, "choice_temperature": 2.0}
    _, tokens = generate.sample_token_ids(generate.make_sampler(WATCHED, settings), NOTHING, KEY, IDS, {})
    assert tokens.shape == (3, 16) and int(tokens.min()) >= 0 and int(tokens.max()) < 7


def test_level_after_level_the_network_sees_finer_tokens_masked_and_the_share_of_masks_as_time():
    prior = models.TokenPrior(model=Watched(seen=[], levels=2), tokenizer=Tokens(num_tokens=7), sample_shape=(2, 2, 2))
    settings = {"solver": "confidence", "coarse_to_fine": True, "steps": 8}
    generate.sample_token_ids(generate.make_sampler(prior, settings), NOTHING, KEY, IDS, {})
    jax.effects_barrier()
    for step, (tokens, t) in enumerate(prior.model.seen):
        hidden = (tokens == 7).reshape(3, 4, 2)
        assert (hidden.sum(1) == [max(4 - step, 0), min(8 - step, 4)]).all() and (t == (8 - step) / 8).all()


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A model of next tokens that is NaN for the second sequence from its second token on."""

    num_tokens: int = 257
    levels: int = 1
    conditions = models.Unconditional()

    def encode(self, params, cond):
        return {}

    def null(self, count):
        return {}

    def logits(self, params, tokens, cond=None):
        return jnp.zeros((*tokens.shape, self.num_tokens))

    def init_cache(self, count, length):
        return ()

    def next_logits(self, params, before, cache, index, cond=None):
        lost = (jnp.arange(len(before)) == 1) & (index == 1)
        return jnp.where(lost[:, None, None], jnp.nan, jnp.zeros((len(before), 1, self.num_tokens))), cache


@pytest.mark.parametrize("tokenizer", [Tokens(), models.ByteTokenizer()])
def test_an_example_with_a_token_that_could_not_be_drawn_is_lost(tokenizer):
    prior = models.TokenPrior(model=Broken(), tokenizer=tokenizer, sample_shape=(4,))
    samples = generate.make_sampler(prior, {}).draw(NOTHING, KEY, IDS, {})
    assert generate.finite_images(samples).tolist() == [True, False, True]
    lost = np.asarray(samples[1])
    assert (lost == -1).all() if lost.dtype == np.int32 else np.isnan(lost).all()


def test_text_is_what_its_tokens_say():
    examples, tokens = generate.sample_token_ids(sampler("text"), case("text").variables, KEY, np.arange(4),
                                                 classes(0, 2, 1, 2))
    np.testing.assert_array_equal(examples, tokens)


@pytest.mark.parametrize("name", ["masked", "autoregressive"])
def test_a_trajectory_ends_with_the_tokens_and_images_that_are_sampled(name):
    variables, ids, cond = case(name).variables, jnp.arange(3), classes(2, 0, 1)
    images, tokens = generate.sample_token_ids(sampler(name), variables, KEY, ids, cond)
    same, seen = generate.token_trajectory(sampler(name), variables, KEY, ids, cond)
    np.testing.assert_array_equal(seen[-1], tokens)
    np.testing.assert_allclose(same, images, atol=1e-6)
    assert seen.shape == ((3 if name == "masked" else 16), 3, 16)
    for before, after in pairwise(seen):  # what there is stays; -1 is not there yet
        assert (np.where(before >= 0, before, after) == after).all() and (before == -1).sum() > (after == -1).sum()
    if name == "autoregressive":
        assert [(part >= 0).sum(axis=1).tolist() for part in seen[:2]] == [[1, 1, 1], [2, 2, 2]]
        assert (seen[1][:, :2] >= 0).all()
