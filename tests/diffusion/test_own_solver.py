"""What a solver of one's own does against its contract is said while tracing, in the project's own words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion as d
from tests.diffusion.oracle import gaussian

KEY = jax.random.key(0)
GRID = np.float32([20.0, 3.0, 0.5])
X = jnp.zeros((4, 8))
KEEP = jnp.ones((4, 8), bool)


def move(denoise, carry, sigma, sigma_next, noise):
    return carry._replace(x=d.euler().step(denoise, carry, sigma, sigma_next, noise).x)


def own(init=d.Carry, step=move, draws=0):
    return d.Solver(init, step, order=1, nfe=1, draws=draws)


def stepping(change, init=d.Carry):
    """The solver whose carry is changed after each step."""
    def step(*arguments):
        return change(move(*arguments))

    return own(init, step)


def drawing(stream, draws):
    def step(denoise, carry, sigma, sigma_next, noise):
        return carry._replace(x=carry.x + noise(stream))

    return own(step=step, draws=draws)


def counted(x):
    return d.Carry(x, {"count": jnp.zeros((), jnp.int32)})


def remembering(memory):
    return stepping(lambda carry: carry._replace(memory=memory), counted)


MISTAKES = {
    "init returns x": (own(init=lambda x: x), r"<lambda> returned float32\[4, 8\]: return a Carry"),
    "init changes x": (own(init=lambda x: d.Carry(x[:, 0])), r"returned Carry\(x=float32\[4\], memory=\(\)\): its x "
                       r"must be like the one that it got, float32\[4, 8\]"),
    "init takes two": (own(init=lambda x, sigma: d.Carry(x)), r"<lambda> takes \(x, sigma\), and is called init\(x\)"),
    "step takes four": (own(step=lambda denoise, carry, sigma, sigma_next: carry),
                        r"takes \(denoise, carry, sigma, sigma_next\), and is called step\(denoiser, carry, sigma, "),
    "step returns x": (stepping(lambda carry: carry.x), r"stepping\.<locals>\.step returned float32\[4, 8\]: return a"),
    "step returns a tuple": (stepping(tuple), r"step returned \(float32\[4, 8\], \(\)\): return a Carry"),
    "step returns nothing": (stepping(lambda carry: None), "step returned None: return a Carry"),
    "another structure": (remembering(()), r"step made Carry\(x=float32\[4, 8\], memory=\(\)\) of "
                          r"Carry\(x=float32\[4, 8\], memory=\{count: int32\[\]\}\): a carry must keep"),
    "another shape": (remembering({"count": jnp.zeros(3, jnp.int32)}), r"count: int32\[3\]\}\) of .*count: int32\[\]"),
    "another dtype": (remembering({"count": jnp.zeros(())}), r"count: float32\[\]\}\) of .*count: int32\[\]"),
    "x of another dtype": (stepping(lambda carry: carry._replace(x=carry.x.astype(jnp.bfloat16))),
                           r"made Carry\(x=bfloat16\[4, 8\]"),
    "a noise too many": (drawing(1, draws=1), r"step draws noise\(1\), but the solver has draws=1"),
    "noise without draws": (drawing(0, draws=0), r"draws noise\(0\), but the solver has draws=0"),
    "a noise before the first": (drawing(-1, draws=1), r"draws noise\(-1\)"),
}
CALLS = {
    "sample": lambda solver, x: d.sample(gaussian(), solver, GRID, x, KEY),
    "repaint": lambda solver, x: d.sample(gaussian(), d.repaint(solver, X, KEEP, resample=2), GRID, x, KEY),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_function(name, call):
    solver, message = MISTAKES[name]
    with pytest.raises(ValueError, match=f"the solver's .*{message}"):
        jax.eval_shape(lambda x: CALLS[call](solver, x), X)  # nothing runs


@pytest.mark.parametrize("solver", [
    own(), drawing(1, draws=2), drawing(np.int32(1), draws=2), drawing(jnp.int32(0), draws=1),
    stepping(lambda carry: d.Carry(carry.x, carry.memory + 0.5), lambda x: d.Carry(x, 0)),  # as `lax.scan` takes it
])
def test_what_the_loop_can_carry_passes(solver):
    assert jax.eval_shape(lambda x: CALLS["sample"](solver, x), X).shape == X.shape
