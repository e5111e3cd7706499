import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nn.attention import Attention, KVCache, rotate

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 5, 16)).astype(np.float32)
CONTEXT = RNG.normal(size=(2, 3, 6)).astype(np.float32)
GRID = np.array([[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]])


def turned(vector, coordinates):
    """Rotation of one head's features, as multiplication by exp(i angle): [D], [axes] -> [D]."""
    parts = []
    for part, position in zip(np.split(vector, len(coordinates)), coordinates):
        half = len(part) // 2
        angle = position * 10000.0 ** (-np.arange(half) / half)
        z = (part[:half] + 1j * part[half:]) * np.exp(1j * angle)
        parts += [z.real, z.imag]
    return np.concatenate(parts)


def loop(params, heads, x, context=None, mask=None, causal=False, positions=None, qk_norm=False):
    """Attention query by query in float64."""
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    source = x if context is None else context
    query, key, value = (
        inputs @ p[name]["kernel"] + p[name]["bias"]
        for name, inputs in (("query", x), ("key", source), ("value", source))
    )
    if positions is not None:
        positions = np.reshape(positions, (x.shape[1], -1))
    size = x.shape[-1] // heads
    mixed = np.zeros_like(query)
    for b in range(x.shape[0]):
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)

            def prepared(vectors, name, i, b=b, part=part):
                vector = vectors[b, i, part]
                if qk_norm:
                    vector = vector / np.sqrt((vector**2).mean() + 1e-6) * p[name]["scale"]
                return vector if positions is None else turned(vector, positions[i])

            for i in range(x.shape[1]):
                keys = [j for j in range(source.shape[1])
                        if (mask is None or mask[b, j]) and not (causal and j > i)]
                scores = np.array([
                    prepared(query, "query_norm", i) @ prepared(key, "key_norm", j) / np.sqrt(size) for j in keys
                ])
                weights = np.exp(scores) / np.exp(scores).sum()
                mixed[b, i, part] = sum(w * value[b, j, part] for w, j in zip(weights, keys))
    return mixed @ p["out"]["kernel"] + p["out"]["bias"]


