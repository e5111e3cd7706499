"""Samples of token priors: tokens, decoded by the tokenizer."""

from collections.abc import Mapping
from functools import partial
from math import prod
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from jaxgen import tokens as tk
from jaxgen.core.checks import check_fraction, check_not_negative, check_positive, choose
from jaxgen.core.types import Variables
from jaxgen.diffusion import cfg
from jaxgen.generate.sampler import Sampler, Work, check_settings, compiled
from jaxgen.models import MaskedTokens, TokenGenerating

DRAWING = {"guidance": 1.0, "temperature": 1.0, "top_k": 0, "top_p": 1.0}  # top_k 0: from all tokens
SETTINGS = {"masked": {"solver": "ancestral", "steps": 24, "remask": 0.0, "choice_temperature": 4.5,
                       "coarse_to_fine": False, **DRAWING},
            "autoregressive": DRAWING}
FIXED = ("solver", "steps", "coarse_to_fine")  # the others are traced numbers
NEUTRAL = (("guidance", 1), ("top_k", 0), ("top_p", 1))  # left out: what changes nothing need not be computed


class TokenParts(NamedTuple):
    """What editing needs of a token sampler."""

    run: Any  # (variables, key, ids, cond, settings, known) -> (x, tokens), compiled
    numbers: dict[str, Any]  # the settings that are traced numbers, less those that change nothing


def token_sampler(model: TokenGenerating, settings: Mapping[str, Any]) -> Sampler:
    """The sampler of a token prior: many tokens at a time, or one after the other with a cache.

    Args:
        model: whose `model` is `MaskedTokens` or `NextTokens`.
        settings: changes of `SETTINGS`.

    Raises:
        ValueError: a setting that does not apply, is unknown or out of its bounds.

    Example:
        >>> from jaxgen.models import build
        >>> description = {"tokenizer": {"name": "bytes"}, "shape": (16,), "network": {"features": 8, "depth": 1}}
        >>> token_sampler(build("token_prior", **description), {"steps": 4, "top_k": 5}).work.evaluations()
        4
        >>> token_sampler(build("token_prior", kind="autoregressive", **description), {"top_k": 5}).work.evaluations()
        16
    """
    masked = isinstance(model.model, MaskedTokens)
    settings = check_settings(settings, SETTINGS["masked" if masked else "autoregressive"])
    check_positive("temperature", settings["temperature"], "; for the most likely token use top_k=1")
    check_not_negative("top_k", settings["top_k"])
    check_fraction("top_p", settings["top_p"])
    if masked:
        check_masked(settings)
    fixed = {name: settings[name] for name in FIXED if name in settings}
    numbers = {name: value for name, value in settings.items()
               if name not in FIXED and (name, value) not in NEUTRAL}
    parts = TokenParts(compiled(_run, model, **fixed), numbers)

    def draw(variables, key, ids, cond):
        return parts.run(variables, key, ids, cond, numbers, {})[0]

    def lower(variables, key, ids, cond):
        return parts.run.lower(variables, key, ids, cond, numbers, {})

    evaluations = settings["steps"] if masked else prod(model.sample_shape)
    twice = "guidance" in numbers and bool(model.null(1))
    work = Work(lower, partial(_network, model), partial(_once, model), lambda: evaluations * (2 if twice else 1))
    return Sampler(model=model, settings=settings, draw=draw, parts=parts, work=work)


def _network(model, variables, encoded, ids):
    count, length = len(ids), prod(model.sample_shape)
    if isinstance(model.model, MaskedTokens):
        tokens = jnp.full((count, length), model.model.mask_id)
        return model.model.logits(variables.params, tokens, jnp.ones(count), encoded)
    cache = model.model.init_cache(count, length)
    return model.model.next_logits(variables.params, jnp.zeros((count, 1), int), cache, jnp.zeros((), int), encoded)


def _once(model, variables, cond, ids):
    tokens = jnp.zeros((len(ids), prod(model.sample_shape)), int)
    return model.encode(variables.params, cond), model.from_tokens(variables, tokens)


def _run(model, variables, key, ids, cond, numbers, known, **fixed):
    options = {"cond": model.encode(variables.params, cond), "sample_ids": ids, **known}
    draw_tokens = draw_masked if isinstance(model.model, MaskedTokens) else draw_next
    tokens = draw_tokens(model, fixed, variables.params, key, (len(ids), prod(model.sample_shape)), numbers, options)
    return with_lost(model.from_tokens(variables, tokens), tokens), tokens


