"""Samplers of token priors, masked or autoregressive."""

from collections.abc import Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from experiments.sampler import Sampler
from jaxgen import diffusion
from jaxgen import tokens as tk
from jaxgen.core.checks import check_fraction, check_not_negative, check_positive
from jaxgen.core.cpu import compiler_options
from jaxgen.core.errors import unknown_name
from jaxgen.core.types import Variables
from jaxgen.models import TokenPrior

TOKEN_SOLVERS = ("ancestral", "confidence", "maskgit")


class TokenSampler(Sampler):
    """Samples of a token prior: its tokens, decoded by its tokenizer."""

    def __init__(self, model: TokenPrior, image_shape: Sequence[int], sampling: Mapping[str, Any]):
        super().__init__(model, image_shape, sampling)
        check_positive("temperature", sampling["temperature"])

        def run(variables, key, ids, cond, settings, known):
            params, state = variables
            options = {"cond": self.model.encode(params, cond), "sample_ids": ids, **known}
            tokens = self.draw(params, key, (len(ids), prod(model.shape)), settings, options)
            # A token that could not be drawn, -1, makes its image one that is not finite, which scripts look for.
            drawn = (tokens >= 0).all(axis=1)[:, None, None, None]
            return jnp.where(drawn, model.pictures(state, tokens), jnp.nan), tokens

        self._run = jax.jit(run, compiler_options=compiler_options())

    @property
    def shape(self):
        return self.model.shape

    def draw(self, params: Any, key: jax.Array, shape: tuple[int, int], settings: Mapping[str, Any],
             options: Mapping[str, Any]) -> jax.Array:
        """Tokens of `shape`; `settings` are the traced numbers of `config.sampling`, less those that change nothing."""
        raise NotImplementedError

    def null(self, params: Any, count: int) -> dict[str, jax.Array]:
        """The condition that stands for none, encoded, `count` times."""
        return self.model.encode(params, self.model.null(count))

    def __call__(self, variables, key, ids, cond):
        return self.tokens(variables, key, ids, cond)[0]

    def tokens(self, variables: Variables, key: jax.Array, ids: jax.Array, cond: Mapping[str, jax.Array],
               **known: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(pictures [B, H, W, C], tokens [B, N]); `known` tokens [B, N] stay where `mask` [B, N] is True, if given."""
        neutral = (("guidance", 1), ("top_k", 0), ("top_p", 1))  # left out: what changes nothing need not be computed
        settings = {name: value for name, value in self.sampling.items()
                    if name not in ("solver", "steps") and (name, value) not in neutral}
        return self._run(variables, key, ids, cond, settings, known)


class MaskedSampler(TokenSampler):
    """Samples of a masked prior, several tokens in each of its steps."""

    def __init__(self, model: TokenPrior, image_shape: Sequence[int], sampling: Mapping[str, Any]):
        super().__init__(model, image_shape, sampling)
        if (solver := sampling["solver"]) not in TOKEN_SOLVERS:
            raise unknown_name("solver of a token prior", solver, TOKEN_SOLVERS)
        check_fraction("remask", sampling["remask"])
        check_not_negative("choice_temperature", sampling["choice_temperature"])
        if sampling["remask"] and solver != "ancestral":
            raise ValueError(f"remask={sampling['remask']} belongs to solver 'ancestral', not {solver!r}")
        self.times = tk.mask_times(sampling["steps"])

    def draw(self, params, key, shape, settings, options):
        logits = partial(self.model.logits, params)
        if options["cond"] and "guidance" in settings:
            logits = diffusion.cfg(settings["guidance"], self.null(params, shape[0]))(logits)
        # Where much is given, the time of a schedule is not one that the network has seen with so few masks.
        if "known" in options or self.sampling["solver"] == "maskgit":
            logits = tk.timed_by_masks(logits, self.model.mask_id)
        options = {"mask_id": self.model.mask_id, "temperature": settings["temperature"], **options}
        if self.sampling["solver"] == "ancestral":
            return tk.masked_sample(key, logits, self.times, shape, remask=settings["remask"], **options)
        options |= {"choice_temperature": settings["choice_temperature"]}
        if self.sampling["solver"] == "confidence":
            return tk.confidence_sample(key, logits, self.times, shape, **options)
        return tk.masked_decode(key, logits, shape, steps=len(self.times) - 1, **options)

    @property
    def evaluations(self) -> int:
        return len(self.times) - 1


class AutoregressiveSampler(TokenSampler):
    """Samples of an autoregressive prior, one token after the other, with a cache of keys and values."""

    def __init__(self, model: TokenPrior, image_shape: Sequence[int], sampling: Mapping[str, Any]):
        super().__init__(model, image_shape, sampling)
        check_fraction("top_p", sampling["top_p"])
        check_not_negative("top_k", sampling["top_k"])

    def draw(self, params, key, shape, settings, options):
        next_fn, count = partial(self.model.next_logits, params), shape[0]
        if options["cond"] and "guidance" in settings:
            next_fn, count = tk.guide(next_fn, settings["guidance"], self.null(params, count)), 2 * count
        return tk.autoregressive_sample(key, next_fn, self.model.init_cache(count), shape,
                                            temperature=settings["temperature"], top_k=settings.get("top_k"),
                                            top_p=settings.get("top_p"), **options)

    @property
    def evaluations(self) -> int:
        return prod(self.model.shape)


TOKEN_SAMPLERS = {"masked": MaskedSampler, "autoregressive": AutoregressiveSampler}