def made(module, *args, **kwargs):
    """Variables of a module, scales and biases too, far from what an initialiser gives."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(module.init, KEY, *args, **kwargs)
    return jax.tree.map(lambda leaf: (0.3 * rng.normal(size=leaf.shape)).astype(leaf.dtype), shapes)


@pytest.mark.parametrize(("causal", "qk_norm", "inputs"), [
    (False, False, {}),
    (True, True, {"positions": np.arange(5) + 3}),
    (True, False, {"mask": np.array([[True, True, False, True, True], [True, False, True, False, True]])}),
    (False, True, {"positions": GRID, "mask": np.array([[False, True, True, True, False], [True] * 5])}),
    (False, False, {"context": CONTEXT, "mask": np.array([[True, False, True], [False, True, False]])}),
    (False, True, {"context": CONTEXT}),
])
def test_attention_equals_a_loop_over_queries(causal, qk_norm, inputs):
    module = Attention(2, causal=causal, qk_norm=qk_norm)
    variables = made(module, X, **inputs)
    result = jax.jit(module.apply)(variables, X, **inputs)
    expected = loop(variables["params"], 2, X, causal=causal, qk_norm=qk_norm, **inputs)
    chex.assert_trees_all_close(result, expected.astype(np.float32), atol=2e-5)


def test_rotated_products_depend_on_the_difference_of_positions_only():
    query, key = RNG.normal(size=(2, 1, 5, 2, 8)).astype(np.float32)

    @jax.jit
    def run(query_positions, key_positions):
        return jnp.einsum("bqhd,bkhd->bhqk", rotate(query, query_positions), rotate(key, key_positions)), jnp.stack([
            rotate(query, axis) for axis in query_positions.T])

    def products(query_positions, key_positions):
        return np.asarray(run(query_positions, key_positions)[0])

    at_origin = products(GRID, GRID)
    down, right = np.array([[1, 0], [0, 1]])
    moved = GRID + 3 * down + 40 * right
    chex.assert_trees_all_close(products(moved, moved), at_origin, atol=1e-4)
    for step in (down, right):
        assert np.abs(products(GRID + step, GRID) - at_origin).max() > 0.1
    for along in np.asarray(run(GRID, GRID)[1]):
        np.testing.assert_allclose(np.linalg.norm(along, axis=-1), np.linalg.norm(query, axis=-1), rtol=1e-5)


@pytest.mark.parametrize("chunk", [1, 2])
def test_decoding_with_a_cache_equals_the_causal_pass_and_leaves_the_rest_of_the_cache_alone(chunk):
    module = Attention(2, causal=True, qk_norm=True)
    x, positions = X[:, :4], np.arange(4)
    variables = made(module, x, positions=positions)
    unwritten = np.full((2, 6, 2, 8), 50, np.float32)  # what no query may look at

    @jax.jit
    def decode(variables, x):
        def advance(cache, inputs):
            index, part = inputs
            y, cache = module.apply(variables, part, positions=index + jnp.arange(chunk), cache=cache, index=index)
            return cache, y

        parts = jnp.stack(jnp.split(x, 4 // chunk, axis=1))
        cache, y = jax.lax.scan(advance, KVCache(unwritten, unwritten), (jnp.arange(0, 4, chunk), parts))
        return jnp.concatenate(list(y), axis=1), cache, module.apply(variables, x, positions=positions)

    y, cache, whole = jax.device_get(decode(variables, x))
    chex.assert_trees_all_close(y, whole, atol=1e-5)
    chex.assert_trees_all_equal(cache.key[:, 4:], unwritten[:, 4:])
    chex.assert_trees_all_equal(cache.value[:, 4:], unwritten[:, 4:])


def test_a_query_that_may_attend_to_nothing_takes_nothing_and_its_gradient_is_finite():
    module = Attention(2)
    variables = made(module, X, CONTEXT)
    mask = np.array([[False] * 3, [True] * 3])

    def total(context):
        return jnp.sum(module.apply(variables, X, context, mask=mask) ** 2)

    y, gradient = jax.device_get(jax.jit(lambda context: (
        module.apply(variables, X, context, mask=mask), jax.grad(total)(context)))(CONTEXT))
    chex.assert_trees_all_close(y[0], np.broadcast_to(variables["params"]["out"]["bias"], y[0].shape), atol=1e-6)
    assert np.isfinite(gradient).all() and np.all(gradient[0] == 0) and np.any(gradient[1] != 0)


def test_softmax_is_float32_when_computing_in_bfloat16():
    x = np.float32([[[4.0, 0.0], [4.0, 0.25]]])
    eye = {"kernel": np.eye(2, dtype=np.float32), "bias": np.zeros(2, np.float32)}
    variables = {"params": {name: eye for name in ("query", "key", "value", "out")}}
    y = np.asarray(jax.jit(Attention(1, dtype=jnp.bfloat16).apply)(variables, x))
    assert y.dtype == jnp.bfloat16
    # Scores 16 and 16.0625 over sqrt(2) are one number in bfloat16, and the weights would be equal.
    weight = 1 / (1 + np.exp(-0.0625 / np.sqrt(2)))
    np.testing.assert_allclose(float(y[0, 1, 1]), 0.25 * weight, atol=6e-4)
    assert abs(0.25 * weight - 0.25 * 0.5) > 2e-3


def test_bfloat16_agrees_with_float32_and_examples_do_not_meet():
    module = Attention(2, causal=True, qk_norm=True)
    half = Attention(2, causal=True, qk_norm=True, dtype=jnp.bfloat16)
    variables = made(module, X)
    chex.assert_trees_all_equal_shapes_and_dtypes(variables, jax.eval_shape(half.init, KEY, X))

    @jax.jit
    def run(variables, x):
        alone = jax.vmap(lambda x: module.apply(variables, x[None])[0])(x)
        return module.apply(variables, x), half.apply(variables, x), alone

    y, narrow, alone = jax.device_get(run(variables, X))
    assert narrow.dtype == jnp.bfloat16
    assert np.abs(np.float32(narrow) - y).max() < 0.05 * np.abs(y).max()
    chex.assert_trees_all_close(alone, y, atol=1e-5)


def test_bad_arguments_are_named():
    def init(heads=2, context=None, causal=False, **kwargs):
        return jax.eval_shape(Attention(heads, causal=causal).init, KEY, X, context, **kwargs)

    cache = KVCache(*np.zeros((2, 2, 6, 2, 8), np.float32))
    with pytest.raises(ValueError, match="heads=3 must divide the features of x, got 16"):
        init(3)
    with pytest.raises(ValueError, match=r"shape \(2, 5\); got \(2, 4\)"):
        init(mask=np.ones((2, 4), bool))
    with pytest.raises(ValueError, match="context excludes causal"):
        init(context=CONTEXT, causal=True)
    for kwargs in ({"cache": cache}, {"index": 0, "causal": True}, {"cache": cache, "index": 0},
                   {"cache": cache, "index": 0, "causal": True, "mask": np.ones((2, 5), bool)}):
        with pytest.raises(ValueError, match="cache and index belong together"):
            init(**kwargs)
    with pytest.raises(ValueError, match=r"one position per token, \[5\]; got shape \(4,\)"):
        init(positions=np.arange(4))
    with pytest.raises(ValueError, match="6 must divide the 8 features of a head to rotate along 3 axes"):
        init(positions=np.zeros((5, 3), int))
