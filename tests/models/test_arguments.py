"""What networks and models are made with: every count of every network is checked, named, and may be NumPy's."""

import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.models import VQVAE2, Classes, DiffusionModel, Text, TokenPrior, build, build_quantizer
from jaxgen.nn import (
    ConvClassifier,
    Decoder,
    DiT,
    Encoder,
    PatchDiscriminator,
    StyleDiscriminator,
    TextEncoder,
    Transformer,
    UNet,
    encode_text,
)

NEEDED = {Encoder: {"latent_channels": 4}, Decoder: {"image_channels": 3}, Transformer: {"num_tokens": 8},
          ConvClassifier: {"num_classes": 10}}
NETWORKS = (Encoder, Decoder, UNet, DiT, Transformer, TextEncoder, ConvClassifier, PatchDiscriminator,
            StyleDiscriminator)
MAY_BE_ZERO = {(Encoder, "num_res_blocks"), (Decoder, "num_res_blocks"), (UNet, "layers"),
               (UNet, "num_classes"), (DiT, "num_classes"), (Transformer, "num_classes"),
               (PatchDiscriminator, "layers"), (StyleDiscriminator, "group_size")}
COUNTS = (int, int | None, int | tuple[int, ...])
LISTS = (tuple[int, ...], int | tuple[int, ...])


def fields(*types):
    return [(network, field.name) for network in NETWORKS for field in dataclasses.fields(network)
            if field.type in types]


def make(network, **options):
    return network(**{**NEEDED.get(network, {}), **options})


def test_the_table_of_fields_is_that_of_the_networks():
    assert len(fields(*COUNTS)) > 40 and (Encoder, "channels") in fields(*COUNTS)
    assert (Encoder, "multipliers") in fields(*LISTS) and (UNet, "norm_epsilon") in fields(float)


@pytest.mark.parametrize(("network", "name"), fields(*COUNTS))
def test_each_count_of_each_network_is_checked(network, name):
    for value in (0, -1, 1.5, "8", True):
        if value != 0 or (network, name) not in MAY_BE_ZERO:
            with pytest.raises(ValueError, match=f"^{name} of {network.__name__} must be an integer of at least [01]"):
                make(network, **{name: value})
    found = getattr(make(network, **{name: np.int64(8)}), name)
    assert type(found) is int and found == 8
    assert make(network, **{name: np.int32(8)}) == make(network, **{name: 8})


@pytest.mark.parametrize(("network", "name"), fields(*LISTS))
def test_each_list_of_counts_of_each_network_is_checked(network, name):
    of = f"{name} of {network.__name__}"
    for value in ((0,), (1, 2.0), ("1",), [-1]):
        if name != "attention_levels" or value != (0,):
            with pytest.raises(ValueError, match=rf"^{of}\[[01]\] must be an integer of at least [01], got"):
                make(network, **{name: value})
    if name != "attention_levels":
        with pytest.raises(ValueError, match=rf"^{of} must be a list of one entry or more, got \(\)"):
            make(network, **{name: ()})
    if name != "heads":
        with pytest.raises(ValueError, match=rf"^{of} must be a list of one entry or more, got 4"):
            make(network, **{name: 4})
    assert getattr(make(network, **{name: [np.int64(1), 2]}), name) == (1, 2)


@pytest.mark.parametrize(("network", "name"), fields(float))
def test_each_number_of_each_network_is_finite(network, name):
    for value in ("1e-5", None, True):
        with pytest.raises(ValueError, match=f"^{name} of {network.__name__} must be a number, got {value!r}"):
            make(network, **{name: value})
    for value in (float("nan"), np.inf):
        with pytest.raises(ValueError, match=f"^{name} of {network.__name__} must be finite, got"):
            make(network, **{name: value})


def test_numpy_s_counts_and_lists_make_the_same_network():
    """Under jit too, which compiles again for another network."""
    tiny = {"channels": 4, "multipliers": (1, 2), "num_res_blocks": 1, "norm_groups": 2, "middle_attention": False}
    ours = Encoder(2, **tiny)
    other = Encoder(np.int64(2), **{**tiny, "channels": np.int16(4), "multipliers": [np.uint8(1), 2]})
    assert other == ours and hash(other) == hash(ours) and pickle.loads(pickle.dumps(other)) == ours
    shapes = jax.eval_shape(other.init, jax.random.key(0), jnp.zeros((1, 4, 4, 3)))
    assert shapes["params"]["conv_out"]["kernel"].shape == (3, 3, 8, 2)


VQ = {"name": "vq", "num_codes": 8}
SMALL = {"channels": 4, "multipliers": (1, 2), "norm_groups": 2}
VQVAE = {"name": "vqvae", "quantizer": VQ, "latent_channels": 4, "example_channels": 1, "encoder": SMALL,
         "decoder": SMALL}
