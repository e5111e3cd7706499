"""What a quantizer of one's own does against its contract is said where combinators and models call it."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from jaxgen.models import build
from jaxgen.quantize import QuantizeOutput, Quantizer, Variables, apply_quantizer, grouped, projected, residual
from jaxgen.quantize import straight_through as pass_on

Z = jnp.zeros((2, 3, 4))
KEY = jax.random.key(0)


def own(change=lambda output, state: (output, state), apply=None):
    """Signs as codes, whose result is changed."""

    def init(key, dim):
        return Variables({}, {"seen": jnp.zeros((), jnp.int32)})

    def lookup(variables, indices):
        return jnp.where(indices > 0, 1.0, -1.0)[..., None]

    def signs(variables, z, *, train=False, key=None, valid=None):
        indices = (z[..., 0] > 0).astype(jnp.int32)
        quantized = pass_on(z, jnp.broadcast_to(lookup(variables, indices), z.shape))
        output = QuantizeOutput(quantized, indices, {"commitment": jnp.mean((z - quantized) ** 2, axis=-1)})
        return change(output, {"seen": variables.state["seen"] + train})

    return Quantizer(init, apply or signs, lookup, 2)


def output(**fields):
    return own(lambda output, state: (output._replace(**{k: v(getattr(output, k)) for k, v in fields.items()}), state))


SIGNS = r"own\.<locals>\.signs returned "
MISTAKES = {
    "no state": (own(lambda output, state: output),
                 SIGNS + r"QuantizeOutput\(quantized=float32.*: the state is missing, return \(output, state\)"),
    "no output": (own(lambda output, state: (output.quantized, state)),
                  SIGNS + r"\(float32\[.*\], \{seen: int32\[\]\}\) of z float32.*: return \(QuantizeOutput, state\)"),
    "a plain tuple": (own(lambda output, state: (tuple(output), state)),
                      SIGNS + r".*: return \(QuantizeOutput, state\)"),
    "nothing": (own(lambda output, state: None), SIGNS + "None of z"),
    "no options": (own(apply=lambda variables, z: None),
                   r"<lambda> takes \(variables, z\), and is called apply\(variables, z, train=\.\.\., key=\.\.\."),
    "a mean loss": (output(losses=lambda losses: {"commitment": jnp.mean(losses["commitment"])}),
                    SIGNS + r".*commitment: float32\[\].*losses\['commitment'\] must have a number for each vector"),
    "one loss": (output(losses=lambda losses: losses["commitment"]), SIGNS + ".*losses must be a dict"),
    "floating-point indices": (output(indices=lambda indices: indices.astype(float)),
                               SIGNS + r".*indices=float32.*indices must be int32"),
    "indices of all vectors": (output(indices=jnp.ravel), SIGNS + ".*indices must be int32, one for each vector"),
    "a component less": (output(quantized=lambda q: q[..., 1:]), SIGNS + ".*quantized must hold .* in z's shape"),
    "quantized integers": (output(quantized=lambda q: q.astype(int)), SIGNS + ".*quantized must hold floating-point"),
    "another state": (own(lambda output, state: (output, {})),
                      SIGNS + r".*the state must keep the types that it had, \{seen: int32\[\]\}"),
    "a state of another dtype": (own(lambda output, state: (output, {"seen": state["seen"] * 0.5})),
                                 SIGNS + r".*seen: float32\[\].*the state must keep"),
}
WRAPPED = {
    "residual": lambda quantizer: residual(quantizer, 2),
    "shared": lambda quantizer: residual(quantizer, 2, shared=True),
    "grouped": lambda quantizer: grouped(quantizer, 2),
    "projected": lambda quantizer: projected(quantizer, 2),
}


def trace(quantizer, **options):
    """The types of what the combinator gives; nothing runs."""
    def run(key, z):
        return quantizer.apply(quantizer.init(key, z.shape[-1]), z, train=True, key=key, **options)

    return jax.eval_shape(run, KEY, Z)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_function_and_the_shapes(name):
    quantizer, message = MISTAKES[name]
    variables = Variables({}, {"seen": jnp.zeros((), jnp.int32)})
    for call in (partial(apply_quantizer, quantizer, variables, Z),
                 lambda: jax.eval_shape(lambda z: apply_quantizer(quantizer, variables, z, train=True, key=KEY), Z)):
        with pytest.raises(ValueError, match=f"the quantizer's {message}"):
            call()


@pytest.mark.parametrize("combinator", WRAPPED)
def test_combinators_check_what_they_call(combinator):
    assert trace(WRAPPED[combinator](own()))[0].quantized.shape == Z.shape
    for name in ("no state", "a mean loss"):
        quantizer, message = MISTAKES[name]
        with pytest.raises(ValueError, match=message):
            trace(WRAPPED[combinator](quantizer))
    no_mask = own(apply=lambda variables, z, *, train=False, key=None: own().apply(variables, z, train=train))
    trace(WRAPPED[combinator](no_mask))
    with pytest.raises(ValueError, match=r"takes .*, and is called apply\(variables, z, .*valid=\.\.\.\)"):
        trace(WRAPPED[combinator](no_mask), valid=jnp.ones(Z.shape[:-1], bool))


SMALL = {"channels": 4, "multipliers": (1,), "num_res_blocks": 0, "norm_groups": 2}
HALF = {**SMALL, "multipliers": (1, 1)}
VQ = {"name": "vq", "num_codes": 2}
QUANTIZED = {
    "vqvae": {"quantizer": VQ, "encoder": SMALL, "decoder": SMALL},
    "vqvae2": {"top_quantizer": VQ, "bottom_quantizer": VQ, "bottom_encoder": SMALL, "top_encoder": HALF,
               "top_decoder": HALF, "decoder": SMALL},
}


@pytest.mark.parametrize("name", QUANTIZED)
def test_models_check_what_they_call(name):
    model = build(name, latent_channels=4, example_channels=1, **QUANTIZED[name])
    mine = {field: MISTAKES["no state"][0] for field in QUANTIZED[name] if field.endswith("quantizer")}
    model = dataclasses.replace(model, **mine)
    with pytest.raises(ValueError, match="own.*signs returned QuantizeOutput.*the state is missing"):
        jax.eval_shape(lambda key, x: model.forward(model.init(key, (4, 4, 1)), x), KEY, jnp.zeros((2, 4, 4, 1)))
