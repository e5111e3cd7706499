"""The codec of a run: its tokenizer, and the probabilities of its tokens, which are fitted once and kept in a file.

    codec = jaxgen.runs.load("vqvae_mnist").codec("context")
    data = jaxgen.codec.compress(codec, images)
"""

import functools
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import generate
from jaxgen.codec import Codec, Probabilities, fit_context, fit_static, float_transformer
from jaxgen.codec.codec import codec_digest
from jaxgen.codec.networks import integer_masked, integer_next
from jaxgen.codec.prior import Autoregressive, Masked, blocks_of, halton_groups, steps_of
from jaxgen.codec.tables_file import NAME, load_probabilities, read_digests, save_probabilities
from jaxgen.core.batches import in_batches
from jaxgen.core.cpu import compiler_options
from jaxgen.core.digest import digest
from jaxgen.core.pixels import bytes_to_floats, floats_to_bytes
from jaxgen.core.types import Variables
from jaxgen.models.base import MaskedTokens, TokenGenerating
from jaxgen.models.index_maps import IndexMaps, index_maps
from jaxgen.runs.float_prior import check_codes, float_prior

FLOAT = "float"  # a prior as it was trained, of which a file has the digest only
KINDS = ("static", "context", FLOAT, "prior")
_PIXELS = 1 << 18  # of a batch
_STEPS = 16  # in which a masked prior makes up what is lost
_CALIBRATION = 64  # examples that the ranges of a network are taken from


def make_codec(model: Any, variables: Variables, example_shape: tuple[int, ...], probabilities: Probabilities) -> Codec:
    """The codec of a model that has tokens.

    Args:
        model, variables: see `jaxgen.models.index_maps`.
        example_shape: (H, W, C) that the model was trained on.
        probabilities: of its tokens.

    Raises:
        ValueError: a model without tokens of images, or probabilities of another one's.
    """
    return _make_codec(index_maps(model, variables, example_shape), model, variables, example_shape, probabilities)


