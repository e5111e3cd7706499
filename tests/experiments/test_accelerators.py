"""Training steps as accelerators get them, which can be seen without one: by what is lowered for them."""

import warnings

import jax
import numpy as np

from experiments.common import training
from jaxgen import train
from tests.experiments.built import build, shapes


def lowered(platform, batch=32, example_shape=(28, 28, 1), classes=10):
    """(state, text of diffusion_mnist's training step for the platform), the state donated; nothing is computed."""
    config, recipe = build("diffusion_mnist", None, example_shape, classes)
    optimizer, schedule = training.make_optimizer(config.optimizer, config.num_steps)
    step = train.make_train_step(recipe.loss_fn, optimizer, run_key=jax.random.key(0), ema_decay=config.ema_decay,
                                 learning_rate=schedule)
    state = jax.eval_shape(lambda v: train.init_state(*v, optimizer, ema=bool(config.ema_decay)), shapes(recipe))
    examples = {"image": jax.ShapeDtypeStruct((batch, *example_shape), np.float32),
                "label": jax.ShapeDtypeStruct((batch,), np.int32)}
    program = jax.jit(step, donate_argnums=0).trace(state, examples).lower(lowering_platforms=(platform,))
    return state, program.as_text()


def convolutions(state):
    """Of a step: forward, the kernel's gradient, and the input's but of the first one's."""
    return 3 * sum(leaf.ndim == 4 for leaf in jax.tree.leaves(state.params)) - 1


def test_a_step_holds_the_librarys_convolutions_and_donates_all_of_the_state():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a donated buffer that nothing can use is one
        state, text = lowered("tpu")
    assert text.count("stablehlo.convolution") == convolutions(state)
    assert text.count("tf.aliasing_output") == len(jax.tree.leaves(state))
    assert "stablehlo.while" not in text  # the loops of the forms for CPU


def test_on_a_cpu_large_convolutions_take_other_forms():
    state, text = lowered("cpu")
    assert text.count("stablehlo.convolution") < convolutions(state) and "stablehlo.while" in text
