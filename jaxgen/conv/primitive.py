"""Convolution and its kernel gradient as two JAX primitives that lower differently per platform.

Both are bilinear and each is the other's transpose, so that two primitives close under forward and reverse
differentiation of any order: input gradients, forward mode and gradient penalties all run on the same code.
The platform is chosen when a computation is lowered: CPU takes `jaxgen.conv.cpu`, all others
`jax.lax.conv_general_dilated`. A trace holds one equation per convolution either way.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxgen.conv import cpu

LAYOUT = ("NHWC", "HWIO", "NHWC")


class Geometry(NamedTuple):
    """How a window moves: everything but the arrays. Pairs are (rows, columns)."""

    size: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]
    spread: tuple[int, int]
    dilation: tuple[int, int]

    @property
    def plain(self) -> bool:
        """Stride, spread and dilation are all one."""
        return self.strides == self.spread == self.dilation == (1, 1)

    def output(self) -> tuple[int, int]:
        """Height and width of the result."""
        sizes = []
        for n, k, s, (low, high), e, d in zip(*self):
            sizes.append(max(0, ((n - 1) * e + 1 + low + high - (k - 1) * d - 1) // s + 1 if n else 0))
        return tuple(sizes)

    def transpose(self) -> "Geometry":
        """The geometry of the convolution with the flipped kernel that takes output to input."""
        out, pads = self.output(), []
        for n, k, s, (low, _), e, d, m in zip(*self, out):
            before = (k - 1) * d - low
            pads.append((before, (n - 1) * e + (k - 1) * d - (m - 1) * s - before))
        return Geometry(out, self.kernel, self.spread, tuple(pads), self.strides, self.dilation)

    def gradient_pads(self) -> tuple[tuple[int, int], ...]:
        """The padding of the convolution of input and output's gradient that is the kernel's gradient."""
        return tuple((low, (k - 1) * d + (m - 1) * s - (n - 1) * e - low)
                     for n, k, s, (low, _), e, d, m in zip(*self, self.output()))


def flip(kernel: Array) -> Array:
    """The kernel of the transposed convolution: reversed taps, inputs and outputs exchanged."""
    return jnp.swapaxes(lax.rev(kernel, (0, 1)), 2, 3)


def native_conv(x: Array, kernel: Array, *, geometry: Geometry) -> Array:
    """`conv_p` by the compiler's own convolution."""
    return lax.conv_general_dilated(x, kernel, geometry.strides, geometry.pads, geometry.spread,
                                    geometry.dilation, LAYOUT)


def native_kernel_gradient(x: Array, dy: Array, *, geometry: Geometry) -> Array:
    """`kernel_gradient_p` by the compiler's own convolution."""
    return lax.conv_general_dilated(x, dy, geometry.dilation, geometry.gradient_pads(), geometry.spread,
                                    geometry.strides, ("CHWN", "IHWO", "HWNC"))


def ordered_kernel_gradient(x: Array, dy: Array, *, geometry: Geometry) -> Array:
    """`native_kernel_gradient` with the axes in the one order that XLA's fast convolutions on CPU take.

    XLA reorders them by itself only at the top of a program. In a loop or a branch (micro-batches, lazy penalties, a
    discriminator's start) it computes the other form number by number: 0.6 s where this takes 0.01 s.
    """
    dk = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3), geometry.dilation, geometry.gradient_pads(),
        geometry.spread, geometry.strides, LAYOUT)
    return dk.transpose(1, 2, 0, 3)


def _conv_array(x, kernel, *, geometry):
    return x.update(shape=(x.shape[0], *geometry.output(), kernel.shape[3]), weak_type=False)


def _kernel_array(x, dy, *, geometry):
    return x.update(shape=(*geometry.kernel, x.shape[3], dy.shape[3]), weak_type=False)


def _primitive(name, native, fast, array):
    """A primitive with its eager, abstract, batched and per-platform meanings."""
    primitive = Primitive(name)

    def bind(a, b, geometry):
        return primitive.bind(a, b, geometry=geometry)

    def batch(args, axes, *, geometry):
        (x, other), (x_axis, other_axis) = args, axes
        if primitive is not conv_p or other_axis is not None:
            return jax.vmap(partial(native, geometry=geometry), axes)(x, other), 0
        x = jnp.moveaxis(x, x_axis, 0)
        y = bind(x.reshape(-1, *x.shape[2:]), other, geometry)
        return y.reshape(*x.shape[:2], *y.shape[1:]), 0

    compiled = jax.jit(bind, static_argnames="geometry")

    def impl(a, b, *, geometry):
        with jax.disable_jit(False):  # else it would call itself
            return compiled(a, b, geometry=geometry)

    primitive.def_impl(impl)
    primitive.def_abstract_eval(array)
    batching.primitive_batchers[primitive] = batch
    mlir.register_lowering(primitive, mlir.lower_fun(native, multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(fast, multiple_results=False), platform="cpu")
    return primitive


conv_p = _primitive("conv", native_conv, partial(cpu.conv, native_conv), _conv_array)
kernel_gradient_p = _primitive("conv_kernel_gradient", native_kernel_gradient,
                               partial(cpu.kernel_gradient, ordered_kernel_gradient), _kernel_array)


def _backward(dy, kernel, *, geometry):
    return conv_p.bind(dy, flip(kernel), geometry=geometry.transpose())


ad.defbilinear(
    conv_p,
    lambda dy, x, kernel, *, geometry: _backward(dy, kernel, geometry=geometry),
    lambda dy, x, kernel, *, geometry: kernel_gradient_p.bind(x, dy, geometry=geometry),
)
ad.defbilinear(
    kernel_gradient_p,
    lambda dk, x, dy, *, geometry: _backward(dy, dk, geometry=geometry),
    lambda dk, x, dy, *, geometry: conv_p.bind(x, dk, geometry=geometry),
)
