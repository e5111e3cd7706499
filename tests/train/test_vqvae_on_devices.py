"""Eight devices give what one gives, for a VQ-VAE whose codebook follows moving averages and revives dead codes."""

import functools

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxgen import models, objectives
from jaxgen.train import compile_step, init_state, make_mesh, make_train_step, pmap_step, replicate, unreplicate

STEPS, SHAPE = 20, (8, 8, 1)
NETWORK = {"channels": 8, "multipliers": (1, 2), "num_res_blocks": 1, "middle_attention": False, "norm_groups": 4}
QUANTIZER = {"name": "vq", "num_codes": 16, "ema_decay": 0.9, "revive_below": 0.2}
OPTIMIZER = optax.adam(1e-3)


class Dense(nn.Module):
    """Two layers on each row, in place of convolutions that take long to compile."""

    width: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.width)(nn.tanh(nn.Dense(32)(x)))


class Setting:
    """One kind of network: its steps for different devices, its fresh states and its run on one device."""

    def __init__(self, kind):
        self.kind = kind
        self.variables = jax.jit(self.model(None).init, static_argnums=1)(jax.random.key(0), SHAPE)
        self.one_device = self.train(compile_step(self.step(), make_mesh(data=1)), self.fresh())

    def model(self, axis_name):
        if self.kind == "dense":
            quantizer = models.build_quantizer(**QUANTIZER, axis_name=axis_name)
            return models.VQVAE(encoder=Dense(4), decoder=Dense(1), quantizer=quantizer)
        return models.build(
            "vqvae", latent_channels=4, example_channels=1, encoder=NETWORK, decoder=NETWORK, quantizer=QUANTIZER,
            axis_name=axis_name,
        )

    def step(self, axis_name=None):
        model = self.model(axis_name)
        loss_fn = functools.partial(
            objectives.vqvae_loss, forward=model.forward, num_codes=model.num_codes, axis_name=axis_name
        )
        return make_train_step(loss_fn, OPTIMIZER, run_key=jax.random.key(5), ema_decay=0.99, axis_name=axis_name)

    def fresh(self):
        return init_state(*self.variables, OPTIMIZER, ema=True)

    def train(self, step, state):
        history = []
        for i in range(STEPS):
            image = np.random.default_rng(i).uniform(-1, 1, (16, *SHAPE)).astype(np.float32)
            state, metrics = step(state, {"image": image})
            history.append({name: np.asarray(value) for name, value in metrics.items()})
        return state, {name: np.array([m[name] for m in history]) for name in history[0]}

    def assert_agrees(self, state, metrics):
        """|a - b| <= 1e-5 |b| in the Euclidean norm of each array, and of each metric over the steps."""
        a, b = jax.tree_util.tree_leaves_with_path((state, metrics)), jax.tree.leaves(self.one_device)
        for (path, x), y in zip(a, b, strict=True):
            x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
            assert np.linalg.norm(x - y) <= 1e-5 * np.linalg.norm(y) + 1e-9, jax.tree_util.keystr(path)


@pytest.fixture(scope="module", params=["dense", pytest.param("convolutions", marks=pytest.mark.slow)])
def setting(request):
    return Setting(request.param)


def test_the_run_is_a_real_one(setting):
    state, metrics = setting.one_device
    assert metrics["loss"][-1] < metrics["loss"][0]
    before, after = (np.asarray(s.model_state["codebook"]) for s in (setting.fresh(), state))
    assert np.all(np.any(before != after, axis=-1))  # every code was chosen or revived


def test_jit_gives_what_one_device_gives(setting):
    step = compile_step(setting.step(), make_mesh(fsdp=2), min_size=64)
    setting.assert_agrees(*setting.train(step, setting.fresh()))


def test_pmap_gives_what_one_device_gives(setting):
    state, metrics = setting.train(pmap_step(setting.step("devices")), replicate(setting.fresh()))
    setting.assert_agrees(unreplicate(state), metrics)
