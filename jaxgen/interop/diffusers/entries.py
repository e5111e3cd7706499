"""What the entries of diffusers' configurations hold: a number that is text, or NaN, is an error when it is read."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """The values that an entry may have."""

    words: str
    holds: Callable[[Any], bool]


def _count(largest: int) -> Kind:
    return Kind(f"a whole number from 1 to {largest}", lambda value: type(value) is int and 1 <= value <= largest)


def _number(words: str, holds: Callable[[float], bool]) -> Kind:
    return Kind(words, lambda value: type(value) in (int, float) and holds(value))


def _several(kind: Kind) -> Kind:
    def holds(values):
        return isinstance(values, list | tuple) and len(values) > 0 and all(map(kind.holds, values))

    return Kind(f"a list, each entry {kind.words}", holds)


def _either(*kinds: Kind) -> Kind:
    return Kind(" or ".join(kind.words for kind in kinds), lambda value: any(kind.holds(value) for kind in kinds))


SIZE = _count(2**24)
LAYERS = _count(1000)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
NULL = Kind("null", lambda value: value is None)
NAME = Kind("a name", lambda value: isinstance(value, str))
NUMBER = _number("a number from -1e9 to 1e9", lambda value: -1e9 <= value <= 1e9)
POSITIVE = _number("a number above 0, at most 1e9", lambda value: 0 < value <= 1e9)
BETA = _number("a number above 0, at most 1", lambda value: 0 < value <= 1)
KINDS = {
    **dict.fromkeys(("in_channels", "out_channels", "latent_channels", "num_vq_embeddings"), SIZE),
    **dict.fromkeys(("norm_num_groups", "attn_norm_num_groups", "num_class_embeds", "time_embedding_dim",
                     "vq_embed_dim"), _either(SIZE, NULL)),
    "block_out_channels": _several(SIZE), "cross_attention_dim": _either(SIZE, _several(SIZE)),
    "attention_head_dim": _either(SIZE, NULL, _several(_either(SIZE, NULL))),
    **dict.fromkeys(("layers_per_block", "transformer_layers_per_block"), _either(LAYERS, _several(LAYERS))),
    **dict.fromkeys(("down_block_types", "up_block_types"), _several(NAME)),
    **dict.fromkeys(("add_attention", "flip_sin_to_cos", "mid_block_add_attention", "use_linear_projection",
                     "use_quant_conv", "use_post_quant_conv"), FLAG),
    **dict.fromkeys(("mid_block_scale_factor", "norm_eps", "scaling_factor"), POSITIVE),
    "dropout": _number("a number from 0 to below 1", lambda value: 0 <= value < 1),
    "freq_shift": _number("a number from 0 to below 2", lambda value: 0 <= value < 2),
    "shift_factor": _either(NUMBER, NULL),
    "_class_name": NAME,
}
"""Of a model's entries that are taken as they are; the others have no effect, or a few values that can be honoured."""

SCHEDULER_KINDS = {
    "num_train_timesteps": _count(10**6), "trained_betas": _either(_several(NUMBER), NULL),
    **dict.fromkeys(("beta_start", "beta_end"), BETA),
    **dict.fromkeys(("_class_name", "beta_schedule", "prediction_type"), NAME),
    "rescale_betas_zero_snr": FLAG, "shift": POSITIVE,
}
"""The same of a scheduler's."""


def check_kinds(config: Mapping[str, Any], kinds: Mapping[str, Kind] = KINDS) -> None:
    """Raises ValueError at the first entry that holds something else than such entries do."""
    name = config.get("_class_name")
    for entry, value in config.items():
        if entry in kinds and not kinds[entry].holds(value):
            raise ValueError(f"{name} has {entry}={value!r:.200}, but {entry} must be {kinds[entry].words}")
