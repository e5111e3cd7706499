"""The two objectives of a VQGAN (Esser, Rombach & Ommer, "Taming transformers for high-resolution image synthesis",
2021): the autoencoder's, which is VQ-VAE's with a perceptual and an adversarial term, and the discriminator's.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgen.losses.adversarial import GanLoss, hinge, per_example
from jaxgen.losses.balance import adaptive_weight, ramp
from jaxgen.losses.batch import entry
from jaxgen.losses.conditions import global_positions
from jaxgen.losses.penalties import LecamState, gradient_penalty, lazy, lecam, r1
from jaxgen.losses.reconstruction import l1
from jaxgen.losses.vqvae import quantizer_loss
from jaxgen.quantize import Variables

PyTree = Any
HINGE = hinge()
Distance = Callable[[Array, Array], Float[Array, "B"]]
Augment = Callable[[Array, Array], Array]
"""(key, images) -> images, such as `diffaugment`."""


def vqgan_generator_loss(
    params: PyTree,
    state: PyTree,
    batch: Mapping[str, Array],
    key: Array,
    *,
    discriminator_params: PyTree,
    step: Int[Array, ""],
    forward: Callable,
    discriminate: Callable,
    gan: GanLoss = HINGE,
    reconstruction: Distance = l1,
    perceptual: Distance | None = None,
    perceptual_weight: float = 1.0,
    gan_weight: float = 1.0,
    last_layer: Sequence[str] | None = ("decoder", "conv_out", "kernel"),
    start: int = 0,
    ramp_steps: int = 0,
    augment: Augment | None = None,
    num_codes: int | Mapping[str, int] | None = None,
    train: bool = True,
    axis_name: str | None = None,
) -> tuple[Float[Array, ""], tuple[dict[str, Array], PyTree, Float[Array, "B H W C"]]]:
    """nll + w gan_weight ramp(step) G + the quantizers' own losses.

        nll = mean(reconstruction(x, x_r) + perceptual_weight perceptual(x, x_r)),   G = mean(generator(D(x_r)))
        w = |dnll/dK| / (|dG/dK| + 1e-4), K the kernel of the decoder's last layer  (`adaptive_weight`); 1 without K

    One pass through the generator and one back: both terms reach it through x_r, so that their gradients in the
    pictures are added before they go back, and those of K cost the last layer alone.

    Args:
        params: the autoencoder's parameters, differentiated by the caller.
        state: the quantizers' state.
        batch: {"image": [B, H, W, C] in [-1, 1]}.
        key: the step's key, for the quantizers and the augmentation.
        discriminator_params: constants here.
        step: updates done so far; traced.
        forward: `(Variables, x, *, train, key) -> (x_r, QuantizeOutput or a dict of them, state)`.
        discriminate: `(discriminator_params, images) -> logits [B, ...]`.
        gan: the pair whose generator's half is taken.
        reconstruction: `(x, x_r) -> [B]`.
        perceptual: `(x, x_r) -> [B]`, for example `partial(lpips, lpips_params)`; None for none.
        perceptual_weight: see above.
        gan_weight: see above.
        last_layer: where K is in `params`; None for a fixed weight.
        start: the first step with the adversarial term.
        ramp_steps: over how many steps it rises to its full weight.
        augment: of what the discriminator sees.
        num_codes: where given, the metrics include the codes' perplexity in the batch.
        train: False leaves the quantizers' state as it is.
        axis_name: the mapped axis of devices, over which w and perplexity are one.

    Returns:
        (loss [], (metrics, state, x_r)): x_r is what the discriminator's objective takes as `fake`.

    Raises:
        ValueError: the batch has no "image", or `last_layer` is no path in `params`.
    """
    x = entry(batch, "image")
    quantizer_key, augment_key = jax.random.split(key)

    def generate(kernel):
        variables = Variables(params if last_layer is None else _with(params, last_layer, kernel), state)
        x_r, outputs, new_state = forward(variables, x, train=train, key=quantizer_key)
        return x_r, (outputs, new_state)

    def nll(fake):
        distance = reconstruction(x, fake)
        terms = {"reconstruction": jnp.mean(distance)}
        if perceptual is not None:
            distance = distance + perceptual_weight * (values := perceptual(x, fake))
            terms["perceptual"] = jnp.mean(values)
        return jnp.mean(distance), terms

    def adversarial(fake):
        seen = fake if augment is None else augment(augment_key, fake)
        return jnp.mean(gan.generator(discriminate(discriminator_params, seen)))

    kernel = None if last_layer is None else _get(params, last_layer)
    x_r, pull, (outputs, state) = jax.vjp(generate, kernel, has_aux=True)
    constant = jax.lax.stop_gradient(x_r)
    (nll_value, terms), nll_grad = jax.value_and_grad(nll, has_aux=True)(constant)
    # Before its start the discriminator is not run; zeros made of the pictures lie on the devices that these lie on.
    gan_value, gan_grad = jax.lax.cond(
        step >= start, lambda: jax.value_and_grad(adversarial)(constant), lambda: (jnp.sum(0 * constant), 0 * constant))
    weight = jnp.float32(1.0)
    if last_layer is not None:
        weight = adaptive_weight(pull(nll_grad), pull(gan_grad), axis_name=axis_name)
    weight = weight * gan_weight * ramp(step, start, ramp_steps)
    loss = _with_gradient(nll_value + weight * gan_value, x_r, nll_grad + weight * gan_grad)
    penalty, metrics = quantizer_loss(outputs, num_codes, axis_name)
    metrics = {**terms, "adversarial": gan_value, "gan_weight": weight, **metrics}
    return loss + penalty, (metrics, state, constant)


def vqgan_discriminator_loss(
    params: PyTree,
    state: LecamState,
    batch: Mapping[str, Array],
    fake: Float[Array, "B H W C"],
    key: Array,
    *,
    step: Int[Array, ""],
    discriminate: Callable,
    gan: GanLoss = HINGE,
    augment: Augment | None = None,
    r1_weight: float = 0.0,
    r1_every: int = 16,
    gradient_penalty_weight: float = 0.0,
    lecam_weight: float = 0.0,
    lecam_decay: float = 0.999,
    axis_name: str | None = None,
) -> tuple[Float[Array, ""], tuple[dict[str, Array], LecamState]]:
    """mean(discriminator(D(x), D(x_r))) + r1_weight / 2 mean(|dD/dx|²) + gradient_penalty_weight mean((|dD/du| - 1)²)
    + lecam_weight mean(LeCam), where u lies between real and fake pictures (`gradient_penalty`).

    Args:
        params: the discriminator's parameters, differentiated by the caller.
        state: LeCam's averages of logits (`lecam_init`).
        batch: {"image": [B, H, W, C] in [-1, 1]}.
        fake: what the generator made of it; a constant.
        key: for the augmentation, of which real and fake pictures take draws of their own, and the gradient penalty.
        step: updates done so far, for lazy R1; traced.
        discriminate: `(params, images) -> logits [B, ...]`.
        gan: the pair whose discriminator's half is taken.
        augment: of both.
        r1_weight: gamma of R1, at the real pictures as they are seen; 0 leaves it out.
        r1_every: only every such update takes it, r1_every times (`lazy`); its metric is 0 at the others.
        gradient_penalty_weight: 10 in the paper of Wasserstein's loss with it; 0 leaves it out.
        lecam_weight: 0 leaves it out.
        lecam_decay: of the averages.
        axis_name: the mapped axis of devices, over which LeCam's averages are one.

    Returns:
        (loss [], (metrics, state)).

    Raises:
        ValueError: the batch has no "image", or r1_every is below 1.
    """
    real = entry(batch, "image")
    if augment is not None:
        real_key, fake_key = jax.random.split(key)
        real, fake = augment(real_key, real), augment(fake_key, fake)
    real_logits, fake_logits = (discriminate(params, images) for images in (real, fake))
    loss = jnp.mean(gan.discriminator(real_logits, fake_logits))
    metrics = {
        "discriminator": loss,
        "real_logits": jnp.mean(per_example(real_logits)),
        "fake_logits": jnp.mean(per_example(fake_logits)),
    }
    if r1_weight:
        metrics["r1"] = jnp.mean(lazy(step + 1, r1_every, lambda: r1(lambda x: discriminate(params, x), real)))
        loss += r1_weight / 2 * metrics["r1"]
    if gradient_penalty_weight:
        positions, _ = global_positions(real.shape[0], axis_name)
        metrics["gradient_penalty"] = jnp.mean(gradient_penalty(
            jax.random.fold_in(key, 1), lambda x: discriminate(params, x), real, fake, sample_ids=positions))
        loss += gradient_penalty_weight * metrics["gradient_penalty"]
    if lecam_weight:
        values, state = lecam(state, real_logits, fake_logits, decay=lecam_decay, axis_name=axis_name)
        metrics["lecam"] = jnp.mean(values)
        loss += lecam_weight * metrics["lecam"]
    return loss, (metrics, state)


def _with_gradient(value: Array, x: Array, gradient: Array) -> Array:
    """`value`, whose gradient in x is `gradient`."""
    surrogate = jnp.sum(x * jax.lax.stop_gradient(gradient))
    return jax.lax.stop_gradient(value - surrogate) + surrogate


def _get(tree: Mapping, path: Sequence[str]) -> Array:
    for depth, name in enumerate(path):
        if not isinstance(tree, Mapping) or name not in tree:
            has = sorted(tree) if isinstance(tree, Mapping) else "an array"
            raise ValueError(f"last_layer={tuple(path)} is no path in params: below {tuple(path[:depth])} is {has}")
        tree = tree[name]
    return tree


def _with(tree: Mapping, path: Sequence[str], leaf: Array) -> dict:
    name, *rest = path
    return {**tree, name: _with(tree[name], rest, leaf) if rest else leaf}
