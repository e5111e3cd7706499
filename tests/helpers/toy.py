"""A two-layer autoencoder with a moving average of its code, small enough to train in a blink."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.train import init_state, make_train_step

WIDTH, CODE, BATCH = 12, 8, 32
RUN_KEY = jax.random.key(7)


def make_loss(axis_name=None, noise=0.0):
    def loss_fn(params, model_state, batch, key):
        x = x_in = batch["image"]
        if noise:
            keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(batch["id"])
            x_in = x + noise * jax.vmap(lambda k: jax.random.uniform(k, x.shape[1:]))(keys)
        h = jnp.tanh(x_in @ params["encoder"]["kernel"])
        y = h @ params["decoder"]["kernel"] + params["decoder"]["bias"]
        mse = jnp.mean((y - x) ** 2)
        pull = jnp.mean((h - model_state["mean"]) ** 2)
        mean = jnp.mean(h, 0)
        if axis_name is not None:
            mean = jax.lax.pmean(mean, axis_name)
        state = {"mean": 0.9 * model_state["mean"] + 0.1 * jax.lax.stop_gradient(mean)}
        return mse + 0.1 * pull, ({"mse": mse}, state)

    return loss_fn


def make_params():
    rng = np.random.default_rng(0)
    return {
        "encoder": {"kernel": jnp.asarray(rng.normal(size=(WIDTH, CODE)) * 0.3, jnp.float32)},
        "decoder": {
            "kernel": jnp.asarray(rng.normal(size=(CODE, WIDTH)) * 0.3, jnp.float32),
            "bias": jnp.zeros(WIDTH, jnp.float32),
        },
    }


def make_state(optimizer, ema=True):
    return init_state(make_params(), {"mean": jnp.zeros(CODE)}, optimizer, ema=ema)


def make_step(optimizer=None, *, axis_name=None, noise=0.0, ema_decay=0.9, **kwargs):
    optimizer = optax.adam(1e-2) if optimizer is None else optimizer
    return make_train_step(
        make_loss(axis_name, noise), optimizer, run_key=RUN_KEY, ema_decay=ema_decay, axis_name=axis_name, **kwargs
    )


class Batches:
    """Batch i is drawn from the seed i; `get_state` is i."""

    def __init__(self, *, poison=None, size=BATCH, length=None):
        self.position, self.poison, self.size, self.length = 0, poison, size, length

    def __iter__(self):
        return self

    def __next__(self):
        if self.position == self.length:
            raise StopIteration
        image = np.random.default_rng(self.position).normal(size=(self.size, WIDTH)).astype(np.float32)
        ids = np.arange(self.size, dtype=np.int32) + self.position * self.size
        self.position += 1
        if self.position == self.poison:
            image[3] = np.nan
        return {"image": image, "id": ids}

    def get_state(self):
        return {"position": self.position}

    def set_state(self, state):
        self.position = state["position"]


def assert_same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def assert_close(a, b, rtol=1e-5):
    """Relative to the size of each array's largest entry."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        np.testing.assert_allclose(x, y, rtol=0, atol=rtol * max(np.abs(y).max(), 1e-6))


def state_at(step, optimizer):
    """A state whose parameters tell its step."""
    state = make_state(optimizer)
    return state._replace(step=jnp.int32(step), params=jax.tree.map(lambda x: x + step, state.params))
