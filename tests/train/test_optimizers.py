import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.train import make_optimizer, make_schedule
from jaxgen.train.optimizers import decayed


def closed_form(name, t, lr=0.3, w=5, n=20, final=0.01):
    if t < w:
        return lr * (t + 1) / w
    p = min((t - w) / (n - w), 1)
    cosine = final + (lr - final) * (1 + np.cos(np.pi * p)) / 2
    return {"constant": lr, "linear": lr + (final - lr) * p, "cosine": cosine}[name]


@pytest.mark.parametrize("name", ["constant", "cosine", "linear"])
def test_schedules_follow_their_closed_form(name):
    schedule = jax.jit(jax.vmap(make_schedule(name, learning_rate=0.3, warmup_steps=5, num_steps=20, final=0.01)))
    np.testing.assert_allclose(schedule(jnp.arange(25)), [closed_form(name, t) for t in range(25)], rtol=1e-5)


def test_a_constant_schedule_needs_nothing_else():
    assert float(make_schedule(learning_rate=0.5)(jnp.int32(1000))) == 0.5


def test_adamw_agrees_with_a_numpy_loop():
    lr, b1, b2, eps, decay = 0.1, 0.8, 0.95, 1e-6, 0.02
    rng = np.random.default_rng(0)
    params = {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=(2,))}
    optimizer = make_optimizer("adamw", learning_rate=lr, b1=b1, b2=b2, eps=eps, weight_decay=decay, clip_norm=1.0)
    theta = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    opt_state = optimizer.init(theta)
    m = {k: np.zeros_like(v) for k, v in params.items()}
    v = {k: np.zeros_like(x) for k, x in params.items()}
    for t in range(1, 6):
        grads = {k: rng.normal(size=x.shape) for k, x in params.items()}
        norm = np.sqrt(sum(np.sum(g**2) for g in grads.values()))
        updates, opt_state = optimizer.update(jax.tree.map(jnp.float32, grads), opt_state, theta)
        theta = optax.apply_updates(theta, updates)
        for k, g in grads.items():
            g = g / max(norm, 1.0)
            m[k] = b1 * m[k] + (1 - b1) * g
            v[k] = b2 * v[k] + (1 - b2) * g**2
            update = (m[k] / (1 - b1**t)) / (np.sqrt(v[k] / (1 - b2**t)) + eps)
            params[k] = params[k] - lr * (update + (decay if k == "kernel" else 0) * params[k])
    for k in params:
        np.testing.assert_allclose(theta[k], params[k], rtol=1e-4, atol=1e-5)


def test_sgd_with_momentum_agrees_with_a_numpy_loop():
    optimizer = make_optimizer("sgd", learning_rate=0.1, momentum=0.5)
    theta = jnp.ones(3)
    opt_state = optimizer.init(theta)
    expected, velocity = np.ones(3), np.zeros(3)
    for t in range(4):
        gradient = np.full(3, t + 1.0)
        updates, opt_state = optimizer.update(jnp.float32(gradient), opt_state, theta)
        theta = optax.apply_updates(theta, updates)
        velocity = 0.5 * velocity + gradient
        expected = expected - 0.1 * velocity
    np.testing.assert_allclose(theta, expected, rtol=1e-6)


def test_only_matrices_and_kernels_decay():
    params = {
        "conv": {"kernel": np.ones((3, 3, 2, 4)), "bias": np.ones(4)}, "norm": {"scale": np.ones(4)},
        "gain": np.ones(4), "quantizer": {"codebook": np.ones((8, 4))}, "position": {"embedding": np.ones((8, 4))},
    }
    assert decayed(params) == {
        "conv": {"kernel": True, "bias": False}, "norm": {"scale": False}, "gain": False,
        "quantizer": {"codebook": False}, "position": {"embedding": False},
    }


@pytest.mark.parametrize("call, message", [
    (lambda: make_optimizer("adma", learning_rate=1.0), "unknown optimizer 'adma'.*Did you mean 'adam'"),
    (lambda: make_schedule("cosin", learning_rate=1.0), "unknown schedule 'cosin'.*Did you mean 'cosine'"),
    (lambda: make_schedule("cosine", learning_rate=1.0), "'cosine' needs num_steps above warmup_steps=0, got None"),
    (lambda: make_schedule("linear", learning_rate=1.0, warmup_steps=9, num_steps=9), "above warmup_steps=9, got 9"),
    (lambda: make_schedule(learning_rate=1.0, warmup_steps=-1), "warmup_steps must not be negative, got -1"),
    (lambda: make_optimizer("adam", learning_rate=1.0, weight_decay=0.1), "'adam' takes no weight_decay.*'adamw'"),
    (lambda: make_optimizer(learning_rate=1.0, clip_norm=0.0), "clip_norm=0.0 must be positive"),
])
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