def sample_token_ids(
    sampler: Sampler, variables: Variables, key: Array, ids: Array, cond: Mapping[str, Array], **known: Array
) -> tuple[Array, Array]:
    """(examples [B, ...], tokens [B, N]); tokens `known` [B, N] stay where `keep` [B, N] is True, if passed."""
    return sampler.parts.run(variables, key, ids, cond, sampler.parts.numbers, known)


def token_trajectory(
    sampler: Sampler, variables: Variables, key: Array, ids: Array, cond: Mapping[str, Array]
) -> tuple[Array, Array]:
    """(examples [B, ...] as `sampler.draw` makes them, the tokens after each step [n, B, N], -1 where there are none).

    Args:
        sampler: of `token_sampler`. A step of an autoregressive prior draws one token, one of a masked prior several.
        variables, key, ids, cond: see `Sampler.draw`.
    """
    fixed = {name: sampler.settings[name] for name in FIXED if name in sampler.settings}
    run = compiled(_run_seen, sampler.model, **fixed)
    return run(variables, key, ids, cond, sampler.parts.numbers)


def _run_seen(model, variables, key, ids, cond, numbers, **fixed):
    shape = len(ids), prod(model.sample_shape)
    options = {"cond": model.encode(variables.params, cond), "sample_ids": ids}
    if isinstance(model.model, MaskedTokens):
        options["trajectory"] = True
        tokens, seen = draw_masked(model, fixed, variables.params, key, shape, numbers, options)
        seen = jnp.where(seen == model.model.mask_id, -1, seen)
    else:
        tokens = draw_next(model, fixed, variables.params, key, shape, numbers, options)
        places = jnp.arange(shape[1])
        seen = jnp.where(places <= places[:, None, None], tokens, -1)
    return with_lost(model.from_tokens(variables, tokens), tokens), seen


def check_masked(settings: Mapping[str, Any]) -> None:
    """Raises ValueError for settings of a masked prior out of their bounds."""
    choose("solver of a token prior", settings["solver"], tk.UNMASKERS)
    check_fraction("remask", settings["remask"])
    check_not_negative("choice_temperature", settings["choice_temperature"])
    if settings["remask"] and settings["solver"] != "ancestral":
        raise ValueError(f"remask={settings['remask']} belongs to solver 'ancestral', not {settings['solver']!r}")
    if settings["coarse_to_fine"] and settings["solver"] != "confidence":
        raise ValueError(f"coarse_to_fine, level after level, belongs to solver 'confidence', not "
                         f"{settings['solver']!r}")


def draw_masked(model, settings, params, key, shape, numbers, options):
    """Tokens of a masked model, several in each step."""
    logits, mask_id = partial(model.model.logits, params), model.model.mask_id
    if options["cond"] and "guidance" in numbers:
        logits = cfg(numbers["guidance"], model.encode(params, model.null(shape[0])))(logits)
    # Where much is known, the time of a schedule is not one that the network has seen with so few masks.
    if "known" in options or settings["solver"] == "maskgit" or settings["coarse_to_fine"]:
        logits = tk.timed_by_masks(logits, mask_id)
    if settings["solver"] == "ancestral":
        unmasker = tk.ancestral(numbers["remask"])
    elif settings["coarse_to_fine"]:
        unmasker = tk.confidence(numbers["choice_temperature"], levels=model.model.levels)
    else:
        unmasker = tk.UNMASKERS[settings["solver"]](numbers["choice_temperature"])
    return tk.sample_tokens(
        key, logits, unmasker, tk.mask_times(settings["steps"]), shape, mask_id=mask_id,
        temperature=numbers["temperature"], top_k=numbers.get("top_k"), top_p=numbers.get("top_p"), **options)


def draw_next(model, settings, params, key, shape, numbers, options):
    """Tokens of an autoregressive model, one after the other, with a cache of keys and values."""
    next_fn, count = partial(model.model.next_logits, params), shape[0]
    if options["cond"] and "guidance" in numbers:
        null = model.encode(params, model.null(count))
        next_fn, count = tk.guide(next_fn, numbers["guidance"], null), 2 * count
    return tk.autoregressive_sample(
        key, next_fn, model.model.init_cache(count, shape[1]), shape, temperature=numbers["temperature"],
        top_k=numbers.get("top_k"), top_p=numbers.get("top_p"), **options)


def with_lost(examples: Array, tokens: Array) -> Array:
    """A token that could not be drawn, -1, makes its example NaN, or -1 where examples are whole numbers."""
    drawn = (tokens >= 0).all(axis=1).reshape(-1, *(1,) * (examples.ndim - 1))
    lost = jnp.nan if jnp.issubdtype(examples.dtype, jnp.floating) else -1
    return jnp.where(drawn, examples, jnp.asarray(lost, examples.dtype))
