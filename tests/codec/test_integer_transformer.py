"""Networks in whole numbers: near the float ones, and bit for bit the same in every batch, on devices and machines."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxgen.codec import float_transformer
from jaxgen.codec.integer_transformer import empty_cache, forward, quantize
from jaxgen.codec.tables import GRID
from jaxgen.nn import Transformer
from tests.helpers import tables_digest
from tests.helpers.transformers import (
    CODES,
    KINDS,
    LENGTH,
    SIZES,
    TIMES,
    calibration,
    float_network,
    integer_network,
    tokens_of,
)

ROOT = Path(__file__).parents[2]
_forward = jax.jit(forward, static_argnums=0)


def float_logits(kind, tokens, step=0):
    network, params, conditions = float_network(kind)
    return float_transformer.forward(params, tokens.reshape(len(tokens), LENGTH, -1), conditions[step],
                                     heads=network.heads, causal=network.causal)


def integer_logits(kind, tokens, step=0):
    """[B, N, levels, K]"""
    network = integer_network(kind)
    return _forward(network.sizes, network.on_device, tokens.reshape(*tokens.shape[:2], -1), step=np.int32(step))[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_in_numpy_is_the_one_in_flax(kind):
    network, params, _ = float_network(kind)
    tokens = tokens_of(network, 3)
    apply = jax.jit(network.apply)
    for step, time in enumerate(TIMES if "time" in kind else (None,)):
        options = {} if time is None else {"time": jnp.full(3, time)}
        expected = apply({"params": params}, tokens, **options)
        found = float_logits(kind, tokens, step).reshape(expected.shape)
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_in_whole_numbers_are_near_the_float_ones(kind):
    """Weights have 8 bits and keys and values too, each off by 1 / 254 of the largest at most: their logits, of many
    such terms, by little of their std, and tables cost little more."""
    network, _, conditions = float_network(kind)
    tokens = tokens_of(network, 8, seed=1)  # not those of the calibration
    for step in range(len(conditions)):
        exact = float_logits(kind, tokens, step)
        found = np.asarray(integer_logits(kind, tokens, step)).reshape(exact.shape) / GRID
        off = found - exact
        assert exact.std() > 0.3 and off.std() < 0.04 * exact.std() and np.abs(off).max() < 0.2 * exact.std()


@pytest.mark.parametrize("kind", ["causal", "causal with classes"])
def test_token_by_token_gives_the_logits_of_all_at_once(kind):
    network, tokens = integer_network(kind), tokens_of(float_network(kind)[0], 8)
    whole = np.asarray(integer_logits(kind, tokens))
    cache = empty_cache(network, 8, LENGTH)
    for index in range(LENGTH):
        before = tokens[:, [max(index - 1, 0)], None]
        logits, cache = _forward(network.sizes, network.on_device, before, cache=cache, index=np.int32(index))
        np.testing.assert_array_equal(logits[:, 0], whole[:, index])
    assert len(np.unique(whole)) > 100  # and they are no constants


def test_batches_and_devices_give_the_same_bits():
    kind = "masked with time and classes"
    network, tokens = integer_network(kind), tokens_of(float_network(kind)[0], 8)
    expected = np.asarray(integer_logits(kind, tokens, 1))
    for i in (0, 5):
        np.testing.assert_array_equal(integer_logits(kind, tokens[i:i + 1], 1), expected[i:i + 1])
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    arrays = jax.device_put(network.arrays, NamedSharding(mesh, P()))
    split = jax.device_put(tokens[..., None], NamedSharding(mesh, P("data")))
    found = _forward(network.sizes, arrays, split, step=np.int32(1))[0]
    assert len(found.sharding.device_set) == 4
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(expected, integer_logits(kind, tokens, 0))  # the step matters


def test_a_causal_network_does_not_see_what_comes_after():
    kind = "causal"
    tokens = tokens_of(float_network(kind)[0], 8)
    other = tokens.copy()
    other[:, 5:] = (other[:, 5:] + 1) % 11
    first, second = (np.asarray(integer_logits(kind, own)) for own in (tokens, other))
    np.testing.assert_array_equal(first[:, :6], second[:, :6])
    assert not np.array_equal(first[:, 6:], second[:, 6:])


OTHER_OPTIONS = ("--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1 --xla_cpu_use_fusion_emitters=true "
                 "--xla_backend_optimization_level=3")


def test_another_process_with_other_options_wider_types_and_batches_makes_the_same_tables(tmp_path):
    """One thread, the newer emitters, optimized, 64-bit types, in batches of 1; here those of tests/conftest.py."""
    path = tmp_path / "networks.npz"
    networks = {"causal": integer_network("causal"), "masked": integer_network("masked with time and classes")}
    tables_digest.save(path, networks, np.random.default_rng(3).integers(0, CODES, (4, LENGTH)))
    found = subprocess.run(
        [sys.executable, "-m", "tests.helpers.tables_digest", str(path), "1"], cwd=ROOT, text=True,
        capture_output=True, env={**os.environ, "XLA_FLAGS": OTHER_OPTIONS, "JAX_ENABLE_X64": "1"})
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == ["True", "1", tables_digest.digest_of(path, 4)]


@pytest.mark.parametrize("options, words", [
    ({"positions": "rope"}, "learned positions"), ({"qk_norm": True}, "no norm of queries"),
    ({"features": 256, "heads": 1, "depth": 1, "mlp_ratio": 1}, "heads of 256 features are too wide"),
    ({"features": 16, "depth": 1, "mlp_ratio": 80}, "layers of 1280 inputs"),
])
def test_networks_that_have_no_form_in_whole_numbers_are_refused(options, words):
    network = Transformer(**{**SIZES, **options}, num_tokens=CODES, causal=True)
    tokens = jnp.zeros((1, LENGTH), jnp.int32)
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), tokens))["params"]
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes)
    with pytest.raises(ValueError, match=words):
        quantize(params, [calibration(network)], heads=network.heads, causal=True)


def test_a_network_with_conditions_that_was_not_trained_has_a_form_in_whole_numbers():
    """Its gates are 0, and so are its blocks."""
    network, params, _ = float_network("masked with time and classes")
    params = {**params, "block0": {**params["block0"], "modulation": {
        name: np.zeros_like(leaf) for name, leaf in params["block0"]["modulation"].items()}}}
    condition = float_transformer.condition_of(params, 1.0, network.time_scale)
    own = quantize(params, [calibration(network)], [condition], heads=network.heads, causal=False)
    exact = float_transformer.forward(params, calibration(network), condition, heads=network.heads, causal=False)
    found = np.asarray(_forward(own.sizes, own.on_device, calibration(network))[0])[:, :, 0] / GRID
    assert np.abs(found - exact).max() < 0.2 * exact.std()
