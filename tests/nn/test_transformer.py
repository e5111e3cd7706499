import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nn.attention import Attention
from jaxgen.nn.transformer import Transformer, TransformerBlock

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
TOKENS = np.array([[3, 1, 4, 0, 5, 9], [2, 6, 8, 7, 1, 0]])
CODES = np.stack([TOKENS, TOKENS[:, ::-1]], axis=-1)
TIME = np.array([0.2, 0.9], np.float32)
CLASSES = np.array([1, 3])
TEXT = RNG.normal(size=(2, 3, 6)).astype(np.float32)
TEXT_MASK = np.array([[True, True, False], [True, False, False]])
INPUTS = {"time": TIME, "classes": CLASSES, "context": TEXT, "context_mask": TEXT_MASK}
tiny = functools.partial(Transformer, 10, features=16, depth=2, heads=2, max_length=8)


def made(module, *args, **kwargs):
    """(variables, compiled apply to NumPy arrays); no scale, bias or modulation is what an initialiser gives."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(functools.partial(module.init, KEY), *args, **kwargs)
    variables = jax.tree.map(lambda leaf: (0.3 * rng.normal(size=leaf.shape)).astype(leaf.dtype), shapes)
    apply = jax.jit(module.apply)
    return variables, lambda *args, **kwargs: jax.device_get(apply(*args, **kwargs))


@functools.cache
def network():
    """(module, variables, compiled apply) with every condition."""
    module = tiny(num_classes=3, context=True, num_outputs=9, depth=1)
    return module, *made(module, TOKENS, **INPUTS)


def layer_norm(x, scale=1.0, bias=0.0):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * scale + bias


@pytest.mark.parametrize("conditioned", [True, False])
def test_a_block_is_what_its_equations_say(conditioned):
    x = RNG.normal(size=(2, 5, 8)).astype(np.float32)
    condition = RNG.normal(size=(2, 4)).astype(np.float32) if conditioned else None
    module = TransformerBlock(2, mlp_ratio=3.0)
    variables, apply = made(module, x, condition, TEXT)
    p = variables["params"]

    compiled = jax.jit(Attention(2).apply)

    def attention(name, h, *context, **kwargs):
        return np.asarray(compiled({"params": p[name]}, h, *context, **kwargs))

    def dense(name, h):
        return h @ p[name]["kernel"] + p[name]["bias"]

    if conditioned:
        swish = condition / (1 + np.exp(-condition))
        b1, s1, g1, b2, s2, g2 = dense("modulation", swish).reshape(2, 6, 1, 8).transpose(1, 0, 2, 3)
        norm1, norm2 = (lambda x: layer_norm(x) * (1 + s1) + b1), (lambda x: layer_norm(x) * (1 + s2) + b2)
    else:
        g1 = g2 = 1
        norm1, norm2 = (functools.partial(layer_norm, **p[name]) for name in ("norm1", "norm2"))
    expected = x + g1 * attention("attention", norm1(x))
    expected = expected + attention("cross_attention", layer_norm(expected, **p["norm_context"]), TEXT, mask=TEXT_MASK)
    h = dense("mlp1", norm2(expected))
    gelu = h / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
    expected = expected + g2 * dense("mlp2", gelu)
    result, cache = apply(variables, x, condition, TEXT, context_mask=TEXT_MASK)
    assert cache is None
    chex.assert_trees_all_close(result, expected, atol=5e-5)


def test_a_modulated_block_starts_as_the_identity():
    x = RNG.normal(size=(2, 5, 8)).astype(np.float32)
    condition = RNG.normal(size=(2, 4)).astype(np.float32)
    # With rbg, whose draws compile faster than the default's.
    (y, _), _ = jax.jit(TransformerBlock(2).init_with_output)(jax.random.key(0, impl="rbg"), x, condition, TEXT)
    chex.assert_trees_all_equal(y, x)


def test_a_network_is_embeddings_then_blocks_at_their_places_then_a_modulated_output():
    module = tiny(positions="rope2d", grid_width=4, num_classes=3, depth=1)
    variables, apply = made(module, TOKENS, classes=CLASSES)
    p = variables["params"]
    condition = p["condition"]["class"]["table"]["embedding"][CLASSES]
    places = np.array([[0, 0], [0, 1], [0, 2], [0, 3], [1, 0], [1, 1]])
    block = functools.partial(jax.jit(TransformerBlock(2).apply), {"params": p["block0"]})
    x = np.asarray(block(p["tokens0"]["embedding"][TOKENS], condition, positions=places)[0])
    out = p["out"]
    modulation = condition / (1 + np.exp(-condition)) @ out["modulation"]["kernel"] + out["modulation"]["bias"]
    shift, scale = np.split(modulation[:, None], 2, axis=-1)
    expected = (layer_norm(x) * (1 + scale) + shift) @ out["dense"]["kernel"] + out["dense"]["bias"]
    chex.assert_trees_all_close(apply(variables, TOKENS, classes=CLASSES), expected, atol=2e-5)


@pytest.mark.parametrize(("levels", "causal"), [(2, True), (1, False)])
def test_logits_depend_on_the_tokens_before_them_only_where_causal(levels, causal):
    tokens = TOKENS[:1] if levels == 1 else CODES[:1]  # all different: a row of the embedding is a position
    module = tiny(causal=causal, levels=levels, positions="rope")
    variables, _ = made(module, tokens)

    def energies(tables):
        params = {**variables["params"], **tables}
        return jnp.sum(module.apply({"params": params}, tokens) ** 2, axis=tuple(range(2, 2 + levels)))

    tables = {name: variables["params"][name] for name in [f"tokens{i}" for i in range(levels)]}
    jacobian = jax.device_get(jax.jit(jax.jacrev(energies))(tables))
    for level in range(levels):
        rows = jacobian[f"tokens{level}"]["embedding"][0]  # [N, vocabulary, features]
        depends = np.any(rows[:, tokens[0, :, level] if levels > 1 else tokens[0]] != 0, axis=-1)
        expected = np.tri(6, k=-1, dtype=bool) if causal else np.ones((6, 6), bool)
        np.testing.assert_array_equal(depends, expected)


@pytest.mark.parametrize(("chunk", "arguments"), [
    (1, {"positions": "learned", "context": True, "num_classes": 3, "levels": 2}),
    (3, {"positions": "rope2d", "grid_width": 4, "qk_norm": True}),
])
def test_decoding_with_a_cache_gives_the_logits_of_the_whole_pass(chunk, arguments):
    tokens = CODES if "levels" in arguments else TOKENS
    inputs = {"classes": CLASSES, "context": TEXT, "context_mask": TEXT_MASK} if "context" in arguments else {}
    module = tiny(causal=True, **arguments)
    variables, apply = made(module, tokens, **inputs)

    @jax.jit
    def decode(variables, tokens, inputs):
        def advance(cache, index):
            # The token before index 0 is any token at all.
            part = jax.lax.dynamic_slice_in_dim(jnp.roll(tokens, 1, axis=1), index, chunk, axis=1)
            logits, cache = module.apply(variables, part, cache=cache, index=index, **inputs)
            return cache, logits

        _, logits = jax.lax.scan(advance, module.init_cache(2, length=7), jnp.arange(0, 6, chunk))
        return jnp.concatenate(list(logits), axis=1)

    logits = apply(variables, tokens, **inputs)
    assert logits.shape == (*tokens.shape, 10)
    chex.assert_trees_all_close(jax.device_get(decode(variables, tokens, inputs)), logits, atol=1e-4)


def test_the_cache_has_the_lengths_and_dtype_asked_for():
    cache = jax.eval_shape(lambda: tiny(dtype=jnp.bfloat16).init_cache(3))
    assert len(cache) == 2 and cache[0].key.shape == (3, 8, 2, 8) and cache[1].value.dtype == jnp.bfloat16
    assert jax.eval_shape(lambda: tiny().init_cache(3, length=5))[0].value.shape == (3, 5, 2, 8)


def test_rematerialised_blocks_give_the_same_loss_and_gradients():
    plain, remat = (tiny(num_classes=3, depth=1, remat=remat) for remat in (False, True))
    variables, _ = made(plain, TOKENS, classes=CLASSES)

    def loss(module, variables):
        return jnp.mean(module.apply(variables, TOKENS, classes=CLASSES) ** 2)

    results = jax.jit(lambda variables: [
        jax.value_and_grad(functools.partial(loss, module))(variables) for module in (plain, remat)])(variables)
    chex.assert_trees_all_close(*results, rtol=1e-4, atol=1e-6)
    assert "remat" in str(jax.make_jaxpr(functools.partial(loss, remat))(variables))


def test_logits_are_float32_in_bfloat16_too_and_agree_with_float32():
    module, variables, apply = network()
    half = module.clone(dtype=jnp.bfloat16)
    shapes = jax.eval_shape(functools.partial(half.init, KEY), TOKENS, **INPUTS)
    chex.assert_trees_all_equal_shapes_and_dtypes(variables, shapes)
    logits, reference = np.asarray(jax.jit(half.apply)(variables, TOKENS, **INPUTS)), apply(variables, TOKENS, **INPUTS)
    assert logits.shape == (2, 6, 9) and logits.dtype == jnp.float32
    assert np.abs(logits - reference).max() < 0.05 * np.abs(reference).max()
    assert np.any(logits != logits.astype(jnp.bfloat16).astype(jnp.float32))


def test_conditions_reach_the_logits_of_their_own_example_only():
    module, variables, apply = network()
    logits = apply(variables, TOKENS, **INPUTS)
    other = {"time": [0.2, 0.85], "classes": [1, 0], "context": TEXT + np.array([0, 1])[:, None, None],
             "context_mask": [[True, True, False], [True, True, False]]}
    for name, value in other.items():
        changed = apply(variables, TOKENS, **{**INPUTS, name: np.asarray(value, INPUTS[name].dtype)})
        chex.assert_trees_all_close(changed[0], logits[0], atol=1e-5)
        assert np.abs(changed[1] - logits[1]).max() > 1e-3, name
    hidden = apply(variables, TOKENS, **{**INPUTS, "context": np.where(TEXT_MASK[..., None], TEXT, 9.0)})
    chex.assert_trees_all_close(hidden, logits, atol=1e-5)
    unknown = apply(variables, np.where(TOKENS == 3, 10, TOKENS), **INPUTS)
    assert np.isnan(unknown[0]).all()
    chex.assert_trees_all_close(unknown[1], logits[1], atol=1e-5)

    def without_class(tokens, inputs):
        inputs = {name: value[None] for name, value in inputs.items() if name != "classes"}
        return module.apply(variables, tokens[None], **inputs)[0]

    no_class = apply(variables, TOKENS, **{**INPUTS, "classes": np.array([3, 3])})
    chex.assert_trees_all_close(jax.jit(jax.vmap(without_class))(TOKENS, INPUTS), no_class, atol=1e-4)


@pytest.mark.parametrize(("arguments", "inputs", "message"), [
    ({"positions": "ropes"}, {}, "Did you mean 'rope'"),
    ({"positions": "rope2d"}, {}, "needs grid_width"),
    ({"levels": 2}, {}, r"\[B, N, 2\] for levels=2, got \(2, 6\)"),
    ({}, {"tokens": CODES}, r"\[B, N\] for levels=1, got \(2, 6, 2\)"),
    ({"levels": 3}, {"tokens": CODES}, r"\[B, N, 3\] for levels=3, got \(2, 6, 2\)"),
    ({"max_length": 5}, {}, "6 tokens do not fit in max_length=5"),
    ({}, {"context": TEXT}, "context is given .* context=False: set context=True"),
    ({"context": True}, {}, "context is None .* context=True: give"),
    ({}, {"classes": CLASSES}, "classes are given but num_classes=0"),
    ({}, {"index": 0}, "cache and index belong together"),
    ({}, {"index": 0, "cache": ()}, "need causal=True"),
    ({"heads": 3}, {}, "heads=3 must divide"),
])
def test_bad_arguments_are_named(arguments, inputs, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(functools.partial(tiny(**arguments).init, KEY), **{"tokens": TOKENS, **inputs})