def _make_codec(maps, model, variables, example_shape, probabilities):
    if tuple(probabilities.num_codes) != maps.num_codes:
        raise ValueError(f"the probabilities are of index maps with {probabilities.num_codes} codes, and this model "
                         f"has {maps.num_codes}: fit them for this model")
    to_maps, from_maps = _programs(maps)
    height, width, channels = example_shape

    @functools.cache
    def plane_shapes(block):
        x = jax.ShapeDtypeStruct((1, *block, channels), jnp.uint8)
        return [tuple(plane.shape[1:]) for plane in jax.eval_shape(to_maps, variables, x)]

    step = _step(plane_shapes, height, width, probabilities.block)
    reduction = [side // own for side, own in zip((height, width), plane_shapes((height, width))[0])]

    def to_planes(blocks):
        return list(in_batches(functools.partial(to_maps, variables), blocks, _batch(blocks.shape[1:3])))

    def from_planes(planes):
        size = _batch([own * factor for own, factor in zip(planes[0].shape[1:], reduction)])
        return in_batches(functools.partial(from_maps, variables), tuple(planes), size)

    return Codec(
        to_planes=to_planes, from_planes=from_planes, plane_shapes=plane_shapes, probabilities=probabilities,
        channels=channels, step=step, progressive=maps.progressive, weights=digest(_tokenizer(model, variables)),
        conceal=functools.partial(_conceal, model, variables) if _fills_in(model) else None,
    )


def load_codec(model: Any, variables: Variables, example_shape: tuple[int, ...], path: Path, kind: str, command: str
               ) -> Codec:
    """The codec of the model of a run with the probabilities of a kind of `KINDS`.

    Args:
        model, variables, example_shape: see `make_codec`.
        path: the run's directory, where the probabilities are that were fitted.
        kind: of `KINDS`.
        command: that fits them, for the message.

    Raises:
        FileNotFoundError: none were fitted.
        ValueError: a model without tokens of images, without probabilities of this kind, or with other weights' ones.
    """
    maps = index_maps(model, variables, example_shape)  # a model without tokens is refused before a file is asked for
    if kind == FLOAT:
        return _make_codec(maps, model, variables, example_shape, float_prior(model, variables, maps))
    own = read_probabilities(path, kind, model, variables, command)
    codec = _make_codec(maps, model, variables, example_shape, own)
    if codec.digest != (expected := read_digests(path / NAME).get(kind)):
        raise ValueError(f"{path / NAME} is of other weights than these: its codec {kind!r} is {expected}, and theirs "
                         f"{codec.digest}: fit the probabilities again, {command}")
    return codec


def _programs(maps: IndexMaps) -> tuple[Any, Any]:
    """(variables, bytes) -> maps and back, compiled."""
    options = {"compiler_options": compiler_options()}

    def to_maps(variables, x):
        return tuple(jnp.asarray(plane, jnp.int32) for plane in maps.to_maps(variables, bytes_to_floats(x)))

    def from_maps(variables, planes):
        return floats_to_bytes(maps.from_maps(variables, [jnp.asarray(plane, jnp.int32) for plane in planes]))

    return jax.jit(to_maps, **options), jax.jit(from_maps, **options)


def fit(model: Any, variables: Variables, example_shape: tuple[int, ...], images: np.ndarray
        ) -> dict[str, Probabilities]:
    """The probabilities that a model can be coded with, by the names of `KINDS`.

    Args:
        model, variables, example_shape: see `make_codec`.
        images: uint8, of the training set.

    Raises:
        ValueError: a model without tokens of images.

    Warns:
        UserWarning: a token prior without a form in whole numbers, which is left out.
    """
    maps = index_maps(model, variables, example_shape)
    to_maps, _ = _programs(maps)
    planes = list(in_batches(functools.partial(to_maps, variables), images, _batch(example_shape[:2])))
    fitted = {"static": fit_static(planes, maps.num_codes), "context": fit_context(planes, maps.num_codes)}
    if isinstance(model, TokenGenerating):
        try:
            fitted[FLOAT] = float_prior(model, variables, maps)
            fitted["prior"] = integer_prior(model, variables, maps, planes)
        except ValueError as error:
            left_out = "no form in whole numbers" if FLOAT in fitted else "no tables"
            warnings.warn(f"the prior has {left_out} and is left out: {error}", stacklevel=2)
    return fitted


def integer_prior(model: TokenGenerating, variables: Variables, maps: IndexMaps, planes: Sequence[np.ndarray]
                  ) -> Probabilities:
    """The prior in whole numbers, without a class.

    Args:
        model, variables: of the prior.
        maps: its tokenizer's index maps.
        planes: of a training set.

    Raises:
        ValueError: a network that has no form in whole numbers.
    """
    network, height, width = model.model.network, *planes[0].shape[1:]
    check_codes(model, maps)
    params = _network_of(variables)
    tokens = np.stack([plane[:_CALIBRATION] for plane in planes], -1).reshape(-1, height * width * len(planes))
    if not isinstance(model.model, MaskedTokens):
        condition = float_transformer.condition_of(params, None, network.time_scale)
        return Autoregressive(network=integer_next(params, tokens, condition, heads=network.heads, levels=len(planes)),
                              num_codes=maps.num_codes, block=(height, width))
    groups = halton_groups(height, width)
    known = steps_of(groups, len(planes))[:-1]
    conditions = [float_transformer.condition_of(params, 1 - own.mean(), network.time_scale) for own in known]
    return Masked(network=integer_masked(params, tokens, conditions, known, heads=network.heads),
                  num_codes=maps.num_codes, groups=groups)


def read_probabilities(path: Path, kind: str, model: Any, variables: Variables, command: str) -> Probabilities:
    """The probabilities of a kind that were fitted for a run.

    Args:
        path: the run's directory.
        kind: of `KINDS`, but not `FLOAT`.
        model, variables: that they were fitted for.
        command: that fits them, for the message.

    Raises:
        FileNotFoundError: none were fitted.
        ValueError: none of this kind.
    """
    file = path / NAME
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist: fit the probabilities of its tokens first, {command}")
    models = load_probabilities(file, _network_of(variables) if isinstance(model, TokenGenerating) else {})
    if kind not in models:
        raise ValueError(f"{file} has the probabilities {', '.join(models)}, not {kind!r}"
                         + (": a prior needs a token prior with a form in whole numbers" if kind == "prior" else ""))
    return models[kind]


def write_probabilities(path: Path, models: dict[str, Probabilities], model: Any, variables: Variables) -> Path:
    """Keeps them in the directory of a run, whose model and variables they are of; where."""
    weights, exact = digest(_tokenizer(model, variables)), {name: own for name, own in models.items() if own.exact}
    save_probabilities(path / NAME, exact, {name: codec_digest(weights, own) for name, own in models.items()})
    return path / NAME


def _network_of(variables):
    """The parameters of a prior's network, whose conditions have some of their own beside them."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), variables.params)
    return params.get("network", params)


def _fills_in(model):
    return isinstance(model, TokenGenerating) and isinstance(model.model, MaskedTokens)


def _conceal(model, variables, planes, known):
    """Index maps whose unknown ones are drawn by the masked prior, given the known ones."""
    tokens = np.stack(planes, -1)
    places = blocks_of(tokens.shape[:3], model.sample_shape[:2], len(planes))
    sequences, length = places[0].shape
    sampler = generate.make_sampler(model, {"steps": _STEPS})
    drawn = generate.sample_token_ids(
        sampler, variables, jax.random.key(0), jnp.arange(sequences), model.null(sequences),
        known=jnp.asarray(tokens[places], jnp.int32), keep=jnp.asarray(np.array(known)[places[3]]))[1]
    tokens[places] = np.asarray(drawn).reshape(sequences, length)
    return [tokens[..., i] for i in range(len(planes))]


def _tokenizer(model, variables):
    return model.first_stage(variables)[1] if isinstance(model, TokenGenerating) else variables


def _step(plane_shapes, height, width, block):
    """What the sides of a block are multiples of, in pixels."""
    sides = []
    for axis, size in enumerate((height, width)):
        factors = [size // shape[axis] * (block[axis] if block else 1) for shape in plane_shapes((height, width))]
        sides.append(int(np.lcm.reduce(factors)))
    return tuple(sides)


def _batch(shape):
    """How many images of a shape are computed at a time."""
    return 1 << max(0, min(6, (_PIXELS // (shape[0] * shape[1])).bit_length() - 1))