KL = {"name": "kl_autoencoder", "latent_channels": 4, "example_channels": 1}
UNET = {"name": "diffusion", "network": {"name": "unet"}, "shape": (8, 8, 1)}

PARTS = ("bottom_encoder", "top_encoder", "top_decoder", "decoder", "top_quantizer", "bottom_quantizer")
LATENT = {"name": "latent_diffusion", "network": {"name": "unet"}, "autoencoder": VQVAE, "shape": (4, 4, 4)}
PRIOR = {"name": "token_prior", "network": {}, "tokenizer": VQVAE, "shape": (4, 4)}


@pytest.mark.parametrize(("description", "message"), [
    ({**VQVAE, "encoder": {"channels": 0}}, "channels of Encoder must be an integer of at least 1, got 0"),
    ({**VQVAE, "decoder": {"multipliers": []}}, r"multipliers of Decoder must be a list of .*, got \(\)"),
    ({**VQVAE, "latent_channels": -2}, "latent_channels of Encoder must be an integer of at least 1, got -2"),
    ({**VQVAE, "example_channels": 1.0}, "image_channels of Decoder must be an integer"),
    ({**VQVAE, "encoder": 3}, r"arguments of Encoder must be a mapping \{name: value\}, got 3"),
    ({**VQVAE, "quantizer": 3}, r"quantizer must be a description \{'name': .*, got 3"),
    ({**VQVAE, "quantizer": {"num_codes": 8}}, "quantizer must be a description"),
    ({**VQVAE, "dtype": "bfloat15"}, "dtype must name a type such as 'bfloat16', got 'bfloat15'"),
    ({**KL, "latent_channels": "4"}, "latent_channels must be an integer"),
    ({**KL, "scale": float("nan")}, "scale must be finite"),
    ({**UNET, "network": {"channels": 8}}, "network must be a description"),
    ({**UNET, "network": {"name": "unet", "channels": 0}}, "channels of UNet must be a list"),
    ({**UNET, "network": {"name": "dit", "depth": 0}}, "depth of DiT must be an integer of at least 1, got 0"),
    ({**UNET, "conditions": {"name": "classes", "count": -1}}, "count of classes must be .* of at least 1, got -1"),
    ({**UNET, "conditions": {"name": "classes"}}, "conditions 'classes' needs 'count'"),
    ({**UNET, "conditions": {"name": "clases", "count": 2}}, "unknown conditions 'clases'.*Did you mean 'classes'"),
    ({**UNET, "schedule": "linear"}, "schedule must be a description"),
    ({**UNET, "conditions": {"name": "text", "length": 0}}, "length of text, .* must be .* of at least 1, got 0"),
    ({**UNET, "conditions": {"name": "text", "length": "8"}}, "length of text, .* must be .* of at least 1, got '8'"),
    ({**UNET, "conditions": 8}, "conditions must be a description"),
    ({**UNET, "shape": ()}, r"shape must be a list of one entry or more, got \(\)"),
    ({**UNET, "shape": (8, 0, 1)}, r"shape\[1\] must be an integer of at least 1, got 0"),
    ({**LATENT, "shape": (4, 0, 4)}, r"shape\[1\] must be an integer"),
    ({**LATENT, "shape": ()}, "shape must be a list"),
    ({**LATENT, "autoencoder": "vqvae"}, "autoencoder must be a description"),
    ({**PRIOR, "shape": (4, "4")}, r"shape\[1\] must be an integer"),
    ({**PRIOR, "network": {"heads": 0}}, "heads of Transformer must"),
    ({"name": "classifier", "num_classes": 0}, "num_classes of ConvClassifier must be an integer of at least 1, got 0"),
    ({"name": "classifier", "num_classes": 10, "channels": []}, "channels of ConvClassifier must be a list"),
])
def test_what_a_model_is_built_from_is_checked(description, message):
    with pytest.raises(ValueError, match=message):
        build(**description)


def test_functions_that_join_parts_check_their_counts():
    for call, message in (
        (lambda: encode_text(["a"], 0), "length must be an integer of at least 1, got 0"),
        (lambda: encode_text(["a"], 2.0), "length must be an integer of at least 1, got 2.0"),
        (lambda: DiffusionModel(network=None, sample_shape=(4, 0)), r"sample_shape\[1\] must be .* at least 1, got 0"),
        (lambda: TokenPrior(model=None, tokenizer=None, sample_shape=()), "sample_shape must be a list of one entry"),
        (lambda: Classes(0), "count of classes must be an integer of at least 1, got 0"),
        (lambda: Text(None, 0), "length of text, .* must be an integer of at least 1, got 0"),
        (lambda: VQVAE2(**dict.fromkeys(PARTS), latent_channels=0), "latent_channels must be an integer .* 1, got 0"),
        (lambda: build_quantizer("residual", quantizer="vq", depth=2), "quantizer must be a description"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    np.testing.assert_array_equal(encode_text(["ab"], np.int64(3)), [[98, 99, 0]])
